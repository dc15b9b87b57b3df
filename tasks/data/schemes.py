"""How the files behind a source's address are read, by the scheme of the address."""

from __future__ import annotations

import fnmatch
import glob
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import PartialCredentialsError

from tasks.base.errors import UserError
from tasks.base.settings import settings
from tasks.clients import connections, store
from tasks.clients.connections import Lookup
from tasks.data import query
from tasks.data.download import download
from tasks.pipeline.schema import Source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TOYS = ("diabetes", "iris", "wine", "breast_cancer")
"""The tables that scikit-learn ships."""
S3_KINDS = frozenset({"aws", "s3"})
"""Airflow's types of a connection to an object store."""

Files = Iterator[tuple[str, Path]]
"""Each file's own URI, and where it was copied to."""


def copy_files(source: Source, folder: Path, lookup: Lookup) -> Files:
    """Copy the files of a source into `folder`, in order.

    Raises:
        UserError: The address is wrong, or its owner refuses it.
        UnavailableError: The publisher does not answer.
    """
    local = settings().source_map.get(source.uri)
    if local and source.query is None:
        return _copy_local(source, local, folder)
    scheme = source.uri.partition("://")[0]
    if scheme not in _SCHEMES:
        raise UserError(
            f"The 'uri' of a source must begin with {', '.join(f'{s}://' for s in _SCHEMES)}. "
            f"Got {source.uri!r} instead."
        )
    return _SCHEMES[scheme](source, folder, lookup)


def _toy(source: Source, folder: Path, _: Lookup) -> Files:
    """A table of scikit-learn as a CSV file whose numbers can be read back exactly."""
    from sklearn import datasets  # takes a second, which other sources do not need

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


def _file(source: Source, folder: Path, _: Lookup) -> Files:
    return _copy_local(source, source.uri.removeprefix("file://"), folder)


def _copy_local(source: Source, name: str, folder: Path) -> Files:
    """Files of this machine, copied so that nobody can change them while they are read."""
    pattern = str(settings().pipelines / name)  # an absolute name stays as it is
    names = sorted(glob.glob(pattern)) if _is_glob(name) else [pattern]  # noqa: PTH207
    for number, file in enumerate(names):
        path = local_path(folder, number, file)
        try:
            shutil.copyfile(file, path)
        except OSError as err:
            raise UserError(
                f"{source.uri} cannot be read.",
                why=f"{file}: {err.strerror}.",
                fix="Correct the source's uri in the pipeline file; it is relative to that file.",
            ) from err
        yield (f"file://{file}" if _is_glob(name) else source.uri), path


def _http(source: Source, folder: Path, _: Lookup) -> Files:
    path = local_path(folder, 0, file_name(source.uri))
    download(source.uri, path)
    yield source.uri, path


def _s3(source: Source, folder: Path, lookup: Lookup) -> Files:
    client = _s3_client(source.connection, lookup) if source.connection else None
    try:
        uris = _matching(source.uri, client) if _is_glob(source.uri) else [source.uri]
        for number, uri in enumerate(uris):
            path = local_path(folder, number, uri)
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
            fix="Correct it: endpoint_url in extra is a full address, e.g. http://minio:9000; "
            "login and password belong together.",
        ) from err


def _database(source: Source, folder: Path, lookup: Lookup) -> Files:
    path = folder / "query.csv"
    connection = connections.find(str(source.connection), query.KINDS, lookup)
    query.copy(source, connection, path)
    yield source.uri, path


_SCHEMES: dict[str, Callable[[Source, Path, Lookup], Files]] = {
    "sklearn": _toy,
    "file": _file,
    "https": _http,
    "http": _http,
    "s3": _s3,
    "postgresql": _database,
}


def file_name(uri: str) -> str:
    """The part of an address that names the file; `?` and `#` end it only over HTTP."""
    scheme, _, rest = uri.partition("://")
    return urlsplit(uri).path if scheme in ("https", "http") else rest


def _is_glob(name: str) -> bool:
    return re.search(r"[*?\[]", name) is not None


def _matching(pattern: str, client: S3Client | None) -> list[str]:
    """Objects that match; `*` stays within one level, as for files."""
    levels = pattern.split("/")
    prefix = pattern[: re.search(r"[*?\[]", pattern).start()]  # type: ignore[union-attr]
    return [
        uri
        for uri in store.keys(prefix, client)
        if len(parts := uri.split("/")) == len(levels)
        and all(map(fnmatch.fnmatchcase, parts, levels))
    ]


def local_path(folder: Path, number: int, name: str) -> Path:
    """Where the copy of a source's file goes: numbered, with the ending of its name."""
    return folder / f"{number:05d}-{PurePosixPath(name).name}"
