"""The verdict on a challenger with everything that led to it, as a record and as text."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.base.refs import DecisionRef, Verdict, VersionRef
from tasks.gate.bootstrap import Improvement
from tasks.pipeline.metrics import Direction
from tasks.pipeline.schema import GateMode


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Guardrail(_Frozen):
    """A limit in addition to the comparison, with the figure and the verdict."""

    name: str
    """A metric, a slice like `color = red`, `model size` or `latency`."""
    figure: float | None = None
    limit: float
    verdict: Literal["kept", "broken", "not judged"]
    text: str

    @classmethod
    def judged(cls, name: str, figure: float, limit: float, text: str, *, kept: bool) -> Guardrail:
        """A guardrail that could be judged."""
        verdict: Literal["kept", "broken"] = "kept" if kept else "broken"
        return cls(name=name, figure=figure, limit=limit, verdict=verdict, text=text)

    @classmethod
    def threshold(cls, metric: str, value: float, limit: float, direction: Direction) -> Guardrail:
        """Kept if the metric is at the limit or better, and not if it is not a number."""
        kept = value <= limit if direction == "minimize" else value >= limit
        text = f"{metric} {value:.4g}: {keeps(kept)} the threshold {limit:.4g}."
        return cls.judged(metric, value, limit, text, kept=kept)


class Evidence(_Frozen):
    """What was measured."""

    metric: str
    opponent: str = "nothing"
    """`version 3`, or for a first model `a baseline (the mean)`."""
    test: str | None = None
    """Digest of the test part; None if nothing was compared."""
    used_before: int = 0
    """Earlier decisions on this test part."""
    test_rows: int = 0
    removed: dict[str, int] = {}
    """Number of test rows left out, by reason."""
    rows: int = 0
    units: int = 0
    guardrails: tuple[Guardrail, ...] = ()
    challenger_score: float | None = None
    opponent_score: float | None = None
    improvement: Improvement | None = None
    obstacle: str = ""
    """Why there is no improvement to judge."""


class Decision(Evidence):
    """The verdict and its evidence, as kept in the ledger and on the run."""

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
    """For a version that was logged by hand: the source of what it was trained on."""

    def ref(self, version: VersionRef) -> DecisionRef:
        """What the next task needs."""
        return DecisionRef(
            **version.model_dump(),
            verdict=self.verdict,
            promote=self.promote,
            champion=self.champion,
            reason=self.reason,
        )


def keeps(kept: bool) -> str:
    """The verb for a guardrail's text."""
    return "keeps" if kept else "breaks"


def judge(evidence: Evidence, min_improvement: float) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    broken = [rail.text for rail in evidence.guardrails if rail.verdict == "broken"]
    if broken:
        return "reject", " ".join(["A guardrail is broken.", *broken])
    gain = evidence.improvement
    if gain is None:
        return "inconclusive", evidence.obstacle
    claim = f"better than {evidence.opponent}" + (
        f" by more than {min_improvement:.4g}" if min_improvement else ""
    )
    confidence = f"with {_percent(gain.confidence)} confidence"
    if gain.lower > min_improvement:
        return "promote", f"It is {claim} in {evidence.metric}, {confidence}."
    if gain.upper < min_improvement:
        return "reject", f"It is not {claim} in {evidence.metric}, {confidence}."
    return (
        "inconclusive",
        f"It was not shown to be {claim} in {evidence.metric} {confidence}.",
    )


_TITLES: dict[Verdict, str] = {
    "promote": "passed",
    "reject": "rejected",
    "inconclusive": "not shown to be better",
}


def markdown(decision: Decision) -> str:
    """The decision as a few lines of Markdown."""
    lines = [f"# {decision.name} version {decision.version}: {_title(decision)}", ""]
    lines += [decision.reason, ""]
    lines += [f"- {line}" for line in _facts(decision)]
    return "\n".join(lines) + "\n"


def _title(decision: Decision) -> str:
    if decision.mode == "disabled":
        return "promoted without judgement"
    title = _TITLES[decision.verdict]
    return f"{title}; promoted anyway" if decision.mode == "dry_run" else title


def _facts(decision: Decision) -> list[str]:
    facts = []
    if decision.improvement is not None:
        facts += _comparison(decision, decision.improvement)
    facts += [rail.text for rail in decision.guardrails]
    if decision.test is not None:
        facts += _rows(decision)
    if decision.trained_on:
        facts.append(
            f"Logged by hand. According to {decision.trained_on}, it was not trained on test rows."
        )
    champion = "no champion" if decision.champion is None else f"version {decision.champion}"
    facts.append(f"Gate mode {decision.mode}; champion at the time: {champion}.")
    return facts


def _comparison(decision: Decision, gain: Improvement) -> list[str]:
    result = (
        f"{decision.metric} {decision.challenger_score:.4g}, {decision.opponent}: "
        f"{decision.opponent_score:.4g}. The improvement is {gain.estimate:z.4g}: more than "
        f"{gain.lower:z.4g} and less than {gain.upper:z.4g} (each with "
        f"{_percent(gain.confidence)} confidence); more than {decision.min_improvement:.4g} is "
        "needed."
    )
    widening = f"; widened ×{gain.widening:.3g} for training variance"  # noqa: RUF001
    power = (
        f"These rows would show an improvement of {decision.min_improvement + gain.detectable:.4g} "
        f"in {_percent(gain.power)} of cases (paired bootstrap, {gain.resamples} resamples of "
        f"units, seed {gain.seed}{widening if gain.widening > 1 else ''})."
    )
    return [result, power]


def _rows(decision: Decision) -> list[str]:
    removed = [f"; {rows} left out: {why}" for why, rows in decision.removed.items() if rows]
    used = decision.used_before
    rows = (
        f"{decision.rows} of {decision.test_rows} test rows used ({decision.units} units)"
        f"{''.join(removed)}."
    )
    if not used:
        return [rows, "This test part was not used for an earlier decision."]
    uses = f"{used} earlier decision{'' if used == 1 else 's'}"
    return [rows, f"This test part was used for {uses}; each makes a win by chance more likely."]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
