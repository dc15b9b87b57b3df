"""`./mlops predict`: rows of a file to a model's endpoint."""

from __future__ import annotations

import csv
import json
import re
import sys
from http import HTTPStatus
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError, UserError
from tasks.cli.console import out

if TYPE_CHECKING:
    import httpx

_JSON, _CSV, _PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_KINDS = {".json": _JSON, ".csv": _CSV, ".parquet": _PARQUET}
_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_PLAIN = (",", ".", "utf-8")
"""Separator, decimal point and encoding of the CSV that servers read."""
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")
_TIMEOUT_S = 120


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(  # noqa: PLR0913 - the options
    name: Annotated[str, typer.Argument(help="the model")],
    file: Annotated[
        str, typer.Argument(help="CSV, JSON, JSON lines or Parquet; - for standard input")
    ],
    *,
    sep: Annotated[str, typer.Option(help="between a CSV file's columns")] = ",",
    decimal: Annotated[str, typer.Option(help="a CSV file's decimal point")] = ".",
    encoding: Annotated[str, typer.Option(help="of a CSV file")] = "utf-8",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Ask a model's endpoint for predictions."""
    body, kind = _content(file)
    as_written = (sep.replace("\\t", "\t"), decimal, encoding)
    if as_written != _PLAIN:
        if kind != _CSV:
            raise UserError(f"{file} is no CSV, so --sep, --decimal and --encoding say nothing.")
        body = _as_plain_csv(body, file, *as_written)
    _known(name)
    answer = _post(name, body, kind)
    content = answer.json()
    predictions, shares = content["predictions"], content.get("probabilities")
    said = answer.headers.get("x-model-version")  # MLflow's own server does not say
    version = int(said) if said else None
    if as_json:
        out.print_json(json.dumps({"name": name, "version": version, **content}))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{name} version {version or '?'}", title_justify="left")
    classes = content.get("classes", ()) if shares else ()
    for column in ("row", "prediction", *(f"probability of {one}" for one in classes)):
        table.add_column(escape(column), overflow="fold")
    for row, prediction in enumerate(predictions):
        figures = (prediction, *(shares[row] if shares else ()))
        table.add_row(str(row), *(escape(_shown(figure)) for figure in figures))
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
    """JSON in MLflow's formats, as pandas writes tables, a record, a list or lines of them."""
    try:
        data: Any = json.loads(content)
    except ValueError as err:
        data = _lines(content, file, str(err))
    if isinstance(data, dict) and any(name in data for name in _FORMATS):
        return content
    if isinstance(data, dict) and {"columns", "data"} <= data.keys():
        return json.dumps({"dataframe_split": data}).encode()
    return json.dumps({"dataframe_records": data if isinstance(data, list) else [data]}).encode()


def _lines(content: bytes, file: str, else_wrong: str) -> list[Any]:
    """JSON lines; `else_wrong` is why the file is no JSON as a whole."""
    records: list[Any] = []
    for number, line in enumerate(filter(bytes.strip, content.splitlines()), 1):
        try:
            records.append(json.loads(line))
        except ValueError as err:
            why = f"line {number}: {err}" if records else else_wrong
            raise UserError(f"{file} is not valid JSON.", why=why) from err
    if not records:
        raise UserError(f"{file} is not valid JSON.", why=else_wrong)
    return records


def _as_plain_csv(content: bytes, file: str, sep: str, decimal: str, encoding: str) -> bytes:
    """CSV as the server reads it: commas, decimal points, UTF-8."""
    for option, value in (("sep", sep), ("decimal", decimal)):
        if len(value) != 1 or value in '"\r\n' or sep == decimal:
            raise UserError(
                f"--{option} must be one sign, and another than the rest. Got {value!r} instead."
            )

    def plain(cell: str) -> str:
        if decimal != "." and _NUMBER.fullmatch(cell) and "." in cell:
            what = f"{file} has {cell!r}, which is unclear where {decimal!r} is the decimal point."
            raise UserError(what, fix="Leave out signs between thousands.")
        changed = cell.replace(decimal, ".")
        return changed if _NUMBER.fullmatch(changed) else cell

    made = StringIO()
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
        lines = csv.reader(StringIO(text, newline=""), delimiter=sep, strict=True)
        csv.writer(made, lineterminator="\n").writerows(map(plain, line) for line in lines)
    except (UnicodeError, LookupError, csv.Error) as err:
        what = f"separator {sep!r}, decimal point {decimal!r} and encoding {encoding!r}"
        raise UserError(f"{file} cannot be read with {what}.", why=str(err)) from err
    return made.getvalue().encode()


def _from_parquet(content: bytes, file: str) -> bytes:
    """The table as JSON: a container's server does without the library that reads Parquet."""
    import pandas as pd

    from tasks.data import json_values

    try:
        table = pd.read_parquet(BytesIO(content))
    except (ValueError, OSError) as err:
        raise UserError(f"{file} is not valid Parquet.", why=str(err)) from err
    return json.dumps({"dataframe_split": json_values.as_split(table)}).encode()


def _known(name: str) -> None:
    """Check that the model has an endpoint; the gateway's own answer would not say what to do."""
    from tasks.base.problems import did_you_mean, listed
    from tasks.base.settings import settings
    from tasks.pipeline import load

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
            fix=f"{typed(f'run {name} --wait')}; {typed(f'history {name}')} tells of earlier runs.",
        )
    raise UserError(
        f"There is no endpoint {name!r}.",
        why=f"Endpoints: {listed(served) or 'none'}.",
        fix=did_you_mean(name, {*served, *load.names()}),
    )


def _post(name: str, body: bytes, kind: str) -> httpx.Response:
    import httpx

    from tasks.base.settings import settings

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
        raise UserError(f"{name} refused the request.", why=why, fix=_hint(body, kind))
    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        raise UnavailableError(f"No server of {name} answers.", why=why, fix=typed("status"))
    raise RunFailedError(f"{name} failed with status {answer.status_code}.", why=why)


def _hint(body: bytes, kind: str) -> str:
    """What may be wrong with a CSV file that was read as one of commas."""
    header = body.partition(b"\n")[0]
    seps = [sep for sep in (";", "\t", "|") if sep.encode() in header and b"," not in header]
    return f"Is it --sep {seps[0]!r}?" if kind == _CSV and seps else ""


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text


def _shown(prediction: Any) -> str:
    return f"{prediction:.6g}" if isinstance(prediction, float) else str(prediction)
