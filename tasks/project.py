"""The entry points of `MLproject`: the chain's steps as programs, without Airflow.

`mlflow run` makes a run of its own for each call, and closes it. It is the record of the call, and
names by a tag the parent run that the call worked on: that is in the pipeline's experiment, and is
what a DAG run makes, with the same children and figures. Its tag `mlops.dag_run` says who
made it: `mlproject/ID` in place of the DAG run, so a call that is repeated goes on where it ended.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from tasks.base.errors import MlopsError, RunFailedError, UserError
from tasks.base.refs import RunRef, SlotRef
from tasks.base.settings import REPOSITORY, settings

WHO = "mlproject"

Pipeline = Annotated[str, typer.Option(help="the pipeline's name")]
Model = Annotated[str, typer.Option(help="a version or an alias, or a run that logged a model")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
takes_overrides = app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)


@takes_overrides
def prepare(context: typer.Context, pipeline: Pipeline) -> None:
    """Make the snapshot and the parent run, which `search` and `train` go on with."""
    from tasks.prepare import prepare as work

    overrides = _overrides(context)
    with _call(pipeline) as who:
        prepared = work(pipeline, who, overrides)
        if prepared.slots:
            run = prepared.slots[0].run
            _tell(run=run.run_id, snapshot=run.snapshot)
        else:
            _tell(unchanged=prepared.unchanged, reason=prepared.reason)


@app.command()
def search(run: Annotated[str, typer.Option(help="the parent run that `prepare` made")]) -> None:
    """Run the trials of a parent run, and choose the best."""
    from tasks.select import select

    with _going_on(run) as reference:
        _search(reference)
        best = select(reference)
        _tell(run=run, trial=best.trial, trial_run=best.trial_run_id)


@takes_overrides
def train(
    context: typer.Context,
    pipeline: Pipeline,
    run: Annotated[str, typer.Option(help="a parent run to go on with; else a new one")] = "",
) -> None:
    """From data to a registered challenger; `./mlops register` takes it to gate and promotion."""
    from tasks.prepare import prepare as work

    overrides = _overrides(context)
    if run:
        if context.args:
            raise UserError("A run that is there cannot be changed.", why=" ".join(context.args))
        with _going_on(run, pipeline) as reference:
            _train(reference)
        return
    with _call(pipeline) as who:
        prepared = work(pipeline, who, overrides)
        if prepared.slots:
            _train(prepared.slots[0].run)
        else:
            _tell(unchanged=prepared.unchanged, reason=prepared.reason)


@app.command()
def evaluate(
    pipeline: Pipeline,
    model: Model = "champion",
    part: Annotated[str, typer.Option(help="of the snapshot")] = "test",
    snapshot: Annotated[str, typer.Option(help="URI of a manifest; else the version's own")] = "",
) -> None:
    """Every metric of a logged model on a part of a snapshot."""
    from tasks.clients import tracking
    from tasks.prepare.make import make_snapshot
    from tasks.score import measure

    _check_servers()
    found = measure(pipeline, model, part, snapshot or None, make_snapshot=make_snapshot)
    if settings().project_run:
        for metric, value in found.figures.items():
            tracking.client().log_metric(settings().project_run, metric, value)
    _tell(**asdict(found))


@app.command()
def score(
    pipeline: Pipeline,
    source: Annotated[Path, typer.Option("--input", help="CSV, Parquet or JSON lines")],
    target: Annotated[Path, typer.Option("--output", help="the same kinds")],
    model: Model = "champion",
) -> None:
    """Write the rows of a file with a prediction for each."""
    from tasks.score import score as work

    _check_servers()
    found = work(pipeline, source, target, model)
    _tell(model=found.model, rows=found.rows, output=str(found.target))


@app.command(hidden=True)
def slot(parent: int, reference: str) -> None:
    """One slot of a search, for the process that waits for it."""
    from tasks.base.process import die_with_parent
    from tasks.search import search as work

    die_with_parent(parent)
    work(SlotRef.model_validate_json(reference))


def main() -> None:
    """Run an entry point; our own errors become a message and an exit code."""
    from tasks.cli.console import err, show

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `mlflow run` passes Ctrl-C on so
    try:
        app(prog_name="python -m tasks.project")
    except MlopsError as error:
        show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("\nstopped")
        sys.exit(130)


def _overrides(context: typer.Context) -> Any:
    """`--trials 12`, which `mlflow run -P trials=12` makes, as the overrides of a run."""
    from tasks.pipeline.overrides import parse_set

    names, values = context.args[::2], context.args[1::2]
    wrong = [name for name in names if not name.startswith("--")]
    if wrong or len(names) != len(values):
        raise UserError(f"An override must be --NAME VALUE. Got {' '.join(context.args)} instead.")
    return parse_set(
        f"{name[2:].replace('-', '_')}={value}" for name, value in zip(names, values, strict=True)
    )


def _check_servers() -> None:
    """`mlflow run` outside the stack's environment gives its children a server of its own."""
    where = settings().tracking_uri
    if where and not where.startswith("http"):
        raise UserError(
            f"MLflow keeps its runs in {where}, not on the stack's server.",
            fix='Name that server before `mlflow run`: eval "$(./mlops env)"',
        )


