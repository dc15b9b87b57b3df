"""HTTP as it is spoken with clients: one strict reading of a request, and answers of our own."""

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
    """The client hung up: there is nobody to answer."""


@dataclass(frozen=True)
class Request:
    """A request's head."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


async def read_head(reader: asyncio.StreamReader) -> Request:
    """The request on this connection; refuses whatever two servers might read differently."""
    try:
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError as err:
        raise Refusal(408, f"docker filter: no whole request within {HEAD_S} s") from err
    except asyncio.LimitOverrunError as err:
        raise Refusal(431, f"docker filter: a head of more than {PIECE} bytes") from err
    except asyncio.IncompleteReadError as err:
        if err.partial:
            raise Refusal(400, "docker filter: an unfinished request") from err
        raise ClientGoneError from err
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    asked = re.fullmatch(r"([A-Z]+) (/[!-~]*) HTTP/1\.1", first)
    if not asked:
        raise Refusal(400, f"docker filter: not METHOD /path HTTP/1.1: {ascii(first)[:200]}")
    path, _, query = asked[2].partition("?")
    return Request(asked[1], path, query, _headers(lines))


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*?)[ \t]*", line)
        if not match or match[1].lower() in headers:
            raise Refusal(400, f"docker filter: malformed or twice: {ascii(line)[:200]}")
        headers[match[1].lower()] = match[2]
    if unfit := headers.keys() & {"upgrade", "expect", "trailer"}:
        raise Refusal(400, f"docker filter: not for here: {', '.join(sorted(unfit))}")
    return headers


def read_query(source: str) -> dict[str, Any]:
    """The options of a query; one that is there twice is a list."""
    try:
        found = parse_qs(source, keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError as err:
        raise Denied("options", source, "64 at most, in UTF-8") from err
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


class Body:
    """A request's body, whichever way it is framed."""

    def __init__(
        self, reader: asyncio.StreamReader, headers: Mapping[str, str], limit: int
    ) -> None:
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None and (coding != "chunked" or length is not None):
            raise Refusal(400, "docker filter: Transfer-Encoding: chunked or a Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,15}", length):
            raise Refusal(400, f"docker filter: not a Content-Length: {ascii(length)[:200]}")
        self._reader, self._limit = reader, limit
        self._chunked, self._left = coding is not None, int(length or 0)
        self._within(self._left)

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
        found = bytearray()
        while len(found) < size:
            piece = await self.read(size - len(found))
            if not piece:
                raise Refusal(400, "docker filter: the body ends too early")
            found += piece
        return bytes(found)

    async def whole(self) -> bytes:
        """All of it."""
        found = bytearray()
        while piece := await self.read(PIECE):
            found += piece
        return bytes(found)

    async def _next_chunk(self) -> None:
        size = await self._line(8)
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise Refusal(400, f"docker filter: not the size of a chunk: {ascii(size)[:200]}")
        self._left = int(size, 16)
        self._within(self._left)
        if not self._left:
            self._chunked = False
            await self._line(0)

    def _within(self, more: int) -> None:
        self._limit -= more
        if self._limit < 0:
            raise Refusal(413, "docker filter: the body is too large")

    async def _line(self, most: int) -> bytes:
        line = await self._raw(self._reader.readuntil(b"\r\n"))
        if len(line) > most + 2:
            raise Refusal(400, f"docker filter: malformed chunks: {ascii(line)[:200]}")
        return line[:-2]

    async def _raw(self, reading: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(IDLE_S):
                piece = await reading
        except TimeoutError as err:
            raise Refusal(408, f"docker filter: no more of the body for {IDLE_S} s") from err
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
    """Send JSON, and hear the client out for a while, lest a reset overtake the answer."""
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
