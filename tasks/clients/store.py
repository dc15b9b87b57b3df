"""The object store, addressed by `s3://bucket/key` URIs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr

from tasks.base.errors import MlopsError, UnavailableError, UserError
from tasks.base.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class RefusedError(UnavailableError):
    """The access key is unknown or has no permission."""


class MissingObjectError(MlopsError, FileNotFoundError):
    """The object does not exist."""


@lru_cache(maxsize=1)
def client() -> S3Client:
    """The S3 client of this process, for the store that the settings name."""
    configured = settings()
    try:
        return make_client(
            endpoint=configured.s3_endpoint,
            key=configured.aws_access_key_id,
            secret=configured.aws_secret_access_key,
            region=configured.aws_region,
        )
    except ValueError as err:
        raise UserError(
            f"The object store cannot be {configured.s3_endpoint} in {configured.aws_region}.",
            why=f"{err}.",
            fix="Set MLFLOW_S3_ENDPOINT_URL to a whole address, e.g. http://minio:9000, and "
            "AWS_DEFAULT_REGION to a name such as us-east-1.",
        ) from err


def make_client(
    *,
    endpoint: str | None,
    key: str | None,
    secret: SecretStr | None,
    region: str | None,
    token: str | None = None,
) -> S3Client:
    """An S3 client; without a key, botocore looks in its usual places."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        aws_session_token=token,
        region_name=region,
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 8, "mode": "standard"},
            s3={"addressing_style": "path"},
        ),
    )


def data_uri(key: str) -> str:
    """URI of `key` in the bucket of our data."""
    return f"s3://{settings().data_bucket}/{key}"


def put_bytes(uri: str, data: bytes) -> None:
    """Write a whole object; readers see the old one or the new one."""
    bucket, key = _split(uri)
    with _translated(uri):
        client().put_object(Bucket=bucket, Key=key, Body=data)


def get_bytes(uri: str) -> bytes:
    """Read a whole object."""
    bucket, key = _split(uri)
    with _translated(uri):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()


def exists(uri: str) -> bool:
    """Whether the object exists."""
    bucket, key = _split(uri)
    try:
        with _translated(uri):
            client().head_object(Bucket=bucket, Key=key)
    except MissingObjectError:
        return False
    return True


def upload(path: Path, uri: str) -> None:
    """Write a file, in parts if it is large."""
    bucket, key = _split(uri)
    with _translated(uri):
        client().upload_file(str(path), bucket, key)


def download(uri: str, path: Path, other: S3Client | None = None) -> None:
    """Read an object into a file, from our store or the `other` one."""
    bucket, key = _split(uri)
    with _translated(uri):
        (other or client()).download_file(bucket, key, str(path))


def keys(uri: str, other: S3Client | None = None) -> Iterator[str]:
    """URIs of the objects that start with `uri`, in order, of our store or the `other` one."""
    bucket, prefix = _split(uri, prefix=True)
    pages = (other or client()).get_paginator("list_objects_v2")
    with _translated(uri):
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield f"s3://{bucket}/{entry['Key']}"


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _split(uri: str, *, prefix: bool = False) -> tuple[str, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")  # not urlsplit: a key can contain # and ?
    if scheme != "s3" or not bucket or not (key or prefix):
        raise UserError(f"The URI of an object must be s3://bucket/key. Got {uri!r} instead.")
    return bucket, key


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """Translate the client's errors into ours."""
    try:
        yield
    except ClientError as err:
        if err.response.get("Error", {}).get("Code", "") in ("404", "NoSuchKey", "NoSuchBucket"):
            raise MissingObjectError(f"There is no object {uri}.") from err
        forbidden = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403
        kind = RefusedError if forbidden else UnavailableError
        raise kind(f"The object store refused {uri}.", why=str(err)) from err
    except BotoCoreError as err:
        raise UnavailableError(f"The object store did not answer for {uri}.", why=str(err)) from err
