"""The entry points of `MLproject`: the chain's steps as programs, without Airflow.

`mlflow run` makes and closes a run for each call. This run is the record of the call, and a tag on
it names the parent run that the call worked on. The parent run is in the pipeline's experiment, and
has the same children and figures as that of a DAG run. Its tag `mlops.dag_run` is `mlproject/ID`
instead of a DAG run, so a repeated call continues where the first one ended.
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
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from tasks.base.errors import RunFailedError, UserError
from tasks.base.refs import RunRef, SlotRef
from tasks.base.settings import REPOSITORY, settings

ACTOR = "mlproject"

Pipeline = Annotated[str, typer.Option(help="the pipeline's name")]
Model = Annotated[str, typer.Option(help="a version, an alias, or the id of a run with a model")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
takes_overrides = app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)


@takes_overrides
def prepare(context: typer.Context, pipeline: Pipeline) -> None:
    """Make the snapshot and the parent run that `search` and `train` continue."""
    from tasks.prepare import prepare as prepare_step

    overrides = _overrides(context)
    with _call(pipeline) as actor:
        prepared = prepare_step(pipeline, actor, overrides)
        if prepared.slots:
            run = prepared.slots[0].run
            _print(run=run.run_id, snapshot=run.snapshot_uri)
        else:
            _print(unchanged=prepared.unchanged, reason=prepared.reason)


@app.command()
def search(run: Annotated[str, typer.Option(help="the parent run that `prepare` made")]) -> None:
    """Run the trials of a parent run and choose the best."""
    from tasks.select import select

    with _continue(run) as reference:
        _search(reference)
        best = select(reference)
        _print(run=run, trial=best.trial, trial_run=best.trial_run_id)


@takes_overrides
def train(
    context: typer.Context,
    pipeline: Pipeline,
    run: Annotated[str, typer.Option(help="a parent run to continue; default: a new one")] = "",
) -> None:
    """From data to a registered challenger; `./mlops register` then starts gate and promotion."""
    from tasks.prepare import prepare as prepare_step

    overrides = _overrides(context)
    if run:
        if context.args:
            raise UserError("An existing run takes no overrides.", why=" ".join(context.args))
        with _continue(run, pipeline) as reference:
            _train(reference)
        return
    with _call(pipeline) as actor:
        prepared = prepare_step(pipeline, actor, overrides)
        if prepared.slots:
            _train(prepared.slots[0].run)
        else:
            _print(unchanged=prepared.unchanged, reason=prepared.reason)


@app.command()
def evaluate(
    pipeline: Pipeline,
    model: Model = "champion",
    part: Annotated[str, typer.Option(help="part of the snapshot")] = "test",
    snapshot: Annotated[
        str, typer.Option(help="a manifest's URI; default: the version's own")
    ] = "",
) -> None:
    """Compute every metric of a logged model on a part of a snapshot."""
    from tasks.clients import tracking
    from tasks.prepare.make import make_snapshot
    from tasks.score import measure

    _check_servers()
    measured = measure(pipeline, model, part, snapshot or None, make_snapshot=make_snapshot)
    if settings().project_run:
        for metric, value in measured.figures.items():
            tracking.client().log_metric(settings().project_run, metric, value)
    _print(model=measured.model_uri, snapshot=measured.snapshot_uri, figures=measured.figures)


@app.command()
def score(
    pipeline: Pipeline,
    source: Annotated[Path, typer.Option("--input", help="CSV, Parquet or JSON lines")],
    target: Annotated[Path, typer.Option("--output", help="the same formats")],
    model: Model = "champion",
) -> None:
    """Write the rows of a file with a prediction for each."""
    from tasks.score import score as score_step

    _check_servers()
    scored = score_step(pipeline, source, target, model)
    _print(model=scored.model_uri, rows=scored.rows, output=str(scored.target))


@app.command(hidden=True)
def slot(parent: int, reference: str) -> None:
    """Run one slot of a search; called by `search`, which waits for it."""
    from tasks.base.process import die_with_parent
    from tasks.search import search as search_step

    die_with_parent(parent)
    search_step(SlotRef.model_validate_json(reference))


def main() -> None:
    """Run an entry point."""
    from tasks.cli import console

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how `mlflow run` passes Ctrl-C on
    console.run(app, "python -m tasks.project")


def _overrides(context: typer.Context) -> Any:
    """Overrides from `--trials 12`, which is what `mlflow run -P trials=12` passes."""
    from tasks.pipeline.overrides import parse_set

    names, values = context.args[::2], context.args[1::2]
    unnamed = [name for name in names if not name.startswith("--")]
    if unnamed or len(names) != len(values):
        raise UserError(f"An override must be --NAME VALUE. Got {' '.join(context.args)} instead.")
    return parse_set(
        f"{name[2:].replace('-', '_')}={value}" for name, value in zip(names, values, strict=True)
    )


def _check_servers() -> None:
    """Without the stack's environment, `mlflow run` uses a local store."""
    tracking_uri = settings().tracking_uri
    if tracking_uri and not tracking_uri.startswith("http"):
        raise UserError(
            f"MLflow keeps its runs in {tracking_uri}, not on the stack's server.",
            fix='Set the environment before `mlflow run`: eval "$(./mlops env)"',
        )


