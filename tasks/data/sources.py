"""A source's files, fetched; the store keeps a copy of each for when its publisher is away."""

from __future__ import annotations

import fnmatch
import glob
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import PartialCredentialsError
from pydantic import BaseModel, ConfigDict

from tasks.base.errors import UnavailableError, UserError
from tasks.base.files import sha256
from tasks.base.settings import airflow_connection, settings
from tasks.clients import connections, store
from tasks.clients.connections import Lookup
from tasks.data import query
from tasks.data.download import download
from tasks.pipeline.schema import Source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

TOYS = ("diabetes", "iris", "wine", "breast_cancer")
"""The tables that scikit-learn ships."""
S3_KINDS = frozenset({"aws", "s3"})
"""Airflow's types of a connection to an object store."""


class File(BaseModel):
    """One fetched file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    size: int


class Fetched(BaseModel):
    """A source with its files, in order, and where each now lies on this machine."""

    model_config = ConfigDict(frozen=True)

    source: Source
    files: tuple[File, ...]
    paths: tuple[Path, ...]


class _Record(BaseModel):
    """What a source's address last held, in `sources/by-uri/`."""

    uri: str
    files: tuple[File, ...]
    fetched_at: datetime


def fetch(source: Source, folder: Path, lookup: Lookup = airflow_connection) -> Fetched:
    """Bring a source's files into the empty `folder`.

    With a declared digest and a copy of it in the store nothing is fetched. When the publisher does
    not answer, the last copy takes its place.

    Raises:
        UserError: no such file, an empty one, a wrong digest, an address that cannot be read.
        UnavailableError: the publisher does not answer and there is no copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source.sha256 and store.exists(_copy_uri(source.sha256)):
        return _from_store(source, (File(uri=source.uri, sha256=source.sha256, size=0),), folder)
    try:
        fetched = from_publisher(source, folder, lookup)
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


def from_publisher(source: Source, folder: Path, lookup: Lookup) -> Fetched:
    """Bring a source's files as they are now into the empty `folder`, and keep no copy.

    Raises:
        As `fetch`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mapped = settings().source_map.get(source.uri)
    if mapped and source.query is None:
        found = _local(source, mapped, folder)
    else:
        scheme = source.uri.partition("://")[0]
        if scheme not in _SCHEMES:
            raise UserError(
                f"The 'uri' of a source must begin with {', '.join(f'{s}://' for s in _SCHEMES)}. "
                f"Got {source.uri!r} instead."
            )
        found = _SCHEMES[scheme](source, folder, lookup)
    files, paths = [], []
    for uri, path in found:
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
            f"{source.uri} is not the file that the pipeline names by its sha256.",
            why=f"Wanted {source.sha256}, got {', '.join(file.sha256 for file in files)}.",
            fix="If the new file is right, put its digest into the pipeline file.",
        )


def _toy(source: Source, folder: Path, _: Lookup) -> Iterator[tuple[str, Path]]:
    """A table of scikit-learn's as a CSV file, whose numbers read back to the last bit."""
    from sklearn import datasets  # a second that other sources need not pay

    name = source.uri.removeprefix("sklearn://").strip("/")
    if name not in TOYS:
        raise UserError(
            f"The table of a sklearn:// source must be one of {', '.join(TOYS)}. "
            f"Got {name!r} instead."
        )
    options: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    table = getattr(datasets, f"load_{name}")(as_frame=True, **options).frame
    path = folder / f"{name}.csv"
    table.to_csv(path, index=False, lineterminator="\n")
    yield source.uri, path


def _file(source: Source, folder: Path, _: Lookup) -> Iterator[tuple[str, Path]]:
    return _local(source, source.uri.removeprefix("file://"), folder)


