"""Consoles for standard output and standard error, and the display of errors."""

from __future__ import annotations

import sys

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