@contextmanager
def _call(name: str, actor: str = "") -> Iterator[str]:
    """The actor of the parent run. Only one call at a time; the run is closed in any case."""
    from tasks.clients import database
    from tasks.finish import finish, sweep
    from tasks.pipeline.load import known

    _check_servers()
    actor = actor or f"{ACTOR}/{settings().project_run or uuid4().hex}"
    with database.locked(f"{ACTOR}/{known(name)}", wait_s=1):
        sweep(name, actor)
        done = False
        try:
            yield actor
            done = True
        finally:
            _link(name, actor)
            finish(name, actor, failed=not done)


@contextmanager
def _continue(run_id: str, name: str = "") -> Iterator[RunRef]:
    """Reopen the parent run of an earlier call."""
    from tasks.clients import tracking
    from tasks.models import logged

    _check_servers()
    run = logged.get_run(run_id)
    actor = run.data.tags.get(tracking.DAG_RUN, "")
    pipeline = run.data.tags.get(tracking.NAME, "")
    if not actor.startswith(f"{ACTOR}/") or name not in ("", pipeline):
        raise UserError(
            f"The 'run' must be a parent run{f' of {name}' if name else ''} that `prepare` made. "
            f"Got {run_id!r} instead.",
            why=f"It was made by {actor} for {pipeline}." if actor else "",
        )
    with _call(pipeline, actor):
        tracking.client().update_run(run_id, status="RUNNING")
        yield tracking.reference(run)


def _link(name: str, actor: str) -> None:
    """Tag the run that `mlflow run` made for this call with the parent run."""
    from tasks.clients import tracking

    parent = tracking.find_run(name, tracking.DAG_RUN, actor)
    if settings().project_run and parent is not None:
        tracking.client().set_tag(settings().project_run, tracking.RUN, parent.info.run_id)


def _train(run: RunRef) -> None:
    from tasks.clients import tracking
    from tasks.evaluate import evaluate as evaluate_step
    from tasks.select import select

    _search(run)
    version = evaluate_step(select(run))
    figures = tracking.client().get_run(run.run_id).data.metrics
    _print(run=run.run_id, version=version.version, figures=figures)


def _search(run: RunRef) -> None:
    """Run all slots in parallel, each a process. A slot may fail as long as another finishes.

    Raises:
        RunFailedError: Every slot failed.
    """
    from tasks.prepare import slots
    from tasks.records import resolved

    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tasks.project", "slot"),
                *(str(os.getpid()), slot_ref.model_dump_json()),
            ],
            cwd=REPOSITORY,
        )
        for slot_ref in slots(run, resolved.read(run.pipeline_uri))
    ]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if all(codes):
        raise RunFailedError("Every slot of the search failed.", why="The reasons are above.")


def _print(**result: Any) -> None:
    """Print the result as one line of JSON."""
    typer.echo(json.dumps(result, default=str))


if __name__ == "__main__":
    main()
