"""The commands for the servers: `up`, `down`, `status`, `logs`, `doctor`, `env`, `login`, `cat`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tasks.base.commands import typed
from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import settings
from tasks.cli.console import out

if TYPE_CHECKING:
    from tasks.serving.endpoints import Endpoint
    from tasks.stack.embedded.startup import Report
    from tasks.stack.service import Service

NOT_RUNNING = 3
"""Exit code if a service is not running or a check fails."""
_COLOURS = {"running": "green", "starting": "yellow", "stopped": "dim", "failed": "red"}
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status, logs, doctor, env, login, cat):
        app.command()(command)


def up(
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="wait until healthy, or start in the background"),
    ] = True,
) -> None:
    """Start the servers: PostgreSQL, object store, MLflow, Airflow, gateway."""
    _embedded_only("up")
    from tasks.stack import status
    from tasks.stack.embedded import lifecycle

    if not wait:
        lifecycle.start_in_background()
        out.print("starting in the background; `./mlops status` shows the progress")
        return
    with _progress("starting") as report:
        started = lifecycle.start(report=report)
    message = "The stack is up." if started else "The stack is already running."
    out.print(message, highlight=False)
    services = status.status()
    _show(services, _endpoints(services))


def down(
    wipe: Annotated[bool, typer.Option(help="also delete the state folder: all data")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Stop the servers."""
    _embedded_only("down -v --remove-orphans" if wipe else "down")
    from tasks.stack.embedded import lifecycle
    from tasks.stack.embedded.home import Home

    root = Home.of_settings().root
    if wipe and not yes and root.exists():
        typer.confirm(f"Delete {root} with all runs, models and data?", abort=True)
    with _progress("stopping") as report:
        ran = lifecycle.down(wipe=wipe, report=report)
    out.print("The stack is stopped." if ran else "The stack was not running.", highlight=False)
    if wipe:
        out.print(f"{root} is deleted.", highlight=False, markup=False)


def status(*, as_json: Json = False) -> None:
    """Show the services and endpoints; the exit code is 3 if a service is not running."""
    from tasks.stack import status
    from tasks.stack.service import running

    services = status.status()
    endpoints = _endpoints(services)
    if as_json:
        states = {
            "services": {name: asdict(service) for name, service in services.items()},
            "endpoints": {name: asdict(endpoint) for name, endpoint in endpoints.items()},
        }
        typer.echo(json.dumps(states, indent=2))
    else:
        _show(services, endpoints)
    if not running(services):
        raise typer.Exit(NOT_RUNNING)


def logs(
    service: Annotated[str, typer.Argument(help="a service, a program, or a model's server")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="continue until Ctrl-C")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="how many last lines")] = 100,
) -> None:
    """Show the log of a service."""
    _embedded_only(f"logs {'-f ' if follow else ''}{service}")
    from tasks.stack.embedded import logs
    from tasks.stack.embedded.home import Home

    service_logs = logs.logs_of(Home.of_settings(), service)

    def show(name: str, line: str) -> None:
        typer.echo(f"{name} | {line}" if len(service_logs) > 1 else line)

    for name, log in service_logs.items():
        for line in log.last(lines):
            show(name, line)
    if follow:
        for name, line in logs.follow(service_logs):
            show(name, line)


def doctor(*, as_json: Json = False) -> None:
    """Look for problems that may keep the stack from working; the exit code is 3 if there are."""
    from tasks.stack.doctor import examine

    checks = examine()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            mark = "[green]ok[/]  " if check.ok else "[red]bad[/] "
            out.print(mark, end="")
            out.print(f"{check.name}: {check.finding}", markup=False, highlight=False)
            if not check.ok and check.fix:
                out.print(f"    → {check.fix}", markup=False, highlight=False)
    if not all(check.ok for check in checks):
        raise typer.Exit(NOT_RUNNING)


def env() -> None:
    """Print `export` lines for your own scripts; use them with eval "$(./mlops env)"."""
    for name, value in _variables().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def login() -> None:
    """Print all addresses and how to sign in."""
    table = places()
    table.add_row("endpoints", f"{settings().gateway_url}/models/NAME/invocations", "")
    out.print(table, soft_wrap=True)


def cat(
    uri: Annotated[str, typer.Argument(help="URI of the file, as in messages: s3://…")],
) -> None:
    """Print a file from the object store, such as the list of a table's bad rows."""
    from tasks.clients import store

    typer.echo(store.get_bytes(uri), nl=False)


def places() -> Table:
    """A table of URLs and logins."""
    config = settings()
    if not config.airflow_password.get_secret_value():
        raise UnavailableError("There is no stack yet.", fix=f"Start it: {typed('up')}")
    airflow = f"{config.airflow_user} / {config.airflow_password.get_secret_value()}"
    mlflow = f"admin / {config.mlflow_password.get_secret_value()}" if config.mlflow_login else ""
    store = _variables()["MLFLOW_S3_ENDPOINT_URL"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("start page", f"{config.gateway_url}/", "")
    table.add_row("Airflow", config.airflow_page, airflow)
    table.add_row("MLflow", config.tracking_page, mlflow)
    table.add_row("object store", store, f"keys: {typed('env')}")
    return table


def _variables() -> dict[str, str]:
    """The variables that a script on this machine needs for `tasks.base.settings`."""
    if settings().stack == "compose":
        from tasks.stack import compose

        return compose.variables()
    from tasks.stack.embedded import ports
    from tasks.stack.embedded.home import Home
    from tasks.stack.embedded.services import Stack

    home = Home.of_settings()
    if not home.env_file.exists():
        raise UnavailableError("There is no stack yet.", fix=f"Start it: {typed('up')}")
    return Stack(home, ports.load(home)).variables()


def _embedded_only(command: str) -> None:
    """Refuse a command that Docker Compose itself has for the compose stack."""
    if settings().stack == "compose":
        raise UserError("Docker Compose runs this stack.", fix=f"Type: {typed(command)}")


@contextmanager
def _progress(what: str) -> Iterator[Report]:
    """Print each line as it comes, with a spinner below in a terminal."""

    def report(text: str) -> None:
        out.print(text, markup=False, highlight=False)

    if not out.is_terminal:
        yield report
        return
    with out.status(f"{what} …"):
        yield report


def _endpoints(services: Mapping[str, Service]) -> dict[str, Endpoint]:
    from tasks.serving.endpoints import endpoints

    return endpoints() if services["gateway"].state == "running" else {}


def _show(services: Mapping[str, Service], endpoints: Mapping[str, Endpoint]) -> None:
    table = _table("service", "state", "url", "pid")
    for name, service in services.items():
        table.add_row(name, _coloured(service.state), service.url, str(service.pid or ""))
    out.print(table)
    if endpoints:
        table = _table("endpoint", "state", "url", "version")
        for name, endpoint in endpoints.items():
            version = str(endpoint.version or "")
            table.add_row(name, _coloured(endpoint.state), endpoint.url, version)
        out.print()
        out.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _coloured(state: str) -> str:
    return f"[{_COLOURS[state]}]{state}[/]"
