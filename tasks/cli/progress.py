"""Live progress of a DAG run, and its outcome."""

from __future__ import annotations

from typing import Any

from rich.live import Live
from rich.text import Text

from tasks.base.errors import UnavailableError
from tasks.cli.console import out
from tasks.clients.orchestrator import Airflow, TaskState

STAGES = ("prepare", "search", "select", "evaluate", "gate", "build", "promote", "finish")
REGISTER = ("register", "gate", "build", "promote")
"""Stages of a run that was logged by hand."""
GOOD = frozenset({"success", "skipped"})


class Progress:
    """One line to follow: the stages, and the trials of the search."""

    def __init__(self, dag_id: str, run_id: str, stages: tuple[str, ...] = STAGES) -> None:
        self.dag_id, self.run_id, self.stages = dag_id, run_id, stages
        self.airflow = Airflow()
        self.line = Text("queued")
        self._parent: str | None = None

    def update(self) -> None:
        """Ask Airflow and update the line; during an outage the line says so."""
        try:
            tasks = self.airflow.tasks(self.dag_id, self.run_id)
            self.line = _stages(tasks, self.stages)
            if any(task.task == "search" and task.state == "running" for task in tasks):
                self.line.append("   " + self._trials(), style="cyan")
            for stage in dict.fromkeys(t.task for t in tasks if t.state == "up_for_retry"):
                self.line.append(f"   {stage} failed and will be retried soon", style="yellow")
            if not any(task.state for task in tasks):
                self.line.append(self._queue(), style="yellow")
        except UnavailableError:
            self.line = Text("waiting for the stack to answer …", style="yellow")

    def _queue(self) -> str:
        """The run that this one waits for: a pipeline runs one at a time."""
        if self.stages != STAGES or self.airflow.run_state(self.dag_id, self.run_id) != "queued":
            return ""
        first = self.airflow.active_run(self.dag_id)
        return f"   waits for {first} to end" if first not in (None, self.run_id) else ""

    def _trials(self) -> str:
        from tasks.records.trials.progress import summary

        if self._parent is None:
            slots = self.airflow.xcom(self.dag_id, self.run_id, "prepare")
            self._parent = slots[0]["slot"]["run_id"]
        trials = summary(self._parent)
        best = "" if trials.best is None else f", best so far {trials.best.score:.5g}"
        return f"{trials.recorded} trials done{best}"


def _stages(tasks: list[TaskState], stages: tuple[str, ...]) -> Text:
    line = Text()
    for stage in stages:
        states = {task.state for task in tasks if task.task == stage}
        if "failed" in states:
            mark, style = "✗", "red"
        elif states and states <= GOOD:
            mark, style = ("-", "dim") if "skipped" in states else ("✓", "green")
        elif states & {"running", "success", "up_for_retry", "restarting"}:
            mark, style = "▸", "bold"
        else:
            mark, style = "·", "dim"
        line.append(f"{mark} {stage}  ", style=style)
    return line


def follow(
    dag_id: str, run_id: str, *, quiet: bool = False, stages: tuple[str, ...] = STAGES
) -> str:
    """Show a DAG run's progress until it ends; returns its state."""
    progress = Progress(dag_id, run_id, stages)
    if quiet:
        return progress.airflow.wait(dag_id, run_id)
    if out.is_terminal:
        with Live(progress.line, console=out, refresh_per_second=4) as live:

            def show() -> None:
                progress.update()
                live.update(progress.line)

            return progress.airflow.wait(dag_id, run_id, show)
    printed = ""

    def report() -> None:
        nonlocal printed
        progress.update()
        if progress.line.plain != printed:
            printed = progress.line.plain
            out.print(printed, markup=False, highlight=False)

    return progress.airflow.wait(dag_id, run_id, report)


def outcome(dag_id: str, run_id: str, state: str) -> dict[str, Any]:
    """The outcome of a finished DAG run: `text` in words, and its figures."""
    airflow = Airflow()
    failed = [task for task in airflow.tasks(dag_id, run_id) if task.state == "failed"]
    if state != "success" and not failed:
        return {"text": "stopped by hand", "failed": "no task", "error": "It was stopped by hand."}
    if state != "success":
        log = "\n".join(airflow.log_tail(dag_id, run_id, failed[0]))
        return {"text": f"{failed[0].task} failed", "failed": failed[0].task, "error": log}
    unchanged = airflow.xcom(dag_id, run_id, "prepare", "unchanged")
    if unchanged:
        return {
            "text": f"Version {unchanged['version']} stays champion: {unchanged['reason']}.",
            "unchanged": True,
            "champion": unchanged["version"],
        }
    decision = airflow.xcom(dag_id, run_id, "gate")
    promoted = airflow.xcom(dag_id, run_id, "promote")
    champion = decision["version"] if promoted else decision["champion"]
    return {
        "text": _words(decision["run_id"]),
        "run": decision["run_id"],
        "version": decision["version"],
        "verdict": decision["verdict"],
        "promoted": bool(promoted),
        "champion": champion,
    }


def _words(run_id: str) -> str:
    """The gate's decision on a run as text, from the ledger."""
    from tasks.gate.decision import Decision, markdown
    from tasks.records import ledger

    entry = ledger.find(f"decision:{run_id}")
    return "" if entry is None else markdown(Decision.model_validate(entry.evidence)).strip("# \n")
