from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

from tasks.base.errors import UserError
from tasks.data import split, units
from tasks.pipeline.schema import Pipeline, Split

MakePipeline = Callable[..., Pipeline]

rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=60)


def side_of_unit(table: pd.DataFrame, settings: Split) -> dict[int, int]:
    """Each unit's side; fails if a unit is on two."""
    hashes = units.hashes(table, ["a", "b"])
    pairs = set(
        zip(hashes.tolist(), split.sides(table, hashes, settings, "a").tolist(), strict=True)
    )
    assert len(pairs) == len(set(hashes.tolist())), "a unit is on two sides"
    return dict(pairs)


@given(before=rows, added=rows, shuffled=st.randoms(use_true_random=False), seed=st.integers(0, 99))
def test_no_unit_changes_side_when_rows_are_added_and_shuffled(
    before, added, shuffled, seed
) -> None:
    settings = Split(seed=seed, test=0.3, validation=0.3)
    after = [*before, *added]
    shuffled.shuffle(after)
    old = side_of_unit(pd.DataFrame(before, columns=["a", "b"]), settings)
    new = side_of_unit(pd.DataFrame(after, columns=["a", "b"]), settings)
    assert old.items() <= new.items()


@given(before=rows, times=st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_time_keeps_units_whole_and_training_rows_older_than_test_units(before, times) -> None:
    settings = Split(method="time", column="at", test=0.3, validation=0.2)
    table = pd.DataFrame(before, columns=["a", "b"])
    stamps = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(times[: len(table)], unit="D"))
    table["at"] = stamps
    sides = side_of_unit(table, settings)
    hashes = units.hashes(table, ["a", "b"])
    newest = table.groupby(hashes)["at"].max()
    by_side = [newest[[unit for unit, side in sides.items() if side == s]] for s in (0, 1, 2)]
    for older, newer in ((0, 1), (1, 2), (0, 2)):
        if len(by_side[older]) and len(by_side[newer]):
            assert by_side[older].max() < by_side[newer].min()  # ties are together


def test_time_gives_the_requested_fractions() -> None:
    table = pd.DataFrame({"a": range(100), "at": pd.date_range("2024-01-01", periods=100)})
    settings = Split(method="time", column="at", test=0.25, validation=0.1)
    sides = split.sides(table, units.hashes(table, ["a"]), settings, "a")
    assert sides.tolist() == [0] * 65 + [1] * 10 + [2] * 25


def test_hash_gives_about_the_requested_fractions() -> None:
    table = pd.DataFrame({"a": np.arange(50_000)})
    sides = split.sides(table, units.hashes(table, ["a"]), Split(test=0.2, validation=0.1), "a")
    assert np.bincount(sides) / 50_000 == pytest.approx([0.7, 0.1, 0.2], abs=0.006)


def test_another_validation_fraction_moves_no_unit_into_or_out_of_the_test_part() -> None:
    table = pd.DataFrame({"a": np.arange(2_000)})
    hashes = units.hashes(table, ["a"])
    sides = [split.sides(table, hashes, Split(validation=share), "a") for share in (0.0, 0.1, 0.4)]
    assert (sides[0] == 2).tolist() == (sides[1] == 2).tolist() == (sides[2] == 2).tolist()


def test_random_reproduces_published_figures(caplog: pytest.LogCaptureFixture) -> None:
    table = load_diabetes(as_frame=True, scaled=False).frame
    names = [name for name in table.columns if name != "target"]
    with caplog.at_level(logging.WARNING):
        sides = split.sides(
            table,
            units.hashes(table, names),
            Split(method="random", test=0.3, validation=0.0, seed=0),
            "target",
        )
    assert "two parts" in caplog.text
    train = table[sides == 0]
    linear = LinearRegression().fit(train[names], train.target)
    tree = DecisionTreeRegressor(max_depth=5, random_state=0).fit(train[names], train.target)
    assert round(linear.score(train[names], train.target), 4) == 0.5539
    assert round(tree.score(train[names], train.target), 4) == 0.7321


