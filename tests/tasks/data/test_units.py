from __future__ import annotations

import hashlib
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data import units


def mix(value: int) -> int:
    """splitmix64's step, in Python's own integers."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def text(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")


def double(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def test_a_hash_follows_its_description() -> None:
    table = pd.DataFrame({"x": [1.5, -2e300], "color": pd.Series(["red", "größe"], dtype="str")})
    expected = []
    for x, color in zip(table.x, table.color, strict=True):
        state = mix(mix(text(color) ^ text("color")))
        state = mix(state ^ mix(double(x) ^ text("x")))
        expected.append(state - 2**64 if state >= 2**63 else state)
    assert units.hashes(table, ["x", "color"]).tolist() == expected
    side = mix((expected[0] % 2**64) ^ mix(7)) / 2**64
    assert abs(units.positions(units.hashes(table, ["x", "color"]), seed=7)[0] - side) < 2**-52


def test_hashes_are_the_same_for_every_release_platform_and_library_version() -> None:
    table = pd.DataFrame(
        {
            "x": [0.0, 1.5, np.nan],
            "color": pd.Series(["red", "größe", None], dtype="str"),
            "at": pd.to_datetime(["1970-01-01", "2020-02-29 12:00:00", None], format="ISO8601"),
        }
    )
    assert units.hashes(table, ["x", "color", "at"]).tolist() == [
        -7867911638885561236,
        -9179730840772818375,
        4114473310047948675,
    ]


def test_equal_values_of_other_types_are_the_same_unit() -> None:
    doubles = pd.DataFrame({"a": [1.0, 0.0, 3.0]})
    for other in (
        pd.DataFrame({"a": [1, 0, 3]}),
        pd.DataFrame({"a": np.array([1, 0, 3], dtype="uint8")}),
        pd.DataFrame({"a": np.array([1, -0.0, 3], dtype=">f4")}),
    ):
        assert units.hashes(other, ["a"]).tolist() == units.hashes(doubles, ["a"]).tolist()
    texts = pd.DataFrame({"a": pd.Series(["x", None], dtype="str")})
    for kind in ("object", "category", "string"):
        assert (
            units.hashes(texts.astype(kind), ["a"]).tolist() == units.hashes(texts, ["a"]).tolist()
        )
    times = pd.DataFrame({"a": pd.to_datetime(["2020-01-01", None])})
    for unit in ("ns", "s"):
        other = times.astype(f"datetime64[{unit}]")
        assert units.hashes(other, ["a"]).tolist() == units.hashes(times, ["a"]).tolist()


def test_every_kind_of_nan_is_one_value() -> None:
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001], dtype=np.uint64)
    hashes = units.hashes(pd.DataFrame({"a": nans.view(np.float64)}), ["a"])
    assert len(set(hashes.tolist())) == 1


def test_the_order_of_columns_does_not_matter_but_their_names_do() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]})
    assert units.hashes(table, ["a", "b"]).tolist() == units.hashes(table, ["b", "a"]).tolist()
    first, second = units.hashes(table, ["a", "b"])
    assert first != second  # (1, 2) is not (2, 1)


values = st.tuples(st.sampled_from([0.0, 1.0, 2.0, np.inf]), st.sampled_from(["a", "b", ""]))


@given(st.lists(values, min_size=1, max_size=40))
def test_rows_are_one_unit_exactly_when_their_values_are_equal(
    rows: list[tuple[float, str]],
) -> None:
    hashes = units.hashes(pd.DataFrame(rows, columns=["x", "s"]), ["x", "s"]).tolist()
    assert len(set(hashes)) == len(set(rows))
    assert len(set(zip(hashes, rows, strict=True))) == len(set(rows))


def test_near_values_spread_evenly_over_positions() -> None:
    table = pd.DataFrame({"id": np.arange(200_000)})
    for seed in (0, 1):
        counts, _ = np.histogram(units.positions(units.hashes(table, ["id"]), seed), 100, (0, 1))
        # 99 degrees of freedom: 149 is the 99.9th percentile.
        assert ((counts - 2000) ** 2 / 2000).sum() < 149
    positions = [units.positions(units.hashes(table, ["id"]), seed) for seed in (0, 1)]
    assert abs(np.corrcoef(*positions)[0, 1]) < 0.01


def test_a_text_is_the_same_unit_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pd.Series(["a", None, "b", "a", "größe", None, "b"], dtype="str")
    for column in (texts, texts.astype("category")):
        table = pd.DataFrame({"c": column})
        whole = units.hashes(table, ["c"])
        with monkeypatch.context() as patch:
            patch.setattr(units, "BLOCK", 2)
            assert units.hashes(table, ["c"]).tolist() == whole.tolist()
    assert len(units.hashes(pd.DataFrame({"c": texts.head(0)}), ["c"])) == 0
