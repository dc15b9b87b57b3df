"""`./mlops up`, `down`, `status`, `logs`, `doctor`, `env`: the embedded stack."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tasks.cli import out
from tasks.errors import UnavailableError

if TYPE_CHECKING:
    from tasks.stack.stack import Report
    from tasks.stack.status import Status

NOT_RUNNING = 3
"""Exit code of `status` when not all services run."""
_COLOURS = {"running": "green", "starting": "yellow", "stopped": "dim", "failed": "red"}
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status, logs, doctor, env):
        app.command()(command)


def up(
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="until all is healthy, or start in background")
    ] = True,
) -> None:
    """Start the servers: PostgreSQL, object store, MLflow, Airflow, gateway."""
    from tasks.stack import stack
    from tasks.stack.status import status as look

    if not wait:
        stack.start_in_background()
        out.print("starting; ./mlops status tells how far it is")
        return
    with _progress("starting") as report:
        started = stack.start(report=report)
    out.print("The stack is up." if started else "The stack runs already.", highlight=False)
    _show(look())


def down(
    wipe: Annotated[bool, typer.Option(help="remove the state folder too: all data")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Stop the servers."""
    from tasks.stack import stack
    from tasks.stack.home import Home

    root = Home.of_settings().root
    if wipe and not yes and root.exists():
        typer.confirm(f"Remove {root} with all runs, models and data?", abort=True)
    with _progress("stopping") as report:
        ran = stack.down(wipe=wipe, report=report)
    out.print("The stack is stopped." if ran else "The stack did not run.", highlight=False)
    if wipe:
        out.print(f"{root} is removed.", highlight=False, markup=False)


def status(*, as_json: Json = False) -> None:
    """Show what runs and where; exit code 3 when something does not."""
    from tasks.stack.status import status as look

    found = look()
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        _show(found)
    if not found.running:
        raise typer.Exit(NOT_RUNNING)


def logs(
    service: Annotated[str, typer.Argument(help="a service, a program, or a model's server")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until Ctrl-C")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="how many of the last")] = 100,
) -> None:
    """Show a log."""
    from tasks.stack import logs as reading
    from tasks.stack.home import Home

    found = reading.files(Home.of_settings(), service)
    several = len(found) > 1

    def show(name: str, line: str) -> None:
        typer.echo(f"{name} | {line}" if several else line)

    for name, path in found.items():
        for line in reading.last(path, lines):
            show(name, line)
    if follow:
        for name, line in reading.follow(found):
            show(name, line)


def doctor(*, as_json: Json = False) -> None:
    """Look for what may keep the stack from working; exit code 3 when there is something."""
    from dataclasses import asdict

    from tasks.stack.doctor import examine

    checks = examine()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            mark = "[green]ok[/]  " if check.ok else "[red]bad[/] "
            out.print(mark, end="")
            out.print(f"{check.name}: {check.found}", markup=False, highlight=False)
            if not check.ok and check.fix:
                out.print(f"    → {check.fix}", markup=False, highlight=False)
    if not all(check.ok for check in checks):
        raise typer.Exit(NOT_RUNNING)


def env() -> None:
    """Print `export` lines for your own scripts: eval "$(./mlops env)"."""
    from tasks.stack import ports
    from tasks.stack.home import Home
    from tasks.stack.services import Stack

    home = Home.of_settings()
    if not home.env_file.exists():
        raise UnavailableError("There is no stack yet.", fix="Start it with ./mlops up")
    for name, value in Stack(home, ports.load(home)).variables().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@contextmanager
def _progress(what: str) -> Iterator[Report]:
    """Lines as they come, and a moving sign below them where somebody watches."""

    def report(text: str) -> None:
        out.print(text, markup=False, highlight=False)

    if not out.is_terminal:
        yield report
        return
    with out.status(f"{what} …"):
        yield report


def _show(found: Status) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "state", "url", "pid"):
        table.add_column(column, no_wrap=True)
    for name, service in found.services.items():
        state = f"[{_COLOURS[service.state]}]{service.state}[/]"
        table.add_row(name, state, service.url, str(service.pid or ""))
    out.print(table)
    if not found.endpoints:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("endpoint", "state", "url", "version"):
        table.add_column(column, no_wrap=True)
    for name, endpoint in found.endpoints.items():
        table.add_row(name, *(str(endpoint[key]) for key in ("state", "url", "version")))
    out.print()
    out.print(table)
