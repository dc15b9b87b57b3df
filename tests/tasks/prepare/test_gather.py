from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.base.errors import UserError
from tasks.data.statistics import describe
from tasks.data.units import hashes
from tasks.pipeline.schema import Pipeline
from tasks.prepare.gather import Gathering
from tasks.records.snapshots import UNIT, write_part

Make = Callable[..., Pipeline]
COLUMNS: dict[str, Any] = {
    "x": {"type": "integer", "min": 0, "max": 10},
    "c": {"type": "category", "values": ["a", "b"], "nullable": True},
    "y": {"nullable": True},
}


def gathered(
    pipeline: Pipeline, *tables: pd.DataFrame, rows: int = 1000, uri: str = "a.csv"
) -> Gathering:
    """The gathering of tables, each a file, read in pieces of `rows` rows."""
    gathering = Gathering(pipeline)
    gathering.add(
        (f"{uri}/{number}" if len(tables) > 1 else uri, table.iloc[first : first + rows])
        for number, table in enumerate(tables)
        for first in range(0, max(1, len(table)), rows)
    )
    return gathering


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_every_broken_rule_is_one_line_with_row_and_value(make_pipeline: Make, rows: int) -> None:
    raw = pd.DataFrame(
        {"x": [-1, 5, "q", None, 11], "c": ["a", "b", "c", None, "a"], "y": [1, None, 2, 3, 4]},
        index=[7, 7, 7, 7, 7],
    )
    columns = COLUMNS | {"y": {"type": "datetime", "nullable": True}, "z": {}}
    raw = raw.assign(y=pd.to_datetime(raw["y"], unit="D"), z=1)
    pipeline = make_pipeline({"columns": columns, "target": "z"}, {"method": "time", "column": "y"})
    bad_rows = gathered(pipeline, raw, rows=rows).bad_rows
    assert bad_rows.report[["row", "column", "rule", "value"]].to_numpy().tolist() == [
        [1, "x", "must be at least 0", "-1"],
        [2, "y", "must not be null", "null"],
        [3, "c", "must be one of ['a', 'b']", "c"],
        [3, "x", "must be a whole number", "q"],
        [4, "x", "must not be null", "null"],
        [5, "x", "must be at most 10", "11"],
    ]
    assert bad_rows.numbers.tolist() == [0, 1, 2, 3, 4]
    assert bad_rows.summary()[:2] == ["x must be at least 0: 1 rows", "y must not be null: 1 rows"]


def test_pieces_are_one_table(make_pipeline: Make) -> None:
    rng = np.random.default_rng(0)
    raw = pd.DataFrame(
        {"x": rng.integers(0, 10, 50), "c": rng.choice(["a", "b", None], 50), "y": rng.random(50)}
    )
    raw["at"] = pd.to_datetime(rng.integers(0, 10**9, 50), unit="s")
    pipeline = make_pipeline({"columns": COLUMNS | {"at": {"type": "datetime"}}})
    whole = gathered(pipeline, raw).table()
    pd.testing.assert_frame_equal(gathered(pipeline, raw, rows=7).table(), whole)
    without = gathered(pipeline, raw, rows=7).table(without=np.array([0, 13, 49]))
    pd.testing.assert_frame_equal(without, whole.drop(index=[0, 13, 49]).reset_index(drop=True))


def test_texts_that_do_not_repeat_become_no_categorical(make_pipeline: Make) -> None:
    """As categories they were Python objects: 5 million rows took 3.9 GB."""
    columns = {"id": {"type": "string", "nullable": True}, "c": {"type": "category"}, "y": {}}
    texts = pd.Series([f"größe {number}" for number in range(98)] + [None, ""], dtype="str")
    raw = pd.DataFrame({"id": texts, "c": "a", "y": 1.0})
    table = gathered(make_pipeline({"columns": columns}), raw, rows=7).table()
    assert [str(kind) for kind in table.dtypes] == ["str", "category", "float64"]
    pd.testing.assert_series_equal(table["id"], texts, check_names=False)


