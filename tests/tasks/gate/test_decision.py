from __future__ import annotations

import math
from typing import Any

import pytest

from tasks.base.refs import VersionRef
from tasks.gate.bootstrap import Improvement
from tasks.gate.decision import Decision, Evidence, Guardrail, judge, markdown


def gain(lower: float, upper: float) -> Improvement:
    return Improvement(
        estimate=(lower + upper) / 2,
        lower=lower,
        upper=upper,
        standard_error=1,
        detectable=2.49,
        power=0.9,
        confidence=0.95,
        widening=1.118,
        resamples=2000,
        seed=7,
    )


def evidence(**fields: Any) -> Evidence:
    known = {"metric": "rmse", "opponent": "version 3", "improvement": gain(1, 3)}
    return Evidence(**known | fields)


def threshold(value: float, direction: Any = "minimize", limit: float = 70) -> Guardrail:
    return Guardrail.threshold("m", value, limit, direction)


def decision(**fields: Any) -> Decision:
    known = {
        "metric": "rmse",
        "opponent": "version 3",
        "test": "abc",
        "used_before": 2,
        "test_rows": 100,
        "rows": 89,
        "units": 80,
        "removed": {"the champion was trained on their unit": 11, "nothing": 0},
        "guardrails": (threshold(54.2),),
        "challenger_score": 54.2,
        "opponent_score": 56.2,
        "improvement": gain(1, 3),
        "name": "wine",
        "run_id": "r",
        "version": 4,
        "champion": 3,
        "mode": "enforce",
        "min_improvement": 0.5,
        "verdict": "promote",
        "reason": "It is better.",
        "promote": True,
    }
    return Decision(**known | fields)


@pytest.mark.parametrize(
    ("lower", "upper", "needed", "verdict"),
    [
        (0.1, 2, 0, "promote"),
        (0.0, 2, 0, "inconclusive"),
        (0.0, 0.0, 0, "inconclusive"),
        (0.1, 2, 0.5, "inconclusive"),
        (-3, -0.1, 0, "reject"),
        (0.1, 0.4, 0.5, "reject"),
        (-3, 2, 0, "inconclusive"),
    ],
)
def test_the_bounds_decide(lower: float, upper: float, needed: float, verdict: str) -> None:
    decided, reason = judge(evidence(improvement=gain(lower, upper)), needed)
    assert decided == verdict
    assert "version 3" in reason
    assert "95 %" in reason


def test_a_broken_threshold_rejects_even_the_better_model() -> None:
    verdict, reason = judge(evidence(guardrails=(threshold(60), threshold(80))), 0)
    assert verdict == "reject"
    assert "m 80: breaks the threshold 70." in reason
    assert "60" not in reason


def test_a_broken_threshold_rejects_if_nothing_could_be_compared() -> None:
    measured = evidence(improvement=None, obstacle="too few", guardrails=(threshold(80),))
    assert judge(measured, 0)[0] == "reject"


def test_an_obstacle_is_never_a_win() -> None:
    measured = evidence(improvement=None, obstacle="Too few rows.", guardrails=(threshold(1),))
    assert judge(measured, 0) == ("inconclusive", "Too few rows.")


def test_thresholds_are_inclusive_and_follow_the_direction() -> None:
    assert threshold(70).verdict == "kept"
    assert threshold(70.1).verdict == "broken"
    assert threshold(70, "maximize").verdict == "kept"
    assert threshold(69.9, "maximize").verdict == "broken"
    assert threshold(math.nan).verdict == "broken"
    assert threshold(math.nan, "maximize").verdict == "broken"


def test_what_could_not_be_judged_breaks_nothing() -> None:
    unknown = Guardrail(name="latency", limit=1, verdict="not judged", text="latency: not judged.")
    assert judge(evidence(guardrails=(unknown,)), 0)[0] == "promote"
    assert "- latency: not judged." in markdown(decision(guardrails=(unknown,)))


def test_a_decision_survives_json() -> None:
    assert Decision.model_validate_json(decision().model_dump_json()) == decision()


def test_the_reference_names_the_champion_of_the_comparison() -> None:
    version = VersionRef(name="wine", run_id="r", pipeline_uri="p", snapshot_uri="s", version=4)
    ref = decision().ref(version)
    assert (ref.champion, ref.verdict, ref.promote, ref.version) == (3, "promote", True, 4)


def test_the_text_answers_what_a_person_asks() -> None:
    text = markdown(decision())
    assert text.startswith("# wine version 4: passed\n")
    for part in (
        "rmse 54.2, version 3: 56.2. The improvement is 2: more than 1 and less than 3",
        "each with 95 % confidence); more than 0.5 is needed.",
        "an improvement of 2.99 in 90 % of cases",
        "2000 resamples of units, seed 7; widened ×1.12 for training variance)",  # noqa: RUF001
        "m 54.2: keeps the threshold 70.",
        "89 of 100 test rows used (80 units); 11 left out: the champion was trained on their unit.",
        "used for 2 earlier decisions",
        "champion at the time: version 3",
    ):
        assert part in text
    assert "nothing" not in text
    assert len(text.splitlines()) < 12


def test_the_title_of_the_other_modes_is_honest() -> None:
    dry_run = decision(mode="dry_run", verdict="reject")
    assert "rejected; promoted anyway" in markdown(dry_run)
    unjudged = decision(mode="disabled", verdict="inconclusive", test=None, improvement=None)
    text = markdown(unjudged)
    assert "promoted without judgement" in text
    assert "test rows used" not in text


def test_no_difference_has_no_sign() -> None:
    equal = decision(improvement=gain(-0.0, -0.0))
    assert "improvement is 0: more than 0 and less than 0" in markdown(equal)
