"""`./mlops run`: trigger a pipeline's DAG and follow it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tasks.cli import out
from tasks.cli.progress import follow, outcome
from tasks.errors import RunFailedError
from tasks.orchestrator import Airflow


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


def run(
    name: Annotated[str, typer.Argument(help="the pipeline")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. --set trials=40 --set force=true")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="follow the run to its end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Train a pipeline through Airflow."""
    run_id = start(name, changes or [])
    result: dict[str, Any] = {"dag_id": f"train__{name}", "run_id": run_id, "state": "queued"}
    if wait:
        state = follow(f"train__{name}", run_id, quiet=as_json)
        result |= {"state": state, **outcome(f"train__{name}", run_id, state)}
    if as_json:
        out.print_json(json.dumps(result))
    elif wait:
        out.print(result.get("text", ""), markup=False, highlight=False)
    else:
        out.print(
            f"started {run_id}; follow it at {Airflow().where.airflow_page}/dags/train__{name}"
        )
    if wait and result["state"] != "success":
        raise RunFailedError(f"train__{name} failed.", why=result.get("error", ""))


def start(name: str, changes: list[str]) -> str:
    """Check the pipeline and the changes, then trigger the DAG; returns the DAG run's id."""
    from tasks.pipeline.load import load
    from tasks.pipeline.overrides import parse_set, resolve

    overrides = parse_set(changes)
    resolve(load(name), overrides)
    airflow = Airflow()
    return airflow.trigger(
        f"train__{name}", overrides.model_dump(mode="json", exclude_none=True), "by ./mlops"
    )
