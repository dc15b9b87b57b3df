"""Consoles for standard output and standard error, and the display of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from tasks.base.errors import MlopsError

out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)


def show(error: MlopsError) -> None:
    """Print an error: what happened, why, and the fix."""
    err.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False, soft_wrap=True)
    if error.why:
        err.print(escape(error.why), style="dim", highlight=False, soft_wrap=True)
    if error.fix:
        err.print(f"[bold]→[/] {escape(error.fix)}", highlight=False, soft_wrap=True)


def run(application: Callable[..., object], name: str) -> None:
    """Run a command line; turn the project's own errors into a message and an exit code."""
    try:
        application(prog_name=name)
    except MlopsError as error:
        show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("\nstopped")
        sys.exit(130)
