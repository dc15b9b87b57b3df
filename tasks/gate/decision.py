"""The verdict on a challenger, with everything that led to it, for machines and in words."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from tasks.base.refs import DecisionRef, Verdict, VersionRef
from tasks.gate.bootstrap import Improvement
from tasks.pipeline.metrics import Direction
from tasks.pipeline.schema import GateMode


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Guardrail(_Frozen):
    """A limit beside the comparison, with what was found."""

    name: str
    """A metric, `color = red`, `model size` or `latency`."""
    figure: float | None = None
    limit: float
    verdict: Literal["kept", "broken", "not judged"]
    words: str

    @classmethod
    def judged(cls, name: str, figure: float, limit: float, words: str, *, kept: bool) -> Guardrail:
        """One that could be judged."""
        verdict: Literal["kept", "broken"] = "kept" if kept else "broken"
        return cls(name=name, figure=figure, limit=limit, verdict=verdict, words=words)

    @classmethod
    def threshold(cls, metric: str, value: float, limit: float, direction: Direction) -> Guardrail:
        """Kept by a metric at the limit or better; by one that is no number it is not."""
        kept = value <= limit if direction == "minimize" else value >= limit
        does = "keeps" if kept else "breaks"
        said = f"{metric} {value:.4g}: {does} the threshold {limit:.4g}."
        return cls.judged(metric, value, limit, said, kept=kept)


class Evidence(_Frozen):
    """What was measured."""

    metric: str
    opponent: str = "nothing"
    """`version 3`, or `a baseline (the mean)` for a first model."""
    test: str | None = None
    """Digest of the test part; none when nothing was compared."""
    used_before: int = 0
    """Decisions that were made on this test part earlier."""
    test_rows: int = 0
    removed: dict[str, int] = {}
    """Test rows left out, by the reason."""
    rows: int = 0
    units: int = 0
    guardrails: tuple[Guardrail, ...] = ()
    challenger_score: float | None = None
    opponent_score: float | None = None
    improvement: Improvement | None = None
    obstacle: str = ""
    """Why there is no improvement to judge."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, found: Any) -> Any:
        """Decisions that the ledger had before there were other guardrails than thresholds."""
        if isinstance(found, dict) and "thresholds" in found:
            found = dict(found)
            found["guardrails"] = [Guardrail.threshold(**one) for one in found.pop("thresholds")]
        return found


class Decision(Evidence):
    """The verdict, as the ledger and the run keep it."""

    name: str
    run_id: str
    version: int
    champion: int | None
    mode: GateMode
    min_improvement: float
    verdict: Verdict
    reason: str
    promote: bool
    trained_on: str = ""
    """Of a version that was logged by hand: how it is known what it was trained on."""

    def ref(self, version: VersionRef) -> DecisionRef:
        """What the next task needs of it."""
        return DecisionRef(
            **version.model_dump(),
            verdict=self.verdict,
            promote=self.promote,
            champion=self.champion,
            reason=self.reason,
        )


def judge(found: Evidence, min_improvement: float) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    broken = [one.words for one in found.guardrails if one.verdict == "broken"]
    if broken:
        return "reject", " ".join(["A guardrail does not hold.", *broken])
    gain = found.improvement
    if gain is None:
        return "inconclusive", found.obstacle
    claim = f"better than {found.opponent}" + (
        f" by more than {min_improvement:.4g}" if min_improvement else ""
    )
    sure = f"with {_percent(gain.confidence)} confidence"
    if gain.lower > min_improvement:
        return "promote", f"It is {claim} in {found.metric}, {sure}."
    if gain.upper < min_improvement:
        return "reject", f"It is not {claim} in {found.metric}, {sure}."
    return "inconclusive", f"That it is {claim} in {found.metric} was not shown {sure}."


_TITLES: dict[Verdict, str] = {
    "promote": "passed",
    "reject": "rejected",
    "inconclusive": "not shown to be better",
}


def words(decision: Decision) -> str:
    """The decision as a few lines of Markdown."""
    lines = [f"# {decision.name} version {decision.version}: {_title(decision)}", ""]
    lines += [decision.reason, ""]
    lines += [f"- {line}" for line in _facts(decision)]
    return "\n".join(lines) + "\n"


def _title(decision: Decision) -> str:
    if decision.mode == "disabled":
        return "promoted unjudged"
    title = _TITLES[decision.verdict]
    return f"{title}; promoted all the same" if decision.mode == "dry_run" else title


def _facts(decision: Decision) -> list[str]:
    facts = []
    if decision.improvement is not None:
        facts += _comparison(decision, decision.improvement)
    facts += [one.words for one in decision.guardrails]
    if decision.test is not None:
        facts += _rows(decision)
    if decision.trained_on:
        facts.append(
            f"Logged by hand; by {decision.trained_on} it was trained on no row of the test part."
        )
    champion = "no champion" if decision.champion is None else f"version {decision.champion}"
    facts.append(f"Gate mode {decision.mode}; champion at the time: {champion}.")
    return facts


def _comparison(decision: Decision, gain: Improvement) -> list[str]:
    result = (
        f"{decision.metric} {decision.challenger_score:.4g} against {decision.opponent_score:.4g} "
        f"of {decision.opponent}: an improvement of {gain.estimate:z.4g}, above {gain.lower:z.4g} "
        f"and below {gain.upper:z.4g} (each with {_percent(gain.confidence)} confidence); "
        f"above {decision.min_improvement:.4g} is needed."
    )
    power = (
        f"The smallest improvement that these rows show in {_percent(gain.power)} of cases: "
        f"{decision.min_improvement + gain.detectable:.4g} (paired bootstrap, "
        f"{gain.resamples} resamples of units, seed {gain.seed}"
        + (
            f"; {gain.widening:.3g} times as wide for the luck of a training)."
            * (gain.widening > 1)
            or ")."
        )
    )
    return [result, power]


def _rows(decision: Decision) -> list[str]:
    removed = [f"{rows} left out: {why}" for why, rows in decision.removed.items() if rows]
    used = decision.used_before
    return [
        f"{decision.rows} of {decision.test_rows} test rows used ({decision.units} units)"
        + (f"; {'; '.join(removed)}." if removed else "."),
        f"This test part was used for {used} decision{'' if used == 1 else 's'} before; each use "
        "makes a win by chance likelier."
        if used
        else "This test part was not used for a decision before.",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
