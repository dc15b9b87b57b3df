"""`./mlops demo`: the main job, from nothing to a served prediction."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.cli.console import out
from tasks.cli.progress import follow, outcome
from tasks.cli.run import start
from tasks.cli.stack import places
from tasks.cli.waits import until_read, until_served
from tasks.clients.orchestrator import Airflow

NAME = "diabetes_progression"
DAG = f"train__{NAME}"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. --set trials=12 --set force=true")
    ] = None,
) -> None:
    """Start the stack, train and promote a model of the diabetes data, ask it for a prediction."""
    started = False
    triggered = ""
    try:
        started = _start()
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


def _start() -> bool:
    """Start the embedded stack, or see to it that the compose stack is up; tells which it was."""
    if settings().stack == "embedded":
        from tasks.stack.embedded import lifecycle

        return lifecycle.start(report=_say)
    from tasks.stack.status import status

    missing = [name for name, service in status().items() if service.state != "running"]
    if missing:
        raise UnavailableError(f"The stack is not up: {', '.join(missing)}.", fix=typed("up"))
    return False


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _under_way() -> str | None:
    """A DAG run that has not ended: an interrupted demo's, say."""
    airflow = Airflow()
    until_read(airflow, NAME)
    return airflow.active_run(DAG)


def _stop(*, started: bool, triggered: str) -> None:
    """Stop what this command started; the next demo continues from there."""
    from tasks.stack.embedded import lifecycle

    if started:
        _say("\nstopping the stack; ./mlops demo goes on from here")
        lifecycle.down(report=_say)
    elif triggered:
        _say(f"\nstopping {triggered}")
        Airflow().stop(DAG, triggered)


def _show(result: dict[str, Any]) -> None:
    """The leaderboard, the decision, the endpoint and a prediction."""
    from tasks.cli.registry import leaderboard

    out.rule(f"leaderboard{' of the last search' if 'unchanged' in result else ''}", align="left")
    leaderboard(NAME, limit=10)
    out.rule("decision", align="left")
    _say(result["text"])
    champion = result["champion"]
    if champion is None:
        raise RunFailedError("No version has passed the gate, so nothing is served.")
    _say(f"Champion: version {champion}")
    out.rule("endpoint", align="left")
    until_served(NAME, champion)
    _predict(champion)
    out.rule("where everything is", align="left")
    out.print(_places(), soft_wrap=True)


def _predict(version: int) -> None:
    """One real prediction, and the curl that repeats it."""
    from tasks.serving.model_files import fetch, read_card

    example = (read_card(fetch(NAME, version)).smoke_test or {})["inputs"]
    body = json.dumps({"dataframe_split": example | {"data": example["data"][:1]}})
    answer = httpx.post(
        f"{settings().gateway_internal}/models/{NAME}/invocations",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=30,
        trust_env=False,
    )
    url = f"{settings().gateway_url}/models/{NAME}"
    _say(f"{url}/invocations answers {answer.text.strip()}")
    header = "-H 'Content-Type: application/json'"
    _say(f"\ncurl -s {url}/invocations {header} \\\n  -d {shlex.quote(body)}")


def _places() -> Table:
    where = settings()
    table = places()
    table.add_row("endpoint", f"{where.gateway_url}/models/{NAME}/invocations", "")
    table.add_row("stop it", typed("down"), "")
    return table
