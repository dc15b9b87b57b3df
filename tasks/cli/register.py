"""`./mlops register`: take a run that was logged by hand through gate, build and promotion."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tasks.base.errors import RunFailedError
from tasks.cli.console import out
from tasks.cli.progress import REGISTER, follow, outcome
from tasks.cli.waits import until_read, until_served
from tasks.clients.orchestrator import Airflow

DAG = "register"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="register")(register_run)


def register_run(  # noqa: PLR0913 - the options
    run_id: Annotated[str, typer.Argument(help="the run that logged the model")],
    name: Annotated[str, typer.Argument(help="the pipeline")],
    *,
    snapshot: Annotated[
        str | None,
        typer.Option(
            help="manifest of the snapshot that the model was trained on, except its test part; if "
            "the run's dataset inputs do not say it, you answer for it"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="id of the logged model, if the run has several")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="follow until the model is served")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Take a run that was logged by hand through gate, build and promotion."""
    from tasks.clients.tracking import CHAMPION, alias_version, answering
    from tasks.register import check

    with answering():
        check(run_id, name, snapshot=snapshot, model=model)
    airflow = Airflow()
    until_read(airflow, name)
    conf = {"run_id": run_id, "name": name, "snapshot": snapshot, "model": model}
    dag_run = airflow.trigger(DAG, conf, "by ./mlops")
    result: dict[str, Any] = {"dag_id": DAG, "run_id": dag_run, "state": "queued"}
    if wait:
        state = follow(DAG, dag_run, quiet=as_json, stages=REGISTER)
        result |= {"state": state, **outcome(DAG, dag_run, state)}
    if wait and not as_json:
        out.print(result["text"], markup=False, highlight=False)
    if result.get("promoted") and alias_version(name, CHAMPION) == result["version"]:
        until_served(name, result["version"])
    if as_json:
        out.print_json(json.dumps(result))
    elif not wait:
        out.print(f"started {dag_run}; follow it at {airflow.page(DAG)}")
    if wait and result["state"] != "success":
        raise RunFailedError(f"{run_id} could not be registered.", why=result.get("error", ""))
