"""Decompresses the body of a request, within a limit: a few bytes can stand for gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO

from tasks.serving.server.signature import RequestError

ENCODINGS = ("gzip", "zstd") if find_spec("pyarrow") else ("gzip",)
"""What this server decompresses; zstd with pyarrow alone."""
_PIECE = 2**16


def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its `Content-Encoding`, at most `limit` + 1 bytes of it.

    Raises:
        RequestError: It is compressed otherwise, or damaged.
    """
    name = encoding.strip().lower().removeprefix("x-")
    if name in {"", "identity"}:
        return body
    if name not in ENCODINGS:
        raise RequestError(
            f"The 'Content-Encoding' of a request must be {' or '.join(ENCODINGS)}.",
            415,
            "UNSUPPORTED_ENCODING",
            {"Accept-Encoding": ", ".join(ENCODINGS)},
        )
    pieces = _gzip(body) if name == "gzip" else _zstd(body)
    content = bytearray()
    try:
        for piece in pieces:
            content += piece
            if len(content) > limit:
                break
    except (zlib.error, OSError, EOFError) as err:
        raise RequestError(f"The body is not valid {name}.") from err
    return bytes(content[: limit + 1])


def _gzip(body: bytes) -> Iterator[bytes]:
    """Of one or more members, a piece at a time."""
    while body:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        yield member.decompress(body, _PIECE)
        while not member.eof:
            piece = member.decompress(member.unconsumed_tail, _PIECE)
            if not piece and not member.unconsumed_tail and not member.eof:
                raise EOFError
            yield piece
        body = member.unused_data


def _zstd(body: bytes) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.CompressedInputStream(BytesIO(body), "zstd") as stream:
        while piece := stream.read(_PIECE):
            yield piece
