from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import Settings, settings
from tasks.clients import store
from tasks.data.reading import read
from tasks.data.sources import Fetched, fetch
from tasks.pipeline.schema import Data, Source
from tests.tasks.publisher import Answer, Publisher

pytestmark = pytest.mark.usefixtures("store")


def fetched(folder: Path, uri: str, **source: Any) -> Fetched:
    return fetch(Source(uri=uri, **source), folder / uuid4().hex)


def bodies(local: Fetched) -> list[bytes]:
    return [path.read_bytes() for path in local.paths]


def fresh() -> bytes:
    """A file that is not in the store yet."""
    return f"a,y\n1,{uuid4().hex}\n".encode()


def test_scikit_learns_table_is_copied_exactly(tmp_path: Path) -> None:
    local = fetched(tmp_path, "sklearn://diabetes")
    data = Data.model_validate(
        {
            "sources": [local.source],
            "target": "target",
            "task": "regression",
            "columns": {"target": {}},
        }
    )
    expected = load_diabetes(as_frame=True, scaled=False).frame
    table = read(local, data)
    assert list(table.columns) == list(expected.columns)
    assert np.array_equal(table.to_numpy(), expected.to_numpy())
    with pytest.raises(UserError, match="must be one of diabetes, iris"):
        fetched(tmp_path, "sklearn://boston")


def test_files_beside_the_pipeline_by_name_and_by_glob(tmp_path: Path, pipelines: Path) -> None:
    (pipelines / "data").mkdir()
    for day, text in (("02", "b"), ("01", "a"), ("10", "c")):
        (pipelines / "data" / f"day-{day}.csv").write_text(text)
    assert bodies(fetched(tmp_path, "file://data/day-02.csv")) == [b"b"]
    assert bodies(fetched(tmp_path, f"file://{pipelines}/data/day-02.csv")) == [b"b"]
    local = fetched(tmp_path, "file://data/day-*.csv")
    assert bodies(local) == [b"a", b"b", b"c"]
    assert local.files[0].sha256 == hashlib.sha256(b"a").hexdigest()
    with pytest.raises(UserError, match="No such file"):
        fetched(tmp_path, "file://data/day-03.csv")
    with pytest.raises(UserError, match="matches no file"):
        fetched(tmp_path, "file://data/night-*.csv")


def test_objects_by_name_and_by_glob(tmp_path: Path) -> None:
    root = store.data_uri(f"test/{uuid4().hex}")
    for key in ("2024/b.csv", "2024/a.csv", "2025/a.csv", "2024/deep/a.csv", "2024/a.txt"):
        store.put_bytes(f"{root}/{key}", key.encode())
    assert bodies(fetched(tmp_path, f"{root}/2025/a.csv")) == [b"2025/a.csv"]
    local = fetched(tmp_path, f"{root}/202*/?.csv")
    assert bodies(local) == [b"2024/a.csv", b"2024/b.csv", b"2025/a.csv"]
    with pytest.raises(UserError, match="There is no object"):
        fetched(tmp_path, f"{root}/none.csv")


def test_a_local_name_may_contain_characters_special_in_urls(
    tmp_path: Path, pipelines: Path
) -> None:
    for name in ("wine-red 1.csv", "wine-white#2.csv", "wine-blue 3.csv"):
        (pipelines / name).write_text(name)
    local = fetched(tmp_path, "file://wine-[rw]*.csv")
    assert bodies(local) == [b"wine-red 1.csv", b"wine-white#2.csv"]
    assert [path.suffix for path in local.paths] == [".csv"] * 2
    assert bodies(fetched(tmp_path, "file://wine-white#2.csv")) == [b"wine-white#2.csv"]


@pytest.mark.parametrize("name", ["sales #3.csv", "sales%203.csv", "sales;3.csv"])
def test_an_object_is_found_by_its_whole_key(tmp_path: Path, name: str) -> None:
    root, body = store.data_uri(f"test/{uuid4().hex}"), fresh()
    store.put_bytes(f"{root}/{name}", body)
    store.put_bytes(f"{root}/sales ", b"another")
    assert bodies(fetched(tmp_path, f"{root}/{name}")) == [body]