def _local(source: Source, name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of this machine, copied: one that changes meanwhile must not be half old, half new."""
    pattern = str(settings().pipelines / name)  # an absolute name stays itself
    names = sorted(glob.glob(pattern)) if _is_glob(name) else [pattern]  # noqa: PTH207
    for number, found in enumerate(names):
        path = _place(folder, number, found)
        try:
            shutil.copyfile(found, path)
        except OSError as err:
            raise UserError(
                f"{source.uri} cannot be read.",
                why=f"{found}: {err.strerror}.",
                fix="Correct the source's uri in the pipeline file; it is relative to that file.",
            ) from err
        yield (f"file://{found}" if _is_glob(name) else source.uri), path


def _http(source: Source, folder: Path, _: Lookup) -> Iterator[tuple[str, Path]]:
    path = _place(folder, 0, name_of(source.uri))
    download(source.uri, path)
    yield source.uri, path


def _s3(source: Source, folder: Path, lookup: Lookup) -> Iterator[tuple[str, Path]]:
    client = _s3_client(source.connection, lookup) if source.connection else None
    try:
        uris = _matching(source.uri, client) if _is_glob(source.uri) else [source.uri]
        for number, uri in enumerate(uris):
            path = _place(folder, number, uri)
            store.download(uri, path, client)
            yield uri, path
    except (store.MissingObjectError, ValueError) as err:
        raise UserError(
            f"{source.uri} cannot be read.",
            why=str(err),
            fix="Correct the source's uri in the pipeline file.",
        ) from err
    except store.RefusedError as err:
        if not source.connection:
            raise
        raise UserError(
            f"{source.uri} cannot be read with the connection {source.connection!r}.",
            why=err.why,
            fix="Correct the connection: login and password are the key, extra has endpoint_url.",
        ) from err


def _s3_client(name: str, lookup: Lookup) -> S3Client:
    """The client of an Airflow connection of type aws."""
    connection = connections.find(name, S3_KINDS, lookup)
    try:
        return store.make_client(
            endpoint=connection.option("endpoint_url"),
            key=connection.login,
            secret=connection.password,
            region=connection.option("region_name"),
            token=connection.option("aws_session_token"),
        )
    except (ValueError, PartialCredentialsError) as err:
        raise UserError(
            f"The connection {name!r} cannot be used for s3://.",
            why=str(err),
            fix="Correct it: endpoint_url in extra is a whole address, e.g. http://minio:9000; "
            "login and password go together.",
        ) from err


def _database(source: Source, folder: Path, lookup: Lookup) -> Iterator[tuple[str, Path]]:
    path = folder / "query.csv"
    connection = connections.find(str(source.connection), query.KINDS, lookup)
    query.copy(source, connection, path)
    yield source.uri, path


_SCHEMES: dict[str, Callable[[Source, Path, Lookup], Iterator[tuple[str, Path]]]] = {
    "sklearn": _toy,
    "file": _file,
    "https": _http,
    "http": _http,
    "s3": _s3,
    "postgresql": _database,
}


def name_of(uri: str) -> str:
    """What names the file in an address; only over HTTP do `?` and `#` end it."""
    scheme, _, rest = uri.partition("://")
    return urlsplit(uri).path if scheme in ("https", "http") else rest


def _is_glob(name: str) -> bool:
    return re.search(r"[*?\[]", name) is not None


def _matching(pattern: str, client: S3Client | None) -> list[str]:
    """Objects that match; `*` stays within one level, as it does for files."""
    levels = pattern.split("/")
    prefix = pattern[: re.search(r"[*?\[]", pattern).start()]  # type: ignore[union-attr]
    return [
        uri
        for uri in store.keys(prefix, client)
        if len(parts := uri.split("/")) == len(levels)
        and all(map(fnmatch.fnmatchcase, parts, levels))
    ]


def _place(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:05d}-{PurePosixPath(name).name}"


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
        path = _place(folder, number, name_of(file.uri))
        store.download(_copy_uri(file.sha256), path)
        if sha256(path) != file.sha256:
            raise UnavailableError(
                f"The store's copy of {file.uri} is damaged.",
                fix=f"Delete {_copy_uri(file.sha256)} and run again.",
            )
        paths.append(path)
        sized.append(file.model_copy(update={"size": path.stat().st_size}))
    return Fetched(source=source, files=tuple(sized), paths=tuple(paths))
