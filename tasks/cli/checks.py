"""`./mlops test`: the checks and the test suites, by name."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from tasks.base.errors import RunFailedError, UserError
from tasks.base.problems import did_you_mean
from tasks.base.settings import REPOSITORY
from tasks.cli.console import out

PYTEST = ("-m", "pytest", "-q", "--durations=10", "--durations-min=20")
TWO_WORKERS = ("-n", "2", "--dist", "loadfile")
SUITES: dict[str, list[tuple[str, ...]]] = {
    "lint": [
        ("-m", "ruff", "check"),
        ("-m", "ruff", "format", "--check"),
        ("-m", "mypy"),
        ("-c", "from importlinter.cli import lint_imports_command as run; run()"),
    ],
    # Two workers with servers of their own: these tests mostly wait.
    "unit": [(*PYTEST, *TWO_WORKERS, "-m", "not stack and not faults and not docker")],
    "stack": [(*PYTEST, "-m", "stack and not faults and not docker")],
    "docker": [(*PYTEST, "-m", "docker")],
    "faults": [(*PYTEST, "-m", "faults and not docker")],
}
DEFAULT = ("lint", "unit")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(test)


def test(
    suites: Annotated[
        list[str] | None, typer.Argument(help=f"of {', '.join(SUITES)}, or all")
    ] = None,
) -> None:
    """Run the checks and tests; without a name, `lint` and `unit` (about twelve minutes)."""
    chosen = tuple(suites or DEFAULT)
    if chosen == ("all",):
        chosen = tuple(SUITES)
    for name in chosen:
        if name not in SUITES:
            raise UserError(
                f"The suite must be one of {', '.join(SUITES)} or all. Got '{name}' instead.",
                fix=did_you_mean(name, SUITES),
            )
    failed = [name for name in chosen if not _passes(name)]
    if failed:
        raise RunFailedError(f"Failed: {', '.join(failed)}.")


def _passes(name: str) -> bool:
    out.rule(name, align="left")
    done = [
        subprocess.run([sys.executable, *command], cwd=REPOSITORY, check=False)
        for command in SUITES[name]
    ]
    return not any(process.returncode for process in done)
