"""HTTP with clients: a strict reading of requests, and the filter's own answers.

The parser is ours because it must refuse what two servers might read differently. h11 accepts bare
LF, folded headers, repeated lengths, codings in any case and chunk extensions, and its events no
longer show them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from rules import Denied, Refusal

PIECE = 1 << 16
HEAD_S, IDLE_S, LINGER_S = 10, 60, 5


class ClientGoneError(Exception):
    """The client hung up; nobody is left to answer."""


@dataclass(frozen=True)
class Request:
    """A request's head."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


async def read_head(reader: asyncio.StreamReader) -> Request:
    """Read a request's head; refuse whatever two servers might read differently."""
    try:
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError as err:
        raise Refusal(408, f"docker filter: timed out after {HEAD_S} s reading the head") from err
    except asyncio.LimitOverrunError as err:
        raise Refusal(431, f"docker filter: the head exceeds {PIECE} bytes") from err
    except asyncio.IncompleteReadError as err:
        if err.partial:
            raise Refusal(400, "docker filter: incomplete head") from err
        raise ClientGoneError from err
    request_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    match = re.fullmatch(r"([A-Z]+) (/[!-~]*) HTTP/1\.1", request_line)
    if not match:
        raise Refusal(400, f"docker filter: not METHOD /path HTTP/1.1: {ascii(request_line)[:200]}")
    path, _, query = match[2].partition("?")
    return Request(match[1], path, query, _parse_headers(lines))


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*?)[ \t]*", line)
        if not match or match[1].lower() in headers:
            raise Refusal(400, f"docker filter: malformed or repeated: {ascii(line)[:200]}")
        headers[match[1].lower()] = match[2]
    if unsupported := headers.keys() & {"upgrade", "expect", "trailer"}:
        raise Refusal(400, f"docker filter: unsupported: {', '.join(sorted(unsupported))}")
    return headers


def read_query(query: str) -> dict[str, Any]:
    """Parse a query's options; an option given more than once becomes a list."""
    try:
        options = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError as err:
        raise Denied("options", query, "64 at most, in UTF-8") from err
    return {name: values if len(values) > 1 else values[0] for name, values in options.items()}


class Body:
    """A request's body, whichever way it is framed."""

    def __init__(
        self, reader: asyncio.StreamReader, headers: Mapping[str, str], limit: int
    ) -> None:
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None and (coding != "chunked" or length is not None):
            raise Refusal(400, "docker filter: not Transfer-Encoding: chunked or a Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refusal(400, f"docker filter: invalid Content-Length: {ascii(length)[:200]}")
        self._reader, self._limit = reader, limit
        self._chunked, self._left = coding is not None, int(length or 0)
        self._count(self._left)

    def __bool__(self) -> bool:
        return self._chunked or self._left > 0

    async def read(self, size: int) -> bytes:
        """At most this many bytes; none at the end."""
        if self._chunked and not self._left:
            await self._next_chunk()
        piece = await self._raw(self._reader.read(min(size, self._left))) if self._left else b""
        self._left -= len(piece)
        if self._chunked and piece and not self._left:
            await self._line(0)
        return piece

    async def exactly(self, size: int) -> bytes:
        """Exactly this many bytes."""
        content = bytearray()
        while len(content) < size:
            piece = await self.read(size - len(content))
            if not piece:
                raise Refusal(400, "docker filter: the body ends too early")
            content += piece
        return bytes(content)

    async def whole(self) -> bytes:
        """All of it."""
        content = bytearray()
        while piece := await self.read(PIECE):
            content += piece
        return bytes(content)

    async def _next_chunk(self) -> None:
        size = await self._line(8)
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise Refusal(400, f"docker filter: invalid chunk size: {ascii(size)[:200]}")
        self._left = int(size, 16)
        self._count(self._left)
        if not self._left:
            self._chunked = False
            await self._line(0)

    def _count(self, size: int) -> None:
        self._limit -= size
        if self._limit < 0:
            raise Refusal(413, "docker filter: the body is too large")

    async def _line(self, limit: int) -> bytes:
        line = await self._raw(self._reader.readuntil(b"\r\n"))
        if len(line) > limit + 2:
            raise Refusal(400, f"docker filter: malformed chunks: {ascii(line)[:200]}")
        return line[:-2]

    async def _raw(self, reading: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(IDLE_S):
                piece = await reading
        except TimeoutError as err:
            message = f"docker filter: timed out after {IDLE_S} s reading the body"
            raise Refusal(408, message) from err
        except asyncio.LimitOverrunError as err:
            raise Refusal(400, "docker filter: malformed chunks") from err
        except (ConnectionError, asyncio.IncompleteReadError) as err:
            raise ClientGoneError from err
        if not piece:
            raise ClientGoneError
        return piece


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int, content: Any
) -> None:
    """Send JSON, then read on for a while: closing at once could reset the connection first."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with suppress(TimeoutError, ConnectionError):
        writer.write(head.encode("ascii") + body)
        async with asyncio.timeout(IDLE_S):
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            while await reader.read(PIECE):
                pass