def test_a_glob_finds_objects_whose_names_contain_wildcards(tmp_path: Path) -> None:
    root = store.data_uri(f"test/{uuid4().hex}")
    names = ["a #1?.csv.gz", "a [2].csv.gz"]
    for name in names:
        store.put_bytes(f"{root}/{name}", name.encode())
    local = fetched(tmp_path, f"{root}/a*.csv.gz")
    assert bodies(local) == [name.encode() for name in names]
    again = fetched(tmp_path, f"{root}/a [[]2].csv.gz")
    assert bodies(again) == [names[1].encode()]


def lake(**other: Any) -> str:
    """An Airflow connection to the S3 server of the tests, as JSON."""
    ours = settings()
    assert ours.aws_secret_access_key is not None
    return json.dumps(
        {
            "conn_type": "aws",
            "login": ours.aws_access_key_id,
            "password": ours.aws_secret_access_key.get_secret_value(),
            "extra": {"endpoint_url": ours.s3_endpoint, "region_name": "us-east-1"},
            **other,
        }
    )


def test_objects_of_another_store_by_a_named_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, body = uuid4().hex, fresh()
    store.client().create_bucket(Bucket="lake")
    for name in ("a", "b"):
        store.put_bytes(f"s3://lake/{key}/{name}.csv", body + name.encode())
    asked: list[str] = []

    def lookup(name: str) -> str:
        asked.append(name)
        return lake()

    source = Source(uri=f"s3://lake/{key}/*.csv", connection="the_lake")
    ours = store.client()
    with monkeypatch.context() as patch:
        # What is fetched must not come through our own store's key.
        patch.setattr(ours, "download_file", None)
        patch.setattr(ours, "get_paginator", None)
        local = fetch(source, tmp_path / "local", lookup)
    assert bodies(local) == [body + b"a", body + b"b"]
    assert asked == ["the_lake"]


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (None, "There is no connection 'the_lake'"),
        ({"login": "nobody"}, "cannot be read with the connection 'the_lake'"),
        ({"password": "wrong"}, "cannot be read with the connection 'the_lake'"),
        ({"conn_type": "postgres"}, "must be of type aws or s3"),
    ],
)
def test_a_wrong_connection_is_one_clear_error(
    tmp_path: Path, connection: dict[str, Any] | None, message: str
) -> None:
    uri = store.data_uri(f"test/{uuid4().hex}.csv")
    store.put_bytes(uri, fresh())
    source = Source(uri=uri, connection="the_lake")
    fetch(source, tmp_path / "good", lambda _: lake())  # a copy, which must not hide the mistake
    with pytest.raises(UserError, match=message) as err:
        fetch(source, tmp_path / "bad", lambda _: connection and lake(**connection))
    assert err.value.fix or "must be of type" in err.value.what


@pytest.mark.parametrize(
    ("connection", "why"),
    [
        ({"extra": {"endpoint_url": "minio:9000"}}, "Invalid endpoint: minio:9000"),
        ({"extra": {"endpoint_url": "http://[minio"}}, "Invalid IPv6 URL"),
        ({"extra": {"region_name": "a b"}}, "region_name 'a b'"),
        ({"password": None}, "missing: aws_secret_access_key"),
    ],
)
def test_a_connection_that_makes_no_client_is_named(
    tmp_path: Path, connection: dict[str, Any], why: str
) -> None:
    source = Source(uri="s3://lake/x.csv", connection="the_lake")
    with pytest.raises(UserError, match="connection 'the_lake'") as err:
        fetch(source, tmp_path / "local", lambda _: lake(**connection))
    assert why in err.value.why
    assert "endpoint_url" in err.value.fix
    assert "http://minio:9000" in err.value.fix


def test_a_copy_and_a_pointer_are_kept_in_the_store(tmp_path: Path, publisher: Publisher) -> None:
    body, uri = fresh(), f"{publisher.url}/x.csv"
    publisher.answers = [Answer(body)]
    sha256 = fetched(tmp_path, uri).files[0].sha256
    assert store.get_bytes(store.data_uri(f"sources/{sha256}")) == body
    by_uri = hashlib.sha256(uri.encode()).hexdigest()
    record = json.loads(store.get_bytes(store.data_uri(f"sources/by-uri/{by_uri}.json")))
    assert record["files"][0]["sha256"] == sha256


