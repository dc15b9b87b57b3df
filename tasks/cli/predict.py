"""`./mlops predict`: send the rows of a file to a model's endpoint."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError, UserError
from tasks.cli.console import out
from tasks.serving.server.contract import FORMATS

if TYPE_CHECKING:
    import httpx

_KINDS = {".json": "json", ".csv": "csv", ".parquet": "parquet"}
_MEDIA_TYPES = {"csv": "text/csv", "json": "application/json"}
_TIMEOUT_S = 120


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    name: Annotated[str, typer.Argument(help="the model")],
    file: Annotated[
        str, typer.Argument(help="CSV, JSON, JSON lines or Parquet; - for standard input")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Ask a model's endpoint for predictions.

    A CSV file is read with the options of the pipeline's own CSV source.
    """
    content = _content(file)
    _check_name(name)
    kind = _KINDS.get(Path(file).suffix.lower()) or _guess(content)
    if kind == "csv":
        table = _from_csv(name, content, file)
    else:
        table = _from_json(content, file) if kind == "json" else _from_parquet(content, file)
    if table is None:
        answer = _post(name, content, _MEDIA_TYPES[kind])
    else:
        answer = _post(name, json.dumps(table).encode(), _MEDIA_TYPES["json"])
    result = answer.json()
    version = answer.headers.get("x-model-version")  # MLflow's own server does not send it
    if as_json:
        number = int(version) if version else None
        out.print_json(json.dumps({"name": name, "version": number, **result}))
    else:
        _print_table(f"{name} version {version or '?'}", result)


def _print_table(title: str, result: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    probabilities = result.get("probabilities")
    classes = result.get("classes", ()) if probabilities else ()
    table = Table(title=title, title_justify="left")
    for column in ("row", "prediction", *(f"probability of {label}" for label in classes)):
        table.add_column(escape(column), overflow="fold")
    for row, prediction in enumerate(result["predictions"]):
        figures = (prediction, *(probabilities[row] if probabilities else ()))
        table.add_row(str(row), *(escape(_shown(figure)) for figure in figures))
    out.print(table)


def _content(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as err:
        raise UserError(f"The file {file} cannot be read.", why=err.strerror or str(err)) from err


def _guess(content: bytes) -> str:
    if content.startswith(b"PAR1"):
        return "parquet"
    return "json" if content.lstrip()[:1] in (b"{", b"[") else "csv"


def _from_json(content: bytes, file: str) -> dict[str, Any]:
    """JSON in MLflow's formats, as pandas writes tables, a record, a list or lines of them."""
    try:
        rows: Any = json.loads(content)
    except ValueError as err:
        rows = _lines(content, file, str(err))
    if isinstance(rows, dict) and any(key in rows for key in FORMATS):
        return rows
    if isinstance(rows, dict) and {"columns", "data"} <= rows.keys():
        return {"dataframe_split": rows}
    return {"dataframe_records": rows if isinstance(rows, list) else [rows]}


def _lines(content: bytes, file: str, not_json: str) -> list[Any]:
    """JSON lines; `not_json` is why the file as a whole is not JSON."""
    records: list[Any] = []
    for number, line in enumerate(filter(bytes.strip, content.splitlines()), 1):
        try:
            records.append(json.loads(line))
        except ValueError as err:
            why = f"line {number}: {err}" if records else not_json
            raise UserError(f"{file} is not valid JSON.", why=why) from err
    if not records:
        raise UserError(f"{file} is not valid JSON.", why=not_json)
    return records


def _from_csv(name: str, content: bytes, file: str) -> dict[str, Any] | None:
    """The rows, read as the pipeline's own CSV source is; None if only the server can tell."""
    from tasks.pipeline import load

    if name not in load.names():
        return None
    from tasks.data import input_rows, json_values

    pipeline = load.load(name)
    with TemporaryDirectory() as folder:
        # A pipe can be read only once, so the reader gets a copy, whose ending tells how it is
        # compressed.
        path = Path(folder, "rows.csv" if file == "-" else Path(file).name)
        path.write_bytes(content)
        rows = input_rows.read_csv(path, file, pipeline.data)
    if rows is None:
        return None
    features = [column for column in pipeline.feature_names if column in rows]
    typed = input_rows.typed(rows, features, file, pipeline.data)
    # The version that serves may take columns that the file no longer has.
    others = rows.drop(columns=[*features, pipeline.data.target], errors="ignore")
    return {"dataframe_split": json_values.as_split(typed.join(others))}


def _from_parquet(content: bytes, file: str) -> dict[str, Any]:
    """The table as JSON: a container's server lacks the library that reads Parquet."""
    import pandas as pd

    from tasks.data import json_values

    try:
        return {"dataframe_split": json_values.as_split(pd.read_parquet(BytesIO(content)))}
    except (ValueError, OSError) as err:
        raise UserError(f"{file} is not valid Parquet.", why=str(err)) from err


def _check_name(name: str) -> None:
    """Check that the model has an endpoint; the gateway's own answer would not say what to do."""
    from tasks.base.problems import did_you_mean, listed
    from tasks.base.settings import settings
    from tasks.pipeline import load

    if not settings().gateway_url:
        raise UnavailableError("There is no gateway.", fix=f"Start the stack: {typed('up')}")
    upstreams = settings().gateway_folder / "upstreams"
    served = sorted(path.name for path in upstreams.glob("[!.]*"))
    if name in served:
        return
    if name in load.names():
        raise UserError(
            f"{name} has no endpoint yet.",
            why="No version of it is champion, or the champion is not deployed yet.",
            fix=f"{typed(f'run {name} --wait')}; {typed(f'history {name}')} shows earlier runs.",
        )
    raise UserError(
        f"There is no endpoint {name!r}.",
        why=f"Endpoints: {listed(served) or 'none'}.",
        fix=did_you_mean(name, {*served, *load.names()}),
    )


def _post(name: str, body: bytes, media_type: str) -> httpx.Response:
    import httpx

    from tasks.base.settings import settings

    # The stable URL as this process reaches it: a container has its own 127.0.0.1.
    url = f"{settings().gateway_internal}/models/{name}"

    try:
        answer = httpx.post(
            f"{url}/invocations",
            content=body,
            headers={"content-type": media_type},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.TransportError as err:
        raise UnavailableError(
            f"The endpoint of {name} does not answer.",
            why=f"{url}: {err!r}",
            fix=f"Is the stack up? {typed('status')}",
        ) from err
    if answer.is_success:
        return answer
    why = _message(answer)
    if answer.is_client_error:
        raise UserError(f"{name} refused the request.", why=why)
    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        raise UnavailableError(f"No server of {name} answers.", why=why, fix=typed("status"))
    raise RunFailedError(f"{name} failed with status {answer.status_code}.", why=why)


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text


def _shown(figure: Any) -> str:
    return f"{figure:.6g}" if isinstance(figure, float) else str(figure)