@contextmanager
def _call(name: str, who: str = "") -> Iterator[str]:
    """Who makes or made the parent run; one at a time, and closed whatever happens."""
    from tasks.clients import database
    from tasks.finish import finish, sweep
    from tasks.pipeline.load import known

    _check_servers()
    who = who or f"{WHO}/{settings().project_run or uuid4().hex}"
    with database.locked(f"{WHO}/{known(name)}", wait_s=1):
        sweep(name, who)
        done = False
        try:
            yield who
            done = True
        finally:
            _link(name, who)
            finish(name, who, failed=not done)


@contextmanager
def _going_on(run_id: str, name: str = "") -> Iterator[RunRef]:
    """The parent run of an earlier call, open again."""
    from tasks.clients import tracking
    from tasks.models import logged

    _check_servers()
    run = logged.get_run(run_id)
    who, of = run.data.tags.get(tracking.DAG_RUN, ""), run.data.tags.get(tracking.NAME, "")
    if not who.startswith(f"{WHO}/") or name not in ("", of):
        raise UserError(
            f"The 'run' must be a parent run{f' of {name}' if name else ''} that `prepare` made. "
            f"Got {run_id!r} instead.",
            why=f"It was made by {who}, for {of}." if who else "",
        )
    with _call(of, who):
        tracking.client().update_run(run_id, status="RUNNING")
        yield tracking.reference(run)


def _link(name: str, who: str) -> None:
    """Name the parent run on the run that `mlflow run` made for this call."""
    from tasks.clients import tracking

    parent = tracking.find_run(name, tracking.DAG_RUN, who)
    if settings().project_run and parent is not None:
        tracking.client().set_tag(settings().project_run, tracking.RUN, parent.info.run_id)


def _train(run: RunRef) -> None:
    from tasks.clients import tracking
    from tasks.evaluate import evaluate as work
    from tasks.select import select

    _search(run)
    version = work(select(run))
    figures = tracking.client().get_run(run.run_id).data.metrics
    _tell(run=run.run_id, version=version.version, figures=figures)


def _search(run: RunRef) -> None:
    """All slots side by side, each a process; one that fails is no loss while another goes on.

    Raises:
        RunFailedError: None of them came to its end.
    """
    from tasks.prepare import slots
    from tasks.records import resolved

    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tasks.project", "slot"),
                *(str(os.getpid()), one.model_dump_json()),
            ],
            cwd=REPOSITORY,
        )
        for one in slots(run, resolved.read(run.pipeline))
    ]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if all(codes):
        raise RunFailedError("Every slot of the search failed.", why="The reasons are above.")


def _tell(**result: Any) -> None:
    """The result as one line of JSON."""
    typer.echo(json.dumps(result, default=str))


if __name__ == "__main__":
    main()
