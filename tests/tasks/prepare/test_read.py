from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.errors import UserError
from tasks.pipeline.schema import Data, Source
from tasks.prepare.read import format_of, read
from tasks.prepare.sources import Fetched, File

DATA = Data.model_validate(
    {
        "sources": [{"uri": "file://x.csv"}],
        "target": "y",
        "task": "regression",
        "columns": {"y": {}, "zip": {"type": "category"}, "at": {"type": "datetime"}},
    }
)


def read_files(*paths: Path, **source: Any) -> pd.DataFrame:
    uri = f"file://{paths[0] if len(paths) == 1 else paths[0].parent / '*'}"
    files = tuple(File(uri=f"file://{path}", sha256="0" * 64, size=1) for path in paths)
    entry = Source.model_validate({"uri": uri, **source})
    return read(Fetched(source=entry, files=files, paths=paths), DATA)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_numbers_read_back_to_the_last_bit_from_every_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(2000) * 10.0 ** rng.integers(-200, 200, 2000)
    table = pd.DataFrame({"y": y, "zip": "007"})
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet", index=False)
    lines = "\n".join(f'{{"y": {value!r}, "zip": "007"}}' for value in y.tolist())
    written(tmp_path / "x.jsonl", lines)
    for ending in ("csv", "parquet", "jsonl"):
        found = read_files(tmp_path / f"x.{ending}")
        assert found["y"].tolist() == y.tolist(), ending
        assert found["zip"].unique().tolist() == ["007"], ending


def test_options_and_constants(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y;zip\n1,5;a\n")
    found = read_files(path, options={"sep": ";", "decimal": ","}, constants={"color": "red"})
    assert found.to_dict("records") == [{"y": 1.5, "zip": "a", "color": "red"}]
    with pytest.raises(UserError, match=r"new columns\. Got y instead"):
        read_files(path, options={"sep": ";"}, constants={"y": 1})


def test_files_of_a_glob_are_one_table_in_order(tmp_path: Path) -> None:
    first = written(tmp_path / "1.csv", "y,zip\n1,a\n")
    second = written(tmp_path / "2.csv", "zip,y\nb,2\n")
    found = read_files(first, second, format="csv")
    assert found.to_dict("records") == [{"y": 1, "zip": "a"}, {"y": 2, "zip": "b"}]
    odd = written(tmp_path / "3.csv", "y,zap\n1,a\n")
    with pytest.raises(UserError, match=r"3.csv and file://.*1.csv differ in zap, zip"):
        read_files(first, odd, format="csv")


@pytest.mark.parametrize(
    ("name", "text", "options", "why"),
    [
        ("x.csv", "y,zip\n1,2,3\n", {}, "Length of header"),
        ("x.csv", "y,zip\n1,2\n1,2,3\n", {}, "Expected 2 fields"),
        ("x.csv", "\n", {}, "No columns"),
        ("x.csv", 'y,zip\n"1,2\n', {}, "EOF"),
        ("x.csv", "y\n1\n", {"seperator": ";"}, "seperator"),
        ("x.csv", "y\n1\n", {"encoding": "utf-9"}, "utf-9"),
        ("x.parquet", "y\n1\n", {}, "arquet"),
        ("x.jsonl", '{"y": 1}\n{"y": ', {}, "ValueError"),
    ],
)
def test_what_cannot_be_read_names_the_file_and_the_trouble(
    tmp_path: Path, name: str, text: str, options: dict[str, Any], why: str
) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(UserError) as err:
        read_files(path, options=options)
    assert f"file://{path} cannot be read as" in err.value.what
    assert why in err.value.why
    assert err.value.fix


def test_text_in_another_encoding_is_an_error_not_garbage(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("y,zip\n1,größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="UnicodeDecodeError"):
        read_files(path)
    assert read_files(path, options={"encoding": "latin-1"})["zip"].tolist() == ["größe"]


def test_options_that_give_no_table(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y\n1\n")
    with pytest.raises(UserError, match=r"must give a table\. Got TextFileReader"):
        read_files(path, options={"chunksize": 1})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://example.org/x.CSV?v=2", "csv"),
        ("s3://bucket/day-*.parquet", "parquet"),
        ("file://x.jsonl.gz", "jsonl"),
        ("sklearn://iris", "csv"),
    ],
)
def test_the_format_is_what_the_name_ends_in(uri: str, expected: str) -> None:
    assert format_of(Source(uri=uri)) == expected


def test_a_name_that_tells_no_format() -> None:
    assert format_of(Source(uri="https://example.org/export", format="csv")) == "csv"
    with pytest.raises(UserError, match=r"'format' of source https://example\.org"):
        format_of(Source(uri="https://example.org/export"))