def test_a_snapshot_does_not_depend_on_how_its_texts_are_held(
    make_pipeline: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[bytes] = []
    monkeypatch.setattr(
        "tasks.records.snapshots.store.upload", lambda path, _: uploads.append(path.read_bytes())
    )
    columns = {"id": {"type": "string", "nullable": True}, "c": {"type": "category"}, "y": {}}
    pipeline = make_pipeline({"columns": columns}, {"groups": ["c", "id"]})
    ids = [*(f"größe {number}" for number in range(150)), *"ba" * 24, None, ""]
    raw = pd.DataFrame({"id": ids, "c": ids[::-1], "y": range(200)}).fillna({"c": "c"})
    results = []
    for often in (0, 10**9):
        monkeypatch.setattr("tasks.prepare.columns.REPEATED", often)
        table = gathered(pipeline, raw, rows=30).table()
        assert table["id"].dtype == ("str" if often else "category")
        units = hashes(table, ["c", "id"])
        rows = np.arange(200)[::-2]
        described = describe(table, rows)
        order = {name: list(getattr(described[name], "counts", {})) for name in table}
        write_part("s3://b/k", table.assign(**{UNIT: units}), pipeline.data, rows)
        results.append((units.tolist(), described, order, pd.factorize(table["id"])[0].tolist()))
    assert results[0] == results[1]
    assert uploads[0] == uploads[1]


def test_a_null_among_wrong_values_is_not_overlooked(make_pipeline: Make) -> None:
    """The second piece has no good value, but the table has: each bad row counts."""
    raw = pd.DataFrame({"x": [1, 2, "q", None], "c": "a", "y": 1})
    bad_rows = gathered(make_pipeline({"columns": COLUMNS}), raw, rows=2).bad_rows
    assert bad_rows.numbers.tolist() == [2, 3]
    assert bad_rows.report["rule"].tolist() == ["must be a whole number", "must not be null"]


def test_the_report_is_bounded(make_pipeline: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.prepare.bad_rows.REPORTED", 3)
    raw = pd.DataFrame({"x": [5, *["q", -1] * 10], "c": "a", "y": 1})
    bad_rows = gathered(make_pipeline({"columns": COLUMNS}), raw, rows=4).bad_rows
    assert bad_rows.report["row"].tolist() == [2, 3, 4]
    assert len(bad_rows.numbers) == 20
    assert bad_rows.summary() == [
        "x must be a whole number: 10 rows",
        "x must be at least 0: 10 rows",
    ]


def test_schema_changes_of_all_sources_are_one_error(make_pipeline: Make) -> None:
    pipeline = make_pipeline(
        {"columns": {"alcohol": {}, "pH": {}, "day": {"type": "datetime"}, "y": {}}}
    )
    gathering = gathered(pipeline, pd.DataFrame({"alcool": [1], "y": [1], "day": "2020-01-01"}))
    gathering.add(
        [
            (
                "b.csv",
                pd.DataFrame({"alcohol": ["a", "b"], "pH": 1, "y": 1, "day": "1/2/20", "extra": 0}),
            )
        ]
    )
    with pytest.raises(UserError) as err:
        gathering.check()
    assert err.value.what == "The sources do not have the columns of the pipeline file."
    assert err.value.why == (
        "a.csv: column 'alcohol' is missing (renamed to 'alcool'?); column 'pH' is missing; "
        "column 'alcool' is unknown.\n"
        "b.csv: column 'extra' is unknown; column 'alcohol' has another type: none of its 2 values "
        "is a number, e.g. a; column 'day' has another type: none of its 2 values is a date or "
        "time in ISO 8601, e.g. 1/2/20."
    )
    assert "data.drift" in err.value.fix


def test_a_repeated_column(make_pipeline: Make) -> None:
    raw = pd.DataFrame([[1, "a", 1, 2]], columns=["x", "c", "y", "y"])
    with pytest.raises(UserError, match="'y' occurs twice"):
        gathered(make_pipeline({"columns": COLUMNS}), raw).check()


def test_one_good_value_makes_the_others_bad_rows(make_pipeline: Make) -> None:
    raw = pd.DataFrame({"x": ["q"] * 99 + [1], "c": "a", "y": 1})
    gathering = gathered(make_pipeline({"columns": COLUMNS}), raw, rows=10)
    gathering.check()
    assert len(gathering.bad_rows.numbers) == 99


def test_a_column_changes_in_one_file_of_a_source(make_pipeline: Make) -> None:
    """Good values in other files once turned it into bad rows, which `drop` silently left out."""
    good = pd.DataFrame({"x": [1, "q"] + [2] * 8, "c": "a", "y": 1})
    changed = good.assign(x="n/k")
    gathering = gathered(make_pipeline({"columns": COLUMNS}), good, good, changed, rows=4)
    with pytest.raises(UserError) as err:
        gathering.check()
    assert err.value.what == "a.csv/2 does not have the columns of the pipeline file."
    assert "'x' has another type: none of its 10 values is a whole number, e.g. n/k" in (
        err.value.why
    )
    assert gathering.bad_rows.numbers.tolist() == [1, 11]

    columns = COLUMNS | {"x": {"type": "integer", "nullable": True}}
    pipeline = make_pipeline({"columns": columns, "drift": {"type": "fill"}})
    gathering = gathered(pipeline, good, good, changed, rows=4)
    gathering.check()
    assert gathering.bad_rows.numbers.tolist() == [1, 11]
    assert gathering.table()["x"].isna().sum() == 12


def test_a_bad_value_in_a_small_file_is_a_bad_row_if_other_files_are_good(
    make_pipeline: Make,
) -> None:
    """For example with a file per day or per event."""
    good = pd.DataFrame({"x": [1, 2], "c": "a", "y": 1})
    bad = good.assign(x="n/k")
    gathering = gathered(make_pipeline({"columns": COLUMNS}), bad, good, bad.head(1))
    gathering.check()
    assert gathering.bad_rows.numbers.tolist() == [0, 1, 4]
    with pytest.raises(UserError, match=r"a\.csv/1: column 'x' has another type"):
        gathered(make_pipeline({"columns": COLUMNS}), bad, bad.head(1)).check()


def test_the_report_of_many_files_is_bounded(
    make_pipeline: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.prepare.bad_rows.REPORTED", 3)
    raw = pd.DataFrame({"x": [5, "q", "q"], "c": "a", "y": 1})
    bad_rows = gathered(make_pipeline({"columns": COLUMNS}), *[raw] * 20).bad_rows
    assert bad_rows.report["row"].tolist() == [2, 3, 5]
    assert sum(map(len, bad_rows.lines)) <= 2 * 3
    assert bad_rows.summary() == ["x must be a whole number: 40 rows"]


def test_types_that_could_be_converted_but_should_not_be_are_schema_changes(
    make_pipeline: Make,
) -> None:
    columns = {"day": {"type": "category"}, "tags": {"type": "string"}, "x": {}, "y": {}}
    raw = pd.DataFrame({"tags": [["a"], ["b", "c"]], "x": [True, False], "y": 1.0})
    raw["day"] = pd.Timestamp("2020-01-01")
    with pytest.raises(UserError) as err:
        gathered(make_pipeline({"columns": columns}), raw).check()
    assert "'day' has another type: none of its 2 values is text" in err.value.why
    assert "'tags' has another type: none of its 2 values is text" in err.value.why
    assert "'x' has another type: none of its 2 values is a number, e.g. True" in err.value.why


ACCEPTED = {"new": "ignore", "lost": "fill", "type": "fill"}


def test_schema_changes_are_accepted_if_the_file_says_so(
    make_pipeline: Make, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"x": {"nullable": True}, "c": {"type": "category", "nullable": True}, "y": {}}
    pipeline = make_pipeline({"columns": columns, "drift": ACCEPTED})
    good = pd.DataFrame({"x": [1.0], "c": ["a"], "y": [1.0]})
    changed = pd.DataFrame({"x": ["many", "few"], "y": [2.0, 3.0], "more": [1, 1]})
    with caplog.at_level(logging.WARNING):
        gathering = gathered(pipeline, good)
        gathering.add([("b.csv", changed)])
        gathering.check()
    assert len(gathering.bad_rows.numbers) == 0
    table = gathering.table()
    assert table["x"].isna().tolist() == table["c"].isna().tolist() == [False, True, True]
    assert table["y"].tolist() == [1, 2, 3]
    for message in (
        "'more' is unknown and left out",
        "'c' is missing; it is",
        "none of its 2 values",
    ):
        assert message in caplog.text


def test_a_change_that_empties_a_required_column_is_refused(make_pipeline: Make) -> None:
    columns = {
        "x": {},
        "c": {"type": "category", "nullable": True},
        "b": {"nullable": True},
        "y": {},
    }
    pipeline = make_pipeline({"columns": columns, "drift": ACCEPTED}, {"groups": ["c"]})
    with pytest.raises(UserError) as err:
        gathered(pipeline, pd.DataFrame({"x": ["many"], "y": [1]})).check()
    assert "'c' is missing, and it may not be empty" in err.value.why
    assert "e.g. many, and it may not be empty" in err.value.why
    assert "'b'" not in err.value.why


def test_a_key_that_some_json_lines_lack_is_kept(make_pipeline: Make) -> None:
    pipeline = make_pipeline({"columns": COLUMNS})
    gathering = Gathering(pipeline)
    pieces = (pd.DataFrame({"x": [1], "y": [1]}), pd.DataFrame({"c": ["a"], "x": [1], "y": [1]}))
    gathering.add(("a.jsonl", piece) for piece in pieces)
    gathering.check()
    assert gathering.table()["c"].isna().tolist() == [True, False]


def test_columns_that_pandas_numbers_are_matched_by_their_text(make_pipeline: Make) -> None:
    """A nullable one silently came out empty."""
    columns = {"0": {"nullable": True}, "1": {"type": "category"}, "2": {}}
    pipeline = make_pipeline({"columns": columns, "target": "2"})
    raw = pd.DataFrame(np.arange(6).reshape(2, 3))
    gathering = gathered(pipeline, raw)
    gathering.check()
    assert len(gathering.bad_rows.numbers) == 0
    table = gathering.table()
    assert table["0"].tolist() == [0, 3]
    assert table["1"].tolist() == ["1", "4"]
    assert table["2"].tolist() == [2, 5]
    assert raw.columns.tolist() == [0, 1, 2]  # the user's own table stays as it is


def test_a_wrong_value_in_a_numbered_column_is_reported(make_pipeline: Make) -> None:
    raw = pd.DataFrame([["q", 1], [2, 3]])
    bad_rows = gathered(make_pipeline({"columns": {"0": {}, "1": {}}, "target": "1"}), raw).bad_rows
    assert bad_rows.report[["row", "column", "value"]].to_numpy().tolist() == [[1, "0", "q"]]


def test_a_number_and_its_text_are_one_name(make_pipeline: Make) -> None:
    raw = pd.DataFrame([[1, 2, 3]], columns=[0, "0", "y"])
    with pytest.raises(UserError, match="'0' occurs twice"):
        gathered(make_pipeline({"columns": {"0": {}, "y": {}}}), raw).check()
