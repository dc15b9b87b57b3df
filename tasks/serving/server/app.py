"""The scoring server's HTTP: MLflow's REST protocol, and what deployments need to know."""

from __future__ import annotations

import asyncio
from functools import partial

import mlflow.version
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.server.encoding import decode
from tasks.serving.server.scorer import Scorer
from tasks.serving.server.signature import RequestError

MAX_BODY = 100 * 2**20
_CODES = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def create(scorer: Scorer, name: str, version: int, *, max_body: int = MAX_BODY) -> ASGIApp:
    """The ASGI application of one model version."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    counted = Counted(app, version)
    get = partial(app.api_route, methods=["GET", "HEAD"])

    async def ping() -> Response:
        return Response("\n", media_type="application/json")

    get("/ping")(ping)
    get("/health")(ping)

    @get("/")
    async def describe() -> JSONResponse:
        return JSONResponse(
            {
                "name": name,
                "version": version,
                "columns": scorer.reader.schema.to_dict() if scorer.reader.schema else None,
                "paths": {
                    "POST invocations": "rows to predictions, as JSON, CSV or Parquet",
                    "GET ping": "whether it answers",
                    "GET version": "what answers",
                    "GET status": "how busy it is",
                },
            }
        )

    @get("/version")
    async def identity() -> JSONResponse:
        return JSONResponse(
            {
                "name": name,
                "version": version,
                "run_id": scorer.run_id,
                "mlflow": mlflow.version.VERSION,
            }
        )

    @get("/status")
    async def status() -> JSONResponse:
        return JSONResponse(
            {"version": version, "inflight": counted.inflight, "requests": counted.requests}
        )

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        body = await _read(request, max_body)
        kind = request.headers.get("content-type")
        text = await asyncio.to_thread(scorer.answer, body, kind)
        return Response(text, media_type="application/json")

    _answer_errors(app)
    return counted


def _answer_errors(app: FastAPI) -> None:
    """Errors as `error_code` and `message`, without a trace and without the input."""

    @app.exception_handler(RequestError)
    async def refuse(_: Request, err: RequestError) -> JSONResponse:
        answer = _error(err.status, err.code, err.message)
        answer.headers.update(err.headers)
        return answer

    @app.exception_handler(HTTPException)
    async def reject(_: Request, err: HTTPException) -> JSONResponse:
        answer = _error(err.status_code, _CODES.get(err.status_code, "BAD_REQUEST"), err.detail)
        answer.headers.update(err.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody receives it

    @app.exception_handler(Exception)
    async def fail(_: Request, __: Exception) -> JSONResponse:
        return _error(500, "INTERNAL_ERROR", "The server failed; its log says why.")


class Counted:
    """Counts scoring requests, to know when a server has drained, and adds the version header.

    A slash at the end of a path is ignored. To redirect such a request would lead it out of the
    gateway's `/models/NAME`.
    """

    def __init__(self, app: ASGIApp, version: int) -> None:
        self.app, self.header = app, (b"x-model-version", str(version).encode())
        self.inflight = self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event, as ASGI defines it."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), self.header]
            await send(message)

        scoring = False
        if scope["type"] == "http":
            scope["path"] = scope["path"].rstrip("/") or "/"
            scoring = scope["path"] == "/invocations"
        self.inflight += scoring
        self.requests += scoring
        try:
            await self.app(scope, receive, send_with_version)
        finally:
            self.inflight -= scoring


async def _read(request: Request, limit: int) -> bytes:
    """The body, if it has at most `limit` bytes, also decompressed, whatever its header says."""
    too_large = RequestError(f"The body is larger than {limit} bytes.", 413, "BODY_TOO_LARGE")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    encoding = request.headers.get("content-encoding")
    if encoding is None:
        return bytes(body)
    content = await asyncio.to_thread(decode, bytes(body), encoding, limit)
    if len(content) > limit:
        raise too_large
    return content


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status)
