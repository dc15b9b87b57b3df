"""Commands for pipeline files: list, show, check, and their JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from tasks.base.commands import typed
from tasks.base.errors import MlopsError, UnavailableError, UserError
from tasks.cli.console import err, out

if TYPE_CHECKING:
    from tasks.pipeline.schema import Pipeline

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (pipelines, check, schema):
        app.command()(command)


def pipelines(
    name: Annotated[str | None, typer.Argument(help="show this one; default: list all")] = None,
    as_json: Json = False,
) -> None:
    """List the pipeline files, or show one with every default filled in."""
    from tasks.pipeline.load import load

    if name is None:
        _list(as_json)
        return
    plain = load(name).model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
    else:
        import yaml

        typer.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


def check(
    files: Annotated[list[str] | None, typer.Argument(help="paths or names; default: all")] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="also read the data, and fit each family on made-up rows"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Report every mistake in pipeline files.

    Exit code 2 for mistakes; 3 if there are none, but data cannot be reached.
    """
    from tasks.pipeline.load import short

    results: list[dict[str, Any]] = []
    all_errors: list[MlopsError] = []
    for path in _paths(files):
        summary, errors = _inspect(path, deep)
        all_errors += errors
        problems = [problem for error in errors for problem in _plain(error)]
        results.append({"file": short(path), "ok": not errors, "problems": problems})
        if as_json:
            continue
        if not errors:
            text = escape(f"{short(path)}{summary}")
            out.print(f"[green]ok[/] {text}", highlight=False, soft_wrap=True)
        for error in errors:
            _show(path, error)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    elif not (deep or all_errors):
        hint = f"Only the text was checked; {typed('check --deep')} also tries data and parameters."
        err.print(hint, style="dim", highlight=False, soft_wrap=True)
    if all_errors:
        raise typer.Exit(_exit_code(all_errors))


def schema(
    write: Annotated[
        bool,
        typer.Option("--write", help="update pipelines/schema.json and docs/reference.md instead"),
    ] = False,
) -> None:
    """Print the JSON schema of a pipeline file, for editors."""
    from tasks.pipeline import editor_schema, reference

    if not write:
        typer.echo(editor_schema.text(), nl=False)
        return
    editor_schema.FILE.write_text(editor_schema.text())
    reference.FILE.write_text(reference.updated(reference.FILE.read_text()))


def _list(as_json: bool) -> None:
    from tasks.base.problems import ProblemsError
    from tasks.pipeline.load import load, names

    rows: list[dict[str, Any]] = []
    for name in names():
        try:
            rows.append(_row(load(name)))
        except ProblemsError as error:
            rows.append({"name": name, "problems": _plain(error)})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        out.print(_table(rows))
    if any("problems" in row for row in rows):
        raise typer.Exit(UserError.exit_code)


def _row(pipeline: Pipeline) -> dict[str, Any]:
    from tasks.pipeline import space

    return {
        "name": pipeline.name,
        "description": pipeline.description,
        "schedule": pipeline.schedule,
        "metric": pipeline.metric.name,
        "trials": pipeline.search.trials,
        "families": sorted(space.families(space.parse(pipeline.search.space))),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "description", "schedule", "metric", "trials", "families"):
        justify: Literal["left", "right"] = "right" if column == "trials" else "left"
        table.add_column(column, justify=justify, no_wrap=column == "name", overflow="fold")
    for row in rows:
        if "problems" in row:
            table.add_row(escape(row["name"]), f"[red]has problems: {typed('check')}[/]")
            continue
        texts = [row["name"], row["description"], row["schedule"] or "on demand", row["metric"]]
        table.add_row(*map(escape, texts), str(row["trials"]), ", ".join(row["families"]))
    return table


def _paths(files: list[str] | None) -> list[Path]:
    from tasks.base.settings import settings
    from tasks.pipeline.load import names

    folder = settings().pipelines
    if files:
        return [_path(file, folder) for file in files]
    paths = [folder / f"{name}.yaml" for name in names()]
    if not paths:
        raise UserError(f"{folder} has no pipeline file.", fix="Add a file NAME.yaml.")
    return paths


def _path(file: str, folder: Path) -> Path:
    path = Path(file)
    if path.suffix or path.exists():
        return path
    from tasks.pipeline.load import known

    return folder / f"{known(file)}.yaml"


def _inspect(path: Path, deep: bool) -> tuple[str, list[MlopsError]]:
    """What is worth knowing about a valid file or its data, and every error."""
    from tasks.base.problems import ProblemsError
    from tasks.pipeline.load import parse_file
    from tasks.records.trials.progress import untried

    try:
        pipeline = parse_file(path)
    except ProblemsError as error:
        return "", [error]
    cut = untried(pipeline)
    summary = f"; {cut}" if cut else ""
    if not deep:
        return summary, []
    from tasks.cli.trial_fit import fit_each_family
    from tasks.prepare.make import rehearse

    errors: list[MlopsError] = []
    try:
        table = rehearse(pipeline)
        bad = f", {table.dropped} more left out as bad" if table.dropped else ""
        summary = "\n  ".join([f": {table.rows} rows{bad}{summary}", *table.rules])
    except MlopsError as error:
        errors.append(error)
    try:
        fit_each_family(pipeline)
    except MlopsError as error:
        errors.append(error)
    return summary, errors


def _exit_code(errors: list[MlopsError]) -> int:
    """That of a mistake in a file, or that of data that cannot be reached."""
    from tasks.clients.connections import UnknownConnectionError

    unreachable = (UnavailableError, UnknownConnectionError)
    wrong = any(not isinstance(error, unreachable) for error in errors)
    return UserError.exit_code if wrong else UnavailableError.exit_code


def _show(path: Path, error: MlopsError) -> None:
    from tasks.base.problems import ProblemsError
    from tasks.pipeline.load import short

    if isinstance(error, ProblemsError):
        what, lines = error.what, error.lines()
    else:
        what, lines = f"{short(path)}: {error.what}", [*error.why.splitlines(), error.fix]
    err.print(f"[bold red]{escape(what)}[/]", highlight=False, soft_wrap=True)
    for line in filter(None, lines):
        err.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _plain(error: MlopsError) -> list[dict[str, Any]]:
    from tasks.base.problems import ProblemsError, dotted

    if not isinstance(error, ProblemsError):
        return [{"line": None, "field": "data", "message": str(error)}]
    return [
        {"line": problem.line, "field": dotted(problem.field), "message": str(problem)}
        for problem in error.problems
    ]
