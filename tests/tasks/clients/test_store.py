from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.base.errors import UserError
from tasks.cli.stack import cat
from tasks.clients import store
from tests.conftest import forget


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """No client is left of other settings, nor of these."""
    forget()
    yield
    forget()


def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "minio:9000")
    with pytest.raises(UserError, match="minio:9000 in us-east-1") as err:
        store.exists("s3://data/x")
    assert "http://minio:9000" in err.value.fix


def test_a_uri_that_names_no_object_is_refused() -> None:
    with pytest.raises(UserError, match=r"s3://bucket/key. Got '/reports/rows\.csv'"):
        store.get_bytes("/reports/rows.csv")
    for uri in ("s3://data", "s3://data/"):
        with pytest.raises(UserError, match=f"s3://bucket/key. Got '{uri}'"):
            cat(uri)
