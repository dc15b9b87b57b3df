"""`./mlops history`, `rollback`, `leaderboard`: decisions and trials of a pipeline."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tasks.base.commands import typed
from tasks.base.errors import MlopsError, UserError
from tasks.cli.console import err, out

if TYPE_CHECKING:
    from tasks.records.ledger import Entry
    from tasks.records.trials.leaderboard import Leaderboard

Name = Annotated[str, typer.Argument(help="the pipeline")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (leaderboard, history, rollback):
        app.command()(command)


def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="entries to show")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show a pipeline's decisions, promotions, rollbacks and deployments, newest first."""
    entries = _history(name, limit)
    if as_json:
        out.print_json(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    if not entries:
        out.print(f"{name} has no history yet.", highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("when", "what", "versions", "who", "why"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        when = entry.at.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        table.add_row(
            when, _what(entry), _versions(entry), escape(entry.actor), escape(entry.reason)
        )
    out.print(table)


def rollback(
    name: Name,
    reason: Annotated[str, typer.Option(help="for the record")],
    to: Annotated[
        int | None,
        typer.Option(min=1, help="version to go back to; default: the previous one"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version champion again. The endpoint switches without dropping a request."""
    from tasks.clients.tracking import answering
    from tasks.records.champion import rollback as work

    _history(name, limit=1)
    with answering():
        marks = work(name, to, reason, _user())
    deploying = _deploy(name)
    if as_json:
        out.print_json(json.dumps(marks | {"deploying": deploying}))
        return
    out.print(f"The champion of {name} is version {marks['champion']}.", highlight=False)
    if deploying:
        out.print(f"deploy__{name} updates the endpoint: see {typed('status')}", highlight=False)


def leaderboard(
    name: Name,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="write every trial to a file", dir_okay=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="trials to show")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the finished trials of a pipeline's newest run, best first."""
    from tasks.clients.tracking import answering, impatient
    from tasks.pipeline.load import known
    from tasks.records.trials.leaderboard import newest

    with impatient(), answering():
        board = newest(known(name))
    rows = board.lines()
    if csv_file is not None:
        _write(csv_file, rows)
    if as_json:
        out.print_json(json.dumps(rows))
    elif not rows:
        out.print("No trial has finished yet.")
    elif csv_file is None:
        out.print(_table(board, limit))
    else:
        out.print(f"{len(rows)} trials written to {csv_file}", highlight=False)


def _history(name: str, limit: int) -> list[Entry]:
    """The ledger's entries. A name without any must at least be a pipeline's."""
    from tasks.pipeline.load import known
    from tasks.records import ledger

    return ledger.history(name, limit) or ledger.history(known(name), limit)


def _what(entry: Entry) -> str:
    if entry.kind == "decision":
        return f"decision: {entry.evidence['verdict']}"
    move = entry.evidence.get("kind")
    return f"{move} {entry.kind}" if move else entry.kind


def _versions(entry: Entry) -> str:
    return " → ".join(
        "none" if v is None else str(v) for v in (entry.from_version, entry.to_version)
    )


def _deploy(name: str) -> bool:
    """Start the reconciliation now; without Airflow, the next scheduled one does it."""
    from tasks.clients.orchestrator import Airflow

    try:
        Airflow().trigger(f"deploy__{name}", note="by ./mlops rollback")
    except MlopsError as error:
        err.print(
            f"The alias was moved, but deploy__{name} could not be started: {escape(error.what)}",
            highlight=False,
        )
        return False
    return True


def _user() -> str:
    """Who calls, for the ledger."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    from tasks.records.trials.leaderboard import write_csv

    try:
        with file.open("w", newline="", encoding="utf-8") as stream:
            write_csv(stream, rows)
    except OSError as error:
        raise UserError(f"{file} cannot be written.", why=str(error)) from error


def _table(board: Leaderboard, limit: int) -> Table:
    from tasks.records.trials.table import shown

    training = f"training_{board.metric}"
    table = Table(box=None, pad_edge=False)
    for title in ("rank", "trial"):
        table.add_column(title, justify="right")
    table.add_column("estimator")
    for title in (f"val_{board.metric}", training, "seconds"):
        table.add_column(title, justify="right")
    table.add_column("parameters", overflow="fold")
    for rank, trial in enumerate(board.trials[:limit], 1):
        params = ", ".join(f"{name}={shown(value)}" for name, value in trial.own.items())
        table.add_row(
            str(rank),
            str(trial.tid),
            trial.family,
            f"{trial.score:.5g}",
            f"{trial.metrics[training]:.5g}" if training in trial.metrics else "",
            f"{trial.duration_s:.2f}",
            escape(params),
        )
    left = len(board.trials) - limit
    if left > 0:
        table.caption = f"and {left} more: --limit, --csv FILE"
    return table
