"""`./mlops test`: the checks and the test suites, by name."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Annotated

import typer

from tasks.base.errors import RunFailedError, UserError
from tasks.base.problems import did_you_mean
from tasks.base.settings import REPOSITORY
from tasks.cli.console import out

PYTEST = ("-m", "pytest", "-q", "--durations=30", "--durations-min=1")
LINT = (
    ("-m", "ruff", "check"),
    ("-m", "ruff", "format", "--check"),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command as run; run()"),
)
MARKS = {
    "unit": "not stack and not faults and not docker",
    "stack": "stack and not faults and not docker",
    "docker": "docker",
    "faults": "faults and not docker",
}
OPTIONS = {
    # Two workers, each with its own servers: these tests mostly wait.
    "unit": ("-n", "2", "--dist", "loadfile"),
}
SUITES = ("lint", *MARKS)
DEFAULT = ("lint", "unit")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(test)


def test(
    suites: Annotated[
        list[str] | None, typer.Argument(help=f"of {', '.join(SUITES)}, or all")
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="run the full matrix of faults, each in its own run"),
    ] = False,
) -> None:
    """Run the checks and tests; without a name, `lint` and `unit` (about ten minutes)."""
    chosen = tuple(suites or DEFAULT)
    if chosen == ("all",):
        chosen = SUITES
    for name in chosen:
        if name not in SUITES:
            raise UserError(
                f"The suite must be one of {', '.join(SUITES)} or all. Got '{name}' instead.",
                fix=did_you_mean(name, SUITES),
            )
    failed = [name for name in chosen if not _passes(name, full=full)]
    if failed:
        raise RunFailedError(f"Failed: {', '.join(failed)}.")


def commands(name: str, *, full: bool) -> tuple[tuple[str, ...], ...]:
    """Arguments of the Python processes that make up a suite."""
    if name == "lint":
        return LINT
    marks = MARKS[name] if full else f"{MARKS[name]} and not full"
    return ((*PYTEST, *OPTIONS.get(name, ()), "-m", marks),)


def _passes(name: str, *, full: bool) -> bool:
    out.rule(name, align="left")
    began = time.monotonic()
    codes = [
        subprocess.run([sys.executable, *command], cwd=REPOSITORY, check=False).returncode
        for command in commands(name, full=full)
    ]
    verdict = "failed" if any(codes) else "passed"
    out.print(f"suite {name} {verdict} in {time.monotonic() - began:.0f} s", highlight=False)
    return not any(codes)
