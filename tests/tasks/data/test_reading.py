from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.base.errors import UserError
from tasks.data.reading import pieces, read, source_format
from tasks.data.sources import Fetched, File
from tasks.pipeline.schema import Data, Source

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


def test_every_format_reads_numbers_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(2000) * 10.0 ** rng.integers(-200, 200, 2000)
    table = pd.DataFrame({"y": y, "zip": "007"})
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet", index=False)
    lines = "\n".join(f'{{"y": {value!r}, "zip": "007"}}' for value in y.tolist())
    written(tmp_path / "x.jsonl", lines)
    for ending in ("csv", "parquet", "jsonl"):
        table = read_files(tmp_path / f"x.{ending}")
        assert table["y"].tolist() == y.tolist(), ending
        assert table["zip"].unique().tolist() == ["007"], ending


NUMBERED = DATA.model_copy(
    update={"columns": {"0": DATA.columns["zip"], "007": DATA.columns["y"]}, "target": "007"}
)


@pytest.mark.parametrize("engine", ["c", "python"])
def test_text_columns_of_a_file_without_a_header_are_read_as_text(
    tmp_path: Path, engine: str
) -> None:
    path = written(tmp_path / "x.csv", "007,1\n008,2\n")
    table = read_all(fetched(path, options={"header": None, "engine": engine}), NUMBERED)
    assert table.iloc[:, 0].tolist() == ["007", "008"]


def test_pyarrow_reads_named_text_columns_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y,zip\n1,007\n2,008\n")
    assert read_files(path, options={"engine": "pyarrow"})["zip"].tolist() == ["007", "008"]
    source = fetched(path, options={"engine": "pyarrow", "header": None})
    with pytest.raises(UserError, match="pyarrow with header null"):
        read_all(source, NUMBERED)


