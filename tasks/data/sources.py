"""Fetches a source's files; the store keeps a copy for when the publisher does not answer."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.base.errors import UnavailableError, UserError
from tasks.base.files import sha256
from tasks.base.settings import airflow_connection
from tasks.clients import store
from tasks.clients.connections import Lookup
from tasks.data.schemes import copy_files, file_name, local_path
from tasks.pipeline.schema import Source

log = logging.getLogger(__name__)


class File(BaseModel):
    """One fetched file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    size: int


class Fetched(BaseModel):
    """A source with its files, in order, and the local copy of each."""

    model_config = ConfigDict(frozen=True)

    source: Source
    files: tuple[File, ...]
    paths: tuple[Path, ...]


class _Record(BaseModel):
    """What a source's address last returned, kept in `sources/by-uri/`."""

    uri: str
    files: tuple[File, ...]
    fetched_at: datetime


def fetch(source: Source, folder: Path, lookup: Lookup = airflow_connection) -> Fetched:
    """Copy a source's files into the empty `folder`.

    Nothing is fetched if the pipeline file declares a digest of which the store has a copy. If the
    publisher does not answer, the last copy is used.

    Raises:
        UserError: A file is missing, empty or not the declared one, or the address is wrong.
        UnavailableError: The publisher does not answer and there is no copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source.sha256 and store.exists(_copy_uri(source.sha256)):
        return _from_store(source, (File(uri=source.uri, sha256=source.sha256, size=0),), folder)
    try:
        fetched = fetch_from_publisher(source, folder, lookup)
    except UnavailableError as err:
        record = _record(source)
        if record is None or source.sha256 not in (None, *(file.sha256 for file in record.files)):
            raise
        log.warning(
            "%s Using the copy of %s instead.",
            str(err).replace("\n", " "),
            record.fetched_at.isoformat(timespec="seconds"),
        )
        return _from_store(source, record.files, folder)
    _keep(fetched)
    return fetched


def fetch_from_publisher(source: Source, folder: Path, lookup: Lookup) -> Fetched:
    """Copy a source's files as they are today into the empty `folder`, without keeping a copy.

    Raises:
        UserError: See `fetch`.
        UnavailableError: The publisher does not answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, paths = [], []
    for uri, path in copy_files(source, folder, lookup):
        files.append(File(uri=uri, sha256=sha256(path), size=path.stat().st_size))
        paths.append(path)
        log.info("%s: %d bytes, sha256 %s", uri, files[-1].size, files[-1].sha256)
    _check(source, files)
    return Fetched(source=source, files=tuple(files), paths=tuple(paths))


def _check(source: Source, files: list[File]) -> None:
    if not files:
        raise UserError(
            f"{source.uri} matches no file.", fix="Correct the source's uri in the pipeline file."
        )
    for file in files:
        if not file.size:
            raise UserError(f"{file.uri} is empty.", fix="Ask its publisher, or leave it out.")
    if source.sha256 and [file.sha256 for file in files] != [source.sha256]:
        raise UserError(
            f"{source.uri} is not the file whose sha256 the pipeline declares.",
            why=f"Expected {source.sha256}, got {', '.join(file.sha256 for file in files)}.",
            fix="If the new file is right, put its sha256 into the pipeline file.",
        )


def _copy_uri(sha256: str) -> str:
    return store.data_uri(f"sources/{sha256}")


def _record_uri(source: Source) -> str:
    name = "\n".join(filter(None, (source.uri, source.connection, source.query)))
    return store.data_uri(f"sources/by-uri/{store.digest(name.encode())}.json")


def _record(source: Source) -> _Record | None:
    with suppress(store.MissingObjectError):
        return _Record.model_validate_json(store.get_bytes(_record_uri(source)))
    return None


def _keep(fetched: Fetched) -> None:
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        if not store.exists(_copy_uri(file.sha256)):
            store.upload(path, _copy_uri(file.sha256))
    record = _Record(uri=fetched.source.uri, files=fetched.files, fetched_at=datetime.now(tz=UTC))
    store.put_bytes(_record_uri(fetched.source), record.model_dump_json(indent=2).encode())


def _from_store(source: Source, files: tuple[File, ...], folder: Path) -> Fetched:
    paths, sized = [], []
    for number, file in enumerate(files):
        path = local_path(folder, number, file_name(file.uri))
        store.download(_copy_uri(file.sha256), path)
        if sha256(path) != file.sha256:
            raise UnavailableError(
                f"The store's copy of {file.uri} is damaged.",
                fix=f"Delete {_copy_uri(file.sha256)} and run again.",
            )
        paths.append(path)
        sized.append(file.model_copy(update={"size": path.stat().st_size}))
    return Fetched(source=source, files=tuple(sized), paths=tuple(paths))
