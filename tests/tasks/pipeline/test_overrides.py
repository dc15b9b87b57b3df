from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.base.errors import UserError
from tasks.pipeline.load import load
from tasks.pipeline.overrides import FIELDS, Overrides, parse, parse_set, resolve
from tasks.pipeline.schema import Pipeline
from tests.tasks.pipeline.conftest import VALID


@pytest.fixture
def pipeline(folder: Path) -> Pipeline:
    (folder / "small.yaml").write_text(VALID)
    return load("small")


def test_nothing_changed_is_the_same_pipeline(pipeline: Pipeline) -> None:
    assert resolve(pipeline, Overrides(force=True, snapshot="s3://data/x")) is pipeline


def test_every_parameter_reaches_its_field(pipeline: Pipeline) -> None:
    overrides = parse_set(
        [
            "trials=3",
            "slots=1",
            "seed=7",
            "algorithm=random",
            "trial_timeout=1e1",
            "timeout=60",
            'points=[{"estimator": "ridge", "alpha": 1e-1}]',
            "gate_mode=dry_run",
            "snapshot=s3://data/snapshots/1/manifest.json",
            "force=true",
        ]
    )
    changed = resolve(pipeline, overrides)

    search = changed.search
    assert (search.trials, search.slots, search.seed, search.algorithm) == (3, 1, 7, "random")
    assert (search.trial_timeout, search.timeout) == (10, 60)
    assert search.points == ({"estimator": "ridge", "alpha": 0.1},)
    assert changed.gate.mode == "dry_run"
    assert overrides.force
    assert overrides.snapshot == "s3://data/snapshots/1/manifest.json"
    same = {"trials", "slots", "seed", "algorithm", "trial_timeout", "timeout", "points"}
    assert changed.search.model_dump(exclude=same) == pipeline.search.model_dump(exclude=same)
    assert pipeline.search.trials == 40


def test_the_form_has_a_place_for_each_parameter() -> None:
    assert set(Overrides.model_fields) == {*FIELDS, "snapshot", "force"}


def test_overrides_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Overrides().trials = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(trials=0), "The 'trials' field must be at least 1. Got 0 instead."),
        (Overrides(slots=65), "The 'slots' field must be at most 64."),
        (Overrides(trial_timeout=0), "The 'trial_timeout' field must be greater than 0."),
        (Overrides(algorithm="grid"), "The 'algorithm' field must be tpe or random"),
        (
            Overrides(points=({"estimator": "rigde"},)),
            "The 'points.0.estimator' field must be one of 'linear', 'ridge'.",
        ),
    ],
)
def test_fields_are_named_as_in_the_form(
    pipeline: Pipeline, overrides: Overrides, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        resolve(pipeline, overrides)
    assert message in str(caught.value)


def test_several_wrong_parameters_come_at_once(pipeline: Pipeline) -> None:
    with pytest.raises(UserError) as caught:
        resolve(pipeline, Overrides(trials=0, slots=0))
    assert "'trials'" in str(caught.value)
    assert "'slots'" in str(caught.value)


def test_plain_values_of_a_wrong_type() -> None:
    with pytest.raises(UserError) as caught:
        parse({"trials": "many", "gate_mode": "enforced", "trails": 3})
    text = str(caught.value)
    assert "The 'trials' field must be an integer. Got 'many' instead." in text
    assert "Did you mean 'enforce'?" in text
    assert "Did you mean 'trials'?" in text


def test_what_set_cannot_read() -> None:
    with pytest.raises(UserError) as caught:
        parse_set(["trails=4", "slots", "seed=1", "seed=2", "points=[", "timeout=long"])
    text = str(caught.value)
    assert "Did you mean 'trials'?" in text
    assert "must be NAME=VALUE. Got 'slots' instead." in text
    assert "The 'seed' field must be given once." in text
    assert "The 'points' field must be valid YAML" in text
    assert "The 'timeout' field must be a number. Got 'long' instead." in text


def test_an_empty_value_leaves_the_field(pipeline: Pipeline) -> None:
    assert parse_set(["trials="]).trials is None
