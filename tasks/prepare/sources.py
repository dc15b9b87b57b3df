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
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from tasks import store
from tasks.errors import UnavailableError, UserError
from tasks.pipeline.schema import Source
from tasks.prepare.download import download
from tasks.prepare.snapshot import file_digest
from tasks.settings import settings

log = logging.getLogger(__name__)

TOYS = ("diabetes", "iris", "wine", "breast_cancer")
"""The tables that scikit-learn ships."""


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


def fetch(source: Source, folder: Path) -> Fetched:
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
        fetched = _from_publisher(source, folder)
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


def _from_publisher(source: Source, folder: Path) -> Fetched:
    mapped = settings().source_map.get(source.uri)
    if mapped:
        found = _local(source, mapped, folder)
    else:
        scheme = urlsplit(source.uri).scheme
        if scheme not in _SCHEMES:
            raise UserError(
                f"The 'uri' of a source must begin with {', '.join(f'{s}://' for s in _SCHEMES)}. "
                f"Got {source.uri!r} instead."
            )
        found = _SCHEMES[scheme](source, folder)
    files, paths = [], []
    for uri, path in found:
        files.append(File(uri=uri, sha256=file_digest(path), size=path.stat().st_size))
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


def _toy(source: Source, folder: Path) -> Iterator[tuple[str, Path]]:
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


def _file(source: Source, folder: Path) -> Iterator[tuple[str, Path]]:
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


def _http(source: Source, folder: Path) -> Iterator[tuple[str, Path]]:
    path = _place(folder, 0, urlsplit(source.uri).path)
    download(source.uri, path)
    yield source.uri, path


def _s3(source: Source, folder: Path) -> Iterator[tuple[str, Path]]:
    for number, uri in enumerate(_matching(source.uri) if _is_glob(source.uri) else [source.uri]):
        path = _place(folder, number, uri)
        try:
            store.download(uri, path)
        except (store.MissingObjectError, ValueError) as err:
            raise UserError(
                f"{uri} cannot be read.",
                why=str(err),
                fix="Correct the source's uri in the pipeline file.",
            ) from err
        yield uri, path


_SCHEMES: dict[str, Callable[[Source, Path], Iterator[tuple[str, Path]]]] = {
    "sklearn": _toy,
    "file": _file,
    "https": _http,
    "http": _http,
    "s3": _s3,
}


def _is_glob(name: str) -> bool:
    return re.search(r"[*?\[]", name) is not None


def _matching(pattern: str) -> list[str]:
    """Objects that match; `*` stays within one level, as it does for files."""
    levels = pattern.split("/")
    prefix = pattern[: re.search(r"[*?\[]", pattern).start()]  # type: ignore[union-attr]
    return [
        uri
        for uri in store.keys(prefix)
        if len(parts := uri.split("/")) == len(levels)
        and all(map(fnmatch.fnmatchcase, parts, levels))
    ]


def _place(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:05d}-{PurePosixPath(name).name}"


def _copy_uri(sha256: str) -> str:
    return store.data_uri(f"sources/{sha256}")


def _record_uri(source: Source) -> str:
    return store.data_uri(f"sources/by-uri/{store.digest(source.uri.encode())}.json")


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
        path = _place(folder, number, urlsplit(file.uri).path)
        store.download(_copy_uri(file.sha256), path)
        if file_digest(path) != file.sha256:
            raise UnavailableError(
                f"The store's copy of {file.uri} is damaged.",
                fix=f"Delete {_copy_uri(file.sha256)} and run again.",
            )
        paths.append(path)
        sized.append(file.model_copy(update={"size": path.stat().st_size}))
    return Fetched(source=source, files=tuple(sized), paths=tuple(paths))
