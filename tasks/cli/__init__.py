"""The command line, `./mlops`."""

from __future__ import annotations

import typer

from tasks.cli import console


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
    """Run the command line."""
    console.run(application(), "mlops")