def test_keys_of_json_lines_stay_text(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", '{"0": "007", "007": 1}\n{"0": "008", "007": 2}\n')
    table = read_all(fetched(path), NUMBERED)
    assert table.to_dict("list") == {"0": ["007", "008"], "007": [1, 2]}


def test_a_json_column_named_like_a_time_is_not_converted(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", '{"y": 1, "date": 1600000000, "modified": "2020"}\n')
    assert read_files(path).to_dict("list") == {
        "y": [1],
        "date": [1600000000],
        "modified": ["2020"],
    }


@pytest.mark.parametrize("engine", ["c", "python", "pyarrow"])
def test_a_row_longer_than_the_header_is_an_error_with_every_engine(
    tmp_path: Path, engine: str
) -> None:
    path = written(tmp_path / "x.csv", "y,zip\n1,a,2\n3,b,4\n")
    with pytest.raises(UserError, match="cannot be read as csv"):
        read_files(path, options={"engine": engine})


def test_an_encrypted_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.csv", "y,zip\n1,a\n")
    whole = bytearray(path.read_bytes())
    # the flag that says so, in the file's header and in the directory's
    for place in (whole.index(b"PK\x03\x04") + 6, whole.index(b"PK\x01\x02") + 8):
        whole[place] |= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"cannot be read as csv") as err:
        read_files(path, format="csv")
    assert "encrypted" in err.value.why


def test_a_compression_whose_package_is_not_installed_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv.zst", "y\n")
    with pytest.raises(UserError, match=r"cannot be read as csv") as err:
        read_files(path, format="csv")
    assert "zstandard" in err.value.why


def test_options_and_constants(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y;zip\n1,5;a\n")
    table = read_files(path, options={"sep": ";", "decimal": ","}, constants={"color": "red"})
    assert table.to_dict("records") == [{"y": 1.5, "zip": "a", "color": "red"}]
    with pytest.raises(UserError, match=r"new columns\. Got y instead"):
        read_files(path, options={"sep": ";"}, constants={"y": 1})


def test_files_of_a_glob_are_one_table_in_order(tmp_path: Path) -> None:
    first = written(tmp_path / "1.csv", "y,zip\n1,a\n")
    second = written(tmp_path / "2.csv", "zip,y\nb,2\n")
    table = read_files(first, second, format="csv")
    assert table.to_dict("records") == [{"y": 1, "zip": "a"}, {"y": 2, "zip": "b"}]
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
    with pytest.raises(UserError, match="UnicodeDecodeError") as err:
        read_files(path)
    assert str(path) in err.value.what
    assert "encoding" in err.value.fix
    assert read_files(path, options={"encoding": "latin-1"})["zip"].tolist() == ["größe"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_any_encoding_of_any_text_format(tmp_path: Path, encoding: str, ending: str) -> None:
    texts = {"csv": "y;zip\n1;größe\n", "jsonl": '{"y": 1, "zip": "größe"}\n'}
    path = tmp_path / f"x.{ending}"
    path.write_bytes(texts[ending].encode(encoding))
    options = {"encoding": encoding, **({"sep": ";"} if ending == "csv" else {})}
    assert read_files(path, options=options).to_dict("records") == [{"y": 1, "zip": "größe"}]
    if encoding != "utf-8-sig":
        wrong = options | {"encoding": "utf-8"}
        with pytest.raises(UserError, match=f"{path} cannot be read as {ending}") as err:
            read_files(path, options=wrong)
        assert "encoding: latin-1" in err.value.fix


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet"])
@pytest.mark.parametrize("rows", [0, 1, 20])
def test_pieces_are_the_whole_table(
    tmp_path: Path, ending: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame(
        {"y": np.arange(rows) / 3, "zip": ["007", "größe"] * (rows // 2) + ["x"] * (rows % 2)}
    )
    path = tmp_path / f"x.{ending}"
    if ending == "parquet":
        table.to_parquet(path, index=False)
    elif ending == "jsonl":
        table.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        table.to_csv(path, index=False)
    source = Source.model_validate({"uri": f"file://{path}", "constants": {"site": 1}})
    files = (File(uri=source.uri, sha256="0" * 64, size=1),) * 2
    local = Fetched(source=source, files=files, paths=(path, path))
    monkeypatch.setattr("tasks.data.reading.CELLS", 3 * 7)
    whole = read(local, DATA)
    parts = [piece for _, piece in pieces(local, DATA)]
    assert max(map(len, parts)) <= 7
    assert pd.concat(parts, ignore_index=True).to_dict("list") == whole.to_dict("list")
    if rows or ending != "jsonl":  # lines of JSON are the only thing that names its columns
        assert [*parts[0].columns] == ["y", "zip", "site"]


def test_options_that_read_a_part_apply_to_the_whole_file(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y,zip\n1,a\n2,b\ntotal,2\n")
    for options in ({"nrows": 2}, {"skipfooter": 1, "engine": "python"}):
        source = Source.model_validate({"uri": f"file://{path}", "options": options})
        file = File(uri=source.uri, sha256="0" * 64, size=1)
        local = Fetched(source=source, files=(file,), paths=(path,))
        ((_, piece),) = pieces(local, DATA)
        assert piece["y"].tolist() == [1, 2]


def test_options_that_give_no_table(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "y\n1\n")
    with pytest.raises(UserError, match=r"must produce a table\. Got TextFileReader"):
        read_files(path, options={"chunksize": 1})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://example.org/x.CSV?v=2", "csv"),
        ("https://example.org/x.csv#part", "csv"),
        ("s3://bucket/day-*.parquet", "parquet"),
        ("s3://bucket/day-?.parquet", "parquet"),
        ("file://wine-[rw]?.csv", "csv"),
        ("file://sales #3.csv", "csv"),
        ("file://x.jsonl.gz", "jsonl"),
        ("sklearn://iris", "csv"),
    ],
)
def test_the_format_is_what_the_name_ends_in(uri: str, expected: str) -> None:
    assert source_format(Source(uri=uri)) == expected


def test_a_name_without_a_known_ending() -> None:
    assert source_format(Source(uri="https://example.org/export", format="csv")) == "csv"
    with pytest.raises(UserError, match=r"'format' of source https://example\.org"):
        source_format(Source(uri="https://example.org/export"))


def test_large_integers_stay_distinct_names_next_to_a_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As doubles two of them would be equal, and only in the piece with the null."""
    great = 2**53 + 1
    rows = pa.table({"zip": pa.array([great, great - 1, great, None], pa.int64()), "y": [0.0] * 4})
    pq.write_table(rows, tmp_path / "x.parquet")
    monkeypatch.setattr("tasks.data.reading.CELLS", 6)

    table = pd.concat([piece for _, piece in pieces(fetched(tmp_path / "x.parquet"), DATA)])

    assert table["zip"].tolist()[:3] == [str(great), str(great - 1), str(great)]
    assert table["zip"].isna().tolist() == [False] * 3 + [True]


def test_an_empty_compressed_file_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.jsonl.gz", "wb"):
        pass
    with pytest.raises(UserError, match="is empty"):
        list(pieces(fetched(tmp_path / "x.jsonl.gz"), DATA))


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def overwritten(whole: bytes) -> bytes:
    """With an invalid block in the middle."""
    half = len(whole) // 2
    return whole[:half] + b"\xff" * 64 + whole[half + 64 :]


def plain(_: bytes) -> bytes:
    return b"y,zip\n1,a\n"


@pytest.mark.parametrize(
    "ending", ["csv.gz", "jsonl.gz", "csv.bz2", "csv.xz", "csv.zip", "csv.tar"]
)
@pytest.mark.parametrize("damage", [truncated, overwritten, plain])
def test_a_damaged_compressed_file_is_named(
    tmp_path: Path, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"y": rng.random(5000), "zip": "007"})
    path = tmp_path / f"x.{ending}"
    kind = ending.partition(".")[0]
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    local = fetched(path, format=kind)
    assert len(read_all(local, DATA)) == 5000
    path.write_bytes(damage(path.read_bytes()))
    for reader in (lambda: read(local, DATA), lambda: list(pieces(local, DATA))):
        with pytest.raises(UserError) as err:
            reader()
        assert err.value.what == f"file://{path} cannot be read as {kind}."
        assert err.value.why
        assert err.value.fix


def read_all(local: Fetched, data: Data) -> pd.DataFrame:
    """The rows from `pieces`, which must be those of `read`."""
    whole = pd.concat([piece for _, piece in pieces(local, data)], ignore_index=True)
    pd.testing.assert_frame_equal(whole, read(local, data))
    return whole


def fetched(path: Path, **source: Any) -> Fetched:
    source = Source.model_validate({"uri": f"file://{path}", **source})
    return Fetched(
        source=source, files=(File(uri=source.uri, sha256="0" * 64, size=1),), paths=(path,)
    )


@pytest.mark.parametrize(
    ("rows", "separator"),
    [
        ("y;zip;at\n1;2;3\n", '";"'),
        ("y;zip;at\n1,5;2;3\n2,5;2;3\n", '";"'),  # decimal commas: rows longer than the header
        ("y\tzip\tat\n1\t2\t3\n", r'"\t"'),
    ],
)
def test_a_wrong_separator_has_its_own_message(tmp_path: Path, rows: str, separator: str) -> None:
    path = written(tmp_path / "x.csv", rows)
    for read_it in (lambda s: read_all(s, DATA), lambda s: read(s, DATA)):
        with pytest.raises(UserError) as err:
            read_it(fetched(path, constants={"color": "red"}))
        assert f"sep: {separator}" in err.value.fix
