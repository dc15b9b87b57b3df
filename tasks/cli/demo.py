"""`./mlops demo`: from nothing to a served prediction."""

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
        list[str] | None,
        typer.Option("--set", help="change the run, e.g. --set trials=12 --set force=true"),
    ] = None,
) -> None:
    """Start the stack, train and promote a model on the diabetes data, and request a prediction."""
    started = False
    triggered = ""
    try:
        started = _start()
        run_id = _active_run()
        if run_id:
            _say(f"following the active run {run_id}; --set does not apply to it")
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
    """Start the embedded stack if it is down (then true); require that the compose stack is up."""
    if settings().stack == "embedded":
        from tasks.stack.embedded import lifecycle

        return lifecycle.start(report=_say)
    from tasks.stack.status import status

    missing = [name for name, service in status().items() if service.state != "running"]
    if missing:
        what = f"These services are not running: {', '.join(missing)}."
        raise UnavailableError(what, fix=typed("up"))
    return False


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _active_run() -> str | None:
    """A DAG run that has not ended, such as that of an interrupted demo."""
    airflow = Airflow()
    until_read(airflow, NAME)
    return airflow.active_run(DAG)


def _stop(*, started: bool, triggered: str) -> None:
    """Stop whatever this command started; the next demo continues from there."""
    from tasks.stack.embedded import lifecycle

    if started:
        _say("\nstopping the stack; `./mlops demo` continues from here")
        lifecycle.down(report=_say)
    elif triggered:
        _say(f"\nstopping {triggered}")
        Airflow().stop(DAG, triggered)


def _show(result: dict[str, Any]) -> None:
    """Print the leaderboard, the decision, the endpoint and a prediction."""
    from tasks.cli.registry import leaderboard

    out.rule(f"leaderboard{' of the last search' if 'unchanged' in result else ''}", align="left")
    leaderboard(NAME, limit=10)
    out.rule("decision", align="left")
    _say(result["text"])
    champion = result["champion"]
    if champion is None:
        raise RunFailedError("Nothing is served, because no version has passed the gate.")
    _say(f"Champion: version {champion}")
    out.rule("endpoint", align="left")
    until_served(NAME, champion)
    _predict(champion)
    out.rule("where everything is", align="left")
    out.print(_places(), soft_wrap=True)


def _predict(version: int) -> None:
    """Request a prediction, and print the curl command for it."""
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
    table = places()
    table.add_row("endpoint", f"{settings().gateway_url}/models/{NAME}/invocations", "")
    table.add_row("to stop", typed("down"), "")
    return table