@pytest.mark.parametrize("outage", [Answer(status=503), Answer(b"a,y", promised=999)])
def test_an_outage_of_the_publisher_is_bridged_by_the_copy(
    tmp_path: Path, publisher: Publisher, caplog: pytest.LogCaptureFixture, outage: Answer
) -> None:
    old, new, uri = fresh(), fresh(), f"{publisher.url}/{uuid4().hex}.csv"
    publisher.answers = [outage]
    with pytest.raises(UnavailableError):
        fetched(tmp_path, uri)
    for body in (old, new):
        publisher.answers = [Answer(body)]
        fetched(tmp_path, uri)
    publisher.answers = [outage]
    with caplog.at_level(logging.WARNING):
        assert bodies(fetched(tmp_path, uri)) == [new]
    assert "Using the copy of" in caplog.text


def test_a_copy_keeps_the_ending_that_names_its_compression(
    tmp_path: Path, publisher: Publisher
) -> None:
    """pandas needs the ending."""
    body = fresh()
    sha256 = hashlib.sha256(body).hexdigest()
    publisher.answers = [Answer(body)]
    for query in ("?v=2", "?v=2", "#top"):
        local = fetched(tmp_path, f"{publisher.url}/x.csv.gz{query}", sha256=sha256)
        assert local.paths[0].name.endswith("-x.csv.gz")
    assert publisher.requests == 1
    local = fetched(tmp_path, "s3://other/wine #[1].csv.gz", sha256=sha256)
    assert local.paths[0].name.endswith("-wine #[1].csv.gz")


def test_a_declared_digest_with_a_copy_fetches_nothing(
    tmp_path: Path, publisher: Publisher
) -> None:
    body = fresh()
    sha256 = hashlib.sha256(body).hexdigest()
    publisher.answers = [Answer(body)]
    for _ in range(3):
        local = fetched(tmp_path, f"{publisher.url}/x.csv", sha256=sha256)
        assert bodies(local) == [body]
        assert local.files[0].size == len(body)
    assert publisher.requests == 1


def test_a_file_of_another_digest_is_refused_and_not_remembered(
    tmp_path: Path, publisher: Publisher
) -> None:
    uri, wanted = f"{publisher.url}/{uuid4().hex}.csv", hashlib.sha256(fresh()).hexdigest()
    publisher.answers = [Answer(fresh())]
    with pytest.raises(UserError) as err:
        fetched(tmp_path, uri, sha256=wanted)
    assert uri in err.value.what
    assert wanted in err.value.why
    publisher.answers = [Answer(status=503)]
    with pytest.raises(UnavailableError):
        fetched(tmp_path, uri)


def test_an_empty_file_is_refused(tmp_path: Path, publisher: Publisher) -> None:
    publisher.answers = [Answer(b"")]
    with pytest.raises(UserError, match=r"x\.csv is empty"):
        fetched(tmp_path, f"{publisher.url}/x.csv")


def test_a_damaged_copy_is_not_used(tmp_path: Path, publisher: Publisher) -> None:
    body, uri = fresh(), f"{publisher.url}/{uuid4().hex}.csv"
    publisher.answers = [Answer(body)]
    sha256 = fetched(tmp_path, uri).files[0].sha256
    store.put_bytes(store.data_uri(f"sources/{sha256}"), b"damaged")
    publisher.answers = [Answer(status=503)]
    with pytest.raises(UnavailableError, match="is damaged"):
        fetched(tmp_path, uri)


def test_a_setting_maps_addresses_to_local_files(
    tmp_path: Path, store: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, path = "https://example.invalid/x.csv", tmp_path / "local"
    path.write_bytes(fresh())
    monkeypatch.setenv("MLOPS_SOURCE_MAP", json.dumps({uri: str(path)}))
    settings.cache_clear()
    try:
        local = fetched(tmp_path, uri)
        assert bodies(local) == [path.read_bytes()]
        assert local.files[0].uri == uri
    finally:
        monkeypatch.undo()
        settings.cache_clear()
