"""`./mlops demo`: the main job, from nothing to a served prediction."""

from __future__ import annotations

import json
import shlex
import time
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from tasks.cli import out
from tasks.cli.progress import follow, outcome
from tasks.cli.run import start
from tasks.errors import RunFailedError, UnavailableError
from tasks.orchestrator import Airflow
from tasks.settings import settings

NAME = "diabetes_progression"
DAG = f"train__{NAME}"
PATIENCE_S = 120


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. --set trials=12 --set force=true")
    ] = None,
) -> None:
    """Start the stack, train and promote a model of the diabetes data, ask it for a prediction."""
    from tasks.stack import stack

    started = False
    triggered = ""
    try:
        started = stack.start(report=_say)
        run_id = _under_way()
        if run_id:
            _say(f"following {run_id}, which is under way; --set takes no part in it")
        else:
            run_id = triggered = start(NAME, changes or [])
        out.rule("training", align="left")
        state = follow(DAG, run_id)
        result = outcome(DAG, run_id, state)
        if state != "success":
            raise RunFailedError(f"{DAG} failed in {result['failed']}.", why=result["error"])
        _show(result)
    except KeyboardInterrupt:
        _stop(started=started, triggered=triggered)
        raise


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _under_way() -> str | None:
    """A DAG run that has not ended: an interrupted demo's, say."""
    airflow = Airflow()
    _until("Airflow to read the DAG files", lambda: airflow.dag_exists(DAG))
    return airflow.active_run(DAG)


def _stop(*, started: bool, triggered: str) -> None:
    """Stop what this command started; the next demo continues from there."""
    from tasks.stack import stack

    if started:
        _say("\nstopping the stack; ./mlops demo goes on from here")
        stack.down(report=_say)
    elif triggered:
        _say(f"\nstopping {triggered}")
        Airflow().stop(DAG, triggered)


def _show(result: dict[str, Any]) -> None:
    """The leaderboard, the decision, the endpoint and a prediction."""
    from tasks.cli.registry import leaderboard

    out.rule("leaderboard", align="left")
    leaderboard(NAME, limit=10)
    out.rule("decision", align="left")
    _say(result["text"])
    champion = result["champion"]
    if champion is None:
        raise RunFailedError("No version has passed the gate, so nothing is served.")
    _say(f"Champion: version {champion}")
    out.rule("endpoint", align="left")
    url = f"{settings().gateway_url}/models/{NAME}"
    _until(f"version {champion} to be served", lambda: _served(url) == champion)
    _predict(url, champion)
    out.rule("where everything is", align="left")
    out.print(_places(), soft_wrap=True)


def _served(url: str) -> int | None:
    try:
        answer = httpx.get(f"{url}/version", timeout=5, trust_env=False)
    except httpx.TransportError:
        return None
    return int(answer.json()["version"]) if answer.is_success else None


def _predict(url: str, version: int) -> None:
    """One real prediction, and the curl that repeats it."""
    from tasks.serving.models import fetch, read_card

    example = (read_card(fetch(NAME, version)).smoke_test or {})["inputs"]
    body = json.dumps({"dataframe_split": example | {"data": example["data"][:1]}})
    answer = httpx.post(
        f"{url}/invocations",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=30,
        trust_env=False,
    )
    _say(f"{url}/invocations answers {answer.text.strip()}")
    header = "-H 'Content-Type: application/json'"
    _say(f"\ncurl -s {url}/invocations {header} \\\n  -d {shlex.quote(body)}")


def _places() -> Table:
    where = settings()
    table = Table(box=None, show_header=False, pad_edge=False)
    login = f"{where.airflow_user} / {where.airflow_password.get_secret_value()}"
    table.add_row("Airflow", where.airflow_url, login)
    table.add_row("MLflow", where.tracking_uri, "")
    table.add_row("endpoint", f"{where.gateway_url}/models/{NAME}/invocations", "")
    table.add_row("object store", where.s3_endpoint or "", "keys: ./mlops env")
    table.add_row("stop it", "./mlops down", "")
    return table


def _until(what: str, holds: Any) -> None:
    """Wait for a condition, a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except UnavailableError:
            pass
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"Waited {PATIENCE_S} s for {what}, in vain.", fix="./mlops logs and ./mlops status"
            )
        time.sleep(0.5)
