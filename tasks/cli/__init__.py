"""The command line, `./mlops`."""

from __future__ import annotations

import sys

import typer

from tasks.base.errors import MlopsError
from tasks.cli.console import err, show


def application() -> typer.Typer:
    """The command line with every command."""
    from tasks.cli import checks, demo, files, predict, register, registry, run, stack

    app = typer.Typer(
        help="From one YAML file to a model that is tuned, judged, promoted and served.",
        epilog="`./mlops lock` updates the locked requirements; `--check` tests that they resolve.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for commands in (demo, stack, run, register, registry, predict, files, checks):
        commands.register(app)
    return app


def main() -> None:
    """Run the command line; turn the project's own errors into a message and an exit code."""
    try:
        application()(prog_name="mlops")
    except MlopsError as error:
        show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("\nstopped")
        sys.exit(130)
