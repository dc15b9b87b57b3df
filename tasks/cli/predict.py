"""`./mlops predict`: rows of a file to a model's endpoint."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli import out
from tasks.commands import typed
from tasks.errors import RunFailedError, UnavailableError, UserError

if TYPE_CHECKING:
    import httpx

_JSON, _CSV, _PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_KINDS = {".json": _JSON, ".csv": _CSV, ".parquet": _PARQUET}
_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_TIMEOUT_S = 120


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    name: Annotated[str, typer.Argument(help="the model")],
    file: Annotated[str, typer.Argument(help="CSV, JSON or Parquet; - for standard input")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Ask a model's endpoint for predictions."""
    body, kind = _content(file)
    _known(name)
    answer = _post(name, body, kind)
    predictions = answer.json()["predictions"]
    said = answer.headers.get("x-model-version")  # MLflow's own server does not say
    version = int(said) if said else None
    if as_json:
        out.print_json(json.dumps({"name": name, "version": version, "predictions": predictions}))
        return
    from rich.table import Table

    table = Table(
        "row", "prediction", title=f"{name} version {version or '?'}", title_justify="left"
    )
    for number, prediction in enumerate(predictions):
        table.add_row(str(number), _shown(prediction))
    out.print(table)


def _content(file: str) -> tuple[bytes, str]:
    """The request's body and its media type."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as err:
        raise UserError(f"The file {file} cannot be read.", why=err.strerror or str(err)) from err
    kind = _KINDS.get(Path(file).suffix.lower()) or _guess(content)
    if kind == _CSV:
        return content, kind
    make = _as_request if kind == _JSON else _from_parquet
    return make(content, file), _JSON


def _guess(content: bytes) -> str:
    if content.startswith(b"PAR1"):
        return _PARQUET
    return _JSON if content.lstrip()[:1] in (b"{", b"[") else _CSV


def _as_request(content: bytes, file: str) -> bytes:
    """JSON in one of MLflow's formats, as pandas writes tables, a list of records, or a record."""
    try:
        data: Any = json.loads(content)
    except ValueError as err:
        raise UserError(f"{file} is not valid JSON.", why=str(err)) from err
    if isinstance(data, dict) and any(name in data for name in _FORMATS):
        return content
    if isinstance(data, dict) and {"columns", "data"} <= data.keys():
        return json.dumps({"dataframe_split": data}).encode()
    return json.dumps({"dataframe_records": data if isinstance(data, list) else [data]}).encode()


def _from_parquet(content: bytes, file: str) -> bytes:
    """The table as JSON: a container's server does without the library that reads Parquet."""
    from io import BytesIO

    import pandas as pd

    from tasks import plain

    try:
        table = pd.read_parquet(BytesIO(content))
    except (ValueError, OSError) as err:
        raise UserError(f"{file} is not valid Parquet.", why=str(err)) from err
    return json.dumps({"dataframe_split": plain.as_split(table)}).encode()


def _known(name: str) -> None:
    """Check that the model has an endpoint; the gateway's own answer would not say what to do."""
    from tasks.pipeline import load
    from tasks.pipeline.problems import did_you_mean, listed
    from tasks.settings import settings

    ours = settings()
    if not ours.gateway_url:
        raise UnavailableError("There is no gateway.", fix=f"Start the stack: {typed('up')}")
    upstreams = ours.gateway_folder / "upstreams"
    served = sorted(path.name for path in upstreams.glob("[!.]*"))
    if name in served:
        return
    if name in load.names():
        raise UserError(
            f"{name} has no endpoint yet.",
            why="No version of it is champion, or it is not deployed yet.",
            fix=typed(f"run {name} --wait"),
        )
    raise UserError(
        f"There is no endpoint {name!r}.",
        why=f"Endpoints: {listed(served) or 'none'}.",
        fix=did_you_mean(name, {*served, *load.names()}),
    )


def _post(name: str, body: bytes, kind: str) -> httpx.Response:
    import httpx

    from tasks.settings import settings

    # The stable URL as this process reaches it: a container has its own 127.0.0.1.
    url = f"{settings().gateway_internal}/models/{name}"

    try:
        answer = httpx.post(
            f"{url}/invocations",
            content=body,
            headers={"content-type": kind},
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


def _shown(prediction: Any) -> str:
    return f"{prediction:.6g}" if isinstance(prediction, float) else str(prediction)