@pytest.mark.parametrize(
    ("groups", "warning"),
    [
        ([], "figures do: equal rows may be in two parts, and a row may change its part when the"),
        (["y"], "figures do: a row may change its part when the"),
    ],
)
def test_random_warns_of_its_risks(
    groups: list[str], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    table, hashes = pd.DataFrame({"y": range(100)}), np.arange(100)
    settings = Split(method="random", test=0.2, groups=groups)

    with caplog.at_level(logging.WARNING):
        split.sides(table, hashes, settings, "y")

    assert warning in caplog.text


def test_random_is_scikit_learns_shuffle_with_validation_from_the_rest() -> None:
    settings = Split(method="random", test=0.2, validation=0.2, seed=3)
    table, hashes = pd.DataFrame({"y": range(100)}), np.arange(100)
    sides = split.at_random(table, hashes, settings, "y")
    rest, test = train_test_split(np.arange(100), test_size=0.2, random_state=3)
    assert sorted(np.flatnonzero(sides == 2)) == sorted(test)
    _, validation = train_test_split(rest, test_size=0.25, random_state=3)
    assert sorted(np.flatnonzero(sides == 1)) == sorted(validation)
    order = split.shuffled(table, hashes, settings, "y")
    assert order[-20:].tolist() == list(test)
    assert order[60:80].tolist() == list(validation)
    with pytest.raises(UserError, match="The 1 rows cannot be split"):
        split.at_random(table[:1], hashes[:1], settings, "y")


def check(make: MakePipeline, target: list[object], sides: list[int], **parts: object) -> None:
    table = pd.DataFrame({"y": target})
    hashes = np.arange(len(target))
    split.check(make(**parts), table, hashes, np.array(sides, dtype=np.int8))


def test_parts_must_have_what_later_steps_need(make_pipeline: MakePipeline) -> None:
    check(make_pipeline, [1, 2, 3, 4], [0, 0, 1, 2])
    with pytest.raises(UserError, match=r"none of its 4 units is in the test part"):
        check(make_pipeline, [1, 2, 3, 4], [0, 0, 1, 1])
    with pytest.raises(UserError, match=r"units is in the validation part"):
        check(make_pipeline, [1, 2, 3, 4], [0, 0, 2, 2])
    whole = {"validation": 0}
    check(make_pipeline, [1, 2, 3, 4], [0, 0, 2, 2], split=whole)
    with pytest.raises(UserError, match=r"only one value in the training part: 1"):
        check(make_pipeline, [1, 1, 3, 4], [0, 0, 1, 2])
    folds = {"resampling": {"folds": 3}}
    with pytest.raises(UserError, match=r"2 units, too few for 3 folds"):
        check(make_pipeline, [1, 2, 3, 4], [0, 0, 2, 2], search=folds, split=whole)
    with pytest.raises(UserError, match=r"classes without a unit in the training part: \[3\]"):
        check(make_pipeline, [1, 2, 2, 3], [0, 0, 1, 2], data={"task": "multiclass"})


@pytest.fixture
def rare() -> pd.DataFrame:
    """600 rows, one in ten of class 1; 150 patients with about four rows, all of one class."""
    generator = np.random.default_rng(0)
    patient = generator.integers(0, 150, 600)
    return pd.DataFrame({"patient": patient, "y": (patient % 10 == 0).astype(int)})


def shares(table: pd.DataFrame, sides: np.ndarray) -> list[float]:
    return [float(table["y"][sides == side].mean()) for side in (0, 1, 2)]


def test_stratified_rows_are_scikit_learns(rare: pd.DataFrame) -> None:
    settings = Split(method="random", stratify=True, test=0.25, validation=0.0, seed=5)
    _, test = train_test_split(
        np.arange(len(rare)), test_size=0.25, random_state=5, stratify=rare["y"]
    )

    sides = split.sides(rare, units.hashes(rare, ["patient"]), settings, "y")

    assert sorted(np.flatnonzero(sides == 2)) == sorted(test)


def test_stratified_parts_have_their_share_of_each_class(rare: pd.DataFrame) -> None:
    settings = Split(method="random", stratify=True, test=0.2, validation=0.2)
    plain = settings.model_copy(update={"stratify": False})
    hashes = units.hashes(rare, ["patient"])
    share = float(rare["y"].mean())

    sides = split.sides(rare, hashes, settings, "y")

    assert shares(rare, sides) == pytest.approx([share] * 3, abs=0.005)
    assert shares(rare, split.sides(rare, hashes, plain, "y")) != pytest.approx(
        [share] * 3, abs=0.01
    )


@pytest.mark.parametrize("stratify", [False, True])
def test_random_keeps_groups_whole(rare: pd.DataFrame, stratify: bool) -> None:
    settings = Split(
        method="random", groups=("patient",), stratify=stratify, test=0.2, validation=0.2
    )
    hashes = units.hashes(rare, ["patient"])

    sides = split.sides(rare, hashes, settings, "y")

    assert (
        rare.groupby("patient")
        .apply(lambda rows: sides[rows.index].tolist())
        .map(set)
        .map(len)
        .eq(1)
        .all()
    )
    assert np.bincount(sides) / len(rare) == pytest.approx([0.6, 0.2, 0.2], abs=0.04)
    if stratify:
        assert shares(rare, sides) == pytest.approx([rare["y"].mean()] * 3, abs=0.03)


def test_too_few_of_a_class_to_stratify() -> None:
    table = pd.DataFrame({"a": range(9), "y": [0] * 8 + [1]})
    settings = Split(method="random", stratify=True)
    with pytest.raises(UserError, match="cannot be split at random") as caught:
        split.sides(table, units.hashes(table, ["a"]), settings, "y")
    assert "least populated class" in caught.value.why


@pytest.mark.parametrize("rows_each", [1, 5])
def test_stratified_folds_of_whole_units(rows_each: int) -> None:
    hashes = np.repeat(np.arange(200), rows_each)
    classes = (hashes % 8 == 0).astype(np.intp)

    fold = split.stratified_folds(hashes, classes, 5, seed=2)

    assert all(len(set(fold[hashes == unit])) == 1 for unit in range(200))
    assert [float(classes[fold == k].mean()) for k in range(5)] == [0.125] * 5
    assert fold.tolist() == split.stratified_folds(hashes, classes, 5, seed=2).tolist()
    assert fold.tolist() != split.stratified_folds(hashes, classes, 5, seed=3).tolist()


def test_a_small_stratified_part_of_groups_is_a_twentieth(rare: pd.DataFrame) -> None:
    settings = Split(method="random", groups=("patient",), stratify=True, test=0.01, validation=0.0)
    sides = split.sides(rare, units.hashes(rare, ["patient"]), settings, "y")
    assert (sides == 2).mean() == pytest.approx(0.05, abs=0.02)
