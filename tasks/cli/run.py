"""`./mlops run`: start a pipeline's DAG and follow it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError
from tasks.cli.console import err, out
from tasks.cli.progress import follow, outcome
from tasks.cli.waits import until_read, until_served
from tasks.clients.orchestrator import Airflow


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    name: Annotated[str, typer.Argument(help="the pipeline")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. --set trials=40 --set force=true")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="follow the run to its end; if it promotes a version, until it is served"
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Train a pipeline through Airflow."""
    run_id, dag_id = start(name, changes or []), f"train__{name}"
    result: dict[str, Any] = {"dag_id": dag_id, "run_id": run_id, "state": "queued"}
    if wait:
        try:
            state = follow(dag_id, run_id, quiet=as_json)
        except KeyboardInterrupt:
            err.print(f"{run_id} continues in Airflow: {Airflow().page(dag_id)}", highlight=False)
            raise
        result |= {"state": state, **outcome(dag_id, run_id, state)}
    if wait and not as_json:
        out.print(result["text"], markup=False, highlight=False)
    if result.get("promoted"):
        until_served(name, result["version"])
        if not as_json:
            out.print(
                f"Version {result['version']} is champion and served; "
                f"try {typed(f'predict {name} FILE')}",
                highlight=False,
            )
    if as_json:
        out.print_json(json.dumps(result))
    elif not wait:
        out.print(f"started {run_id}; follow it at {Airflow().page(dag_id)}")
    if wait and result["state"] != "success":
        raise RunFailedError(f"{dag_id} failed.", why=result.get("error", ""))


def start(name: str, changes: list[str]) -> str:
    """Check the pipeline and the changes, then start the DAG; returns the DAG run's id."""
    from tasks.pipeline.load import load
    from tasks.pipeline.overrides import parse_set, resolve

    overrides = parse_set(changes)
    resolve(load(name), overrides)
    airflow = Airflow()
    until_read(airflow, name)
    return airflow.trigger(
        f"train__{name}", overrides.model_dump(mode="json", exclude_none=True), "by ./mlops"
    )
