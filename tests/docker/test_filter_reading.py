"""How the filter reads requests, Dockerfiles and build contexts, without an engine."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.docker.attacks_build import CONTEXTS as ATTACKS
from tests.docker.filtering import archive, http
from tests.docker.world import Attack, World, world_without_engine

# isort: split
import contexts
import rules
import wire

# ---- HTTP.


def stream(source: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=wire.PIECE)
    reader.feed_data(source)
    reader.feed_eof()
    return reader


async def head_of(source: bytes) -> wire.Request:
    return await wire.read_head(stream(source))


async def body_of(headers: dict[str, str], source: bytes, limit: int = 100) -> bytes:
    return await wire.Body(stream(source), headers, limit).whole()


HEADS = {
    "bare CR": b"GET /_ping HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
    "space before the colon": b"GET /_ping HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
    "two lengths": b"GET /_ping HTTP/1.1\r\nContent-Length: 0\r\ncontent-length: 5\r\n\r\n",
    "two codings": b"GET /_ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: identity\r\n\r\n",
    "two hosts": b"GET /_ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no colon": b"GET /_ping HTTP/1.1\r\nHost\r\n\r\n",
    "no name": b"GET /_ping HTTP/1.1\r\n: x\r\n\r\n",
    "NUL in a header": b"GET /_ping HTTP/1.1\r\nA: b\0\r\n\r\n",
    "high byte in a name": b"GET /_ping HTTP/1.1\r\nTransfer-Encod\xefng: chunked\r\n\r\n",
    "authority form": b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\n\r\n",
    "two spaces": b"GET  /_ping HTTP/1.1\r\n\r\n",
    "space in the target": b"GET /_ping /info HTTP/1.1\r\n\r\n",
    "NUL in the target": b"GET /_ping\0 HTTP/1.1\r\n\r\n",
    "HTTP/1.0": b"GET /_ping HTTP/1.0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /_ping\r\n\r\n",
    "lower case": b"get /_ping HTTP/1.1\r\n\r\n",
    "leading line": b"\r\nGET /_ping HTTP/1.1\r\n\r\n",
    "expect": b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    "trailer": b"POST /x HTTP/1.1\r\nTrailer: A\r\n\r\n",
    "unfinished": b"GET /_ping HTTP/1.1\r\nHost: x\r\n",
    "too large": b"GET /_ping HTTP/1.1\r\nA: " + b"b" * (1 << 18) + b"\r\n\r\n",
}


@pytest.mark.parametrize("source", HEADS.values(), ids=HEADS.keys())
def test_heads_that_servers_read_differently(source: bytes) -> None:
    with pytest.raises(rules.Refusal) as raised:
        asyncio.run(head_of(source))
    assert raised.value.status in {400, 431}


def test_a_head() -> None:
    head = asyncio.run(head_of(http("GET", "/a/b?c=d?e", Accept="*/*")))
    assert (head.method, head.path, head.query) == ("GET", "/a/b", "c=d?e")
    assert head.headers["accept"] == "*/*"


CHUNKED = {"transfer-encoding": "chunked"}


def test_bodies() -> None:
    assert asyncio.run(body_of({"content-length": "3"}, b"abcdef")) == b"abc"
    chunks = b"3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\nGET"
    assert asyncio.run(body_of(CHUNKED, chunks)) == b"abc0123456789"
    assert asyncio.run(body_of({}, b"abc")) == b""


BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "other coding": ({"transfer-encoding": "gzip, chunked"}, b"0\r\n\r\n"),
    "unknown coding": ({"transfer-encoding": "xchunked"}, b"0\r\n\r\n"),
    "no coding": ({"transfer-encoding": ""}, b"0\r\n\r\n"),
    "identity": ({"transfer-encoding": "identity"}, b"0\r\n\r\n"),
    "plus": ({"content-length": "+3"}, b"abc"),
    "minus": ({"content-length": "-3"}, b"abc"),
    "underscore": ({"content-length": "1_0"}, b"0123456789"),
    "list": ({"content-length": "3, 3"}, b"abc"),
    "hexadecimal": ({"content-length": "0x3"}, b"abc"),
    "empty": ({"content-length": ""}, b"abc"),
    "other digits": ({"content-length": "\u00b3"}, b"abc"),
    "too long": ({"content-length": "101"}, b"a" * 101),
    "too long in chunks": (CHUNKED, b"65\r\n" + b"a" * 101 + b"\r\n0\r\n\r\n"),
    "chunk size with 0x": (CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a sign": (CHUNKED, b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with an underscore": (CHUNKED, b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size with a blank": (CHUNKED, b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk extension": (CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"),
    "huge chunk": (CHUNKED, b"fffffffff\r\nabc"),
    "bare LF after the size": (CHUNKED, b"3\nabc\r\n0\r\n\r\n"),
    "chunk longer than said": (CHUNKED, b"3\r\nabcdef\r\n0\r\n\r\n"),
    "trailer": (CHUNKED, b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
    "empty size": (CHUNKED, b"\r\nabc\r\n0\r\n\r\n"),
    "endless line": (CHUNKED, b"3" * (1 << 18)),
}


@pytest.mark.parametrize(("headers", "source"), BODIES.values(), ids=BODIES.keys())
def test_bodies_that_servers_read_differently(headers: dict[str, str], source: bytes) -> None:
    with pytest.raises(rules.Refusal) as raised:
        asyncio.run(body_of(headers, source))
    assert raised.value.status in {400, 413}


@pytest.mark.parametrize(
    ("headers", "source"),
    [({"content-length": "9"}, b"abc"), (CHUNKED, b"3\r\nab"), (CHUNKED, b"3")],
)
def test_a_client_that_hangs_up_is_gone(headers: dict[str, str], source: bytes) -> None:
    with pytest.raises(wire.ClientGoneError):
        asyncio.run(body_of(headers, source))


def test_slow_clients_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.05)
    monkeypatch.setattr(wire, "IDLE_S", 0.05)

    async def times_out(read: Callable[[asyncio.StreamReader], Any]) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"3")
        with pytest.raises(rules.Refusal) as raised:
            await read(reader)
        assert raised.value.status == 408

    asyncio.run(times_out(wire.read_head))
    asyncio.run(times_out(lambda reader: wire.Body(reader, CHUNKED, 9).whole()))
    asyncio.run(times_out(lambda reader: wire.Body(reader, {"content-length": "9"}, 9).whole()))


# ---- Dockerfiles.


@pytest.mark.parametrize(
    ("dockerfile", "arguments", "images"),
    [
        ("FROM a\nRUN x\n", {}, {"a"}),
        ("ARG BASE=a:1\nFROM ${BASE}\n", {}, {"a:1"}),
        ("ARG BASE=a:1\nFROM $BASE AS b\n", {"BASE": "c"}, {"c"}),
        ("ARG BASE\nFROM a${BASE}z", {"BASE": "c"}, {"acz"}),
        ("FROM --platform=linux/amd64 a as b\nFROM b\nCOPY --from=b --chown=1:1 x y", {}, {"a"}),
        ("FROM a AS b\nFROM c\nCOPY --from=B x y\nCOPY --from=0 x y\n", {}, {"a", "c"}),
        ("FROM a\nCOPY --from=d x y\n", {}, {"a", "d"}),
        ("FROM a\nCOPY --from=0 x y\n", {}, {"a", "0"}),
        ("FROM a AS b\nCOPY --from=b x y\n", {}, {"a", "b"}),
        ("FROM b\nFROM a AS b\n", {}, {"a", "b"}),
        ("FROM scratch\n", {}, set()),
        ("# c\n  from a\r\nRUN x \\\n  # c \\\n  && y \\  \n z\n\n\tRUN q", {}, {"a"}),
        ("FROM a \\\n AS b\nFROM b", {}, {"a"}),
        ("FROM a\nARG X=1 Y=2\nRUN x\n", {}, {"a"}),
    ],
)
def test_images_that_a_dockerfile_uses(
    dockerfile: str, arguments: dict[str, str], images: set[str]
) -> None:
    assert contexts.sources(dockerfile.encode(), arguments) == images


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM a\n  Add x y",
        "FROM a\nADD\thttp://127.0.0.1/ /x",
        "FROM a\nMAINTAINER x",
        "FROM a\n<<EOF\nEOF",
        "FROM a\nRUN <<EOF\nx\nEOF",
        "FROM a\nCOPY <<EOF /x\nFROM b AS c\nEOF",
        "FROM a\nRUN <<RUN\nFROM a AS c\nRUN\nFROM a\nCOPY --from=c x y",
        "FROM a\nRUN --mount=type=bind,from=b x",
        "FROM a\nRUN   --security=insecure x",
        "FROM a\nCOPY --fr\\om=b x y",
        'FROM a\nCOPY --"from"=b x y',
        "FROM a\nCOPY --from=$B x y",
        "FROM a\nCOPY --link x y",
        "# Escape = `\nFROM a",
        "FROM a\nRUN x \\\\\nRUN y",
        "FROM a\nRUN x \\\n\nRUN y",
        "FROM a # b",
        "FROM a b",
        "FROM",
        "ARG A=b A=c\nFROM $A",
        "ARG A=b\nARG A=c\nFROM $A",
        'ARG A="b"\nFROM $A',
        "ARG A=$B\nFROM $A",
        "FROM a\x0bADD x",
        "FROM a\n\u00a0ADD x y",
        "FROM a\rADD x y",
        "\ufeffFROM a",
        "FROM a\n\0",
    ],
)
def test_dockerfiles_that_are_denied(dockerfile: str) -> None:
    with pytest.raises(rules.Denied, match="Dockerfile"):
        contexts.sources(dockerfile.encode(), {})


def test_a_stage_cannot_hide_an_image_behind_a_continuation() -> None:
    """Without the space, the joined line would name the stage `evilx`."""
    dockerfile = b"FROM a AS evilx\nFROM a\nCOPY --from=evil\\\n x y /\n"
    assert contexts.sources(dockerfile, {}) == {"a", "evil"}


# ---- Contexts.


async def copied(context: bytes) -> tuple[bytes, bytes]:
    """What is sent to the engine, and the Dockerfile's text."""
    sent = bytearray()

    async def send(piece: bytes) -> None:
        sent.extend(piece)

    body = wire.Body(stream(context), {"content-length": str(len(context))}, 1 << 30)
    last, text = await contexts.copy_context(body, "Dockerfile", send)
    return bytes(sent) + last, text


def test_a_context_ends_with_the_text_that_was_checked() -> None:
    long = "d/" + "n" * 150
    files = {"a": "1" * 1000, "Dockerfile": "FROM a", long: "2", "Dockerfile2": "FROM b"}
    sent, text = asyncio.run(copied(archive(files)))
    assert text == b"FROM a"
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        assert tar.getnames() == [".", "a", "Dockerfile", long, "Dockerfile2", "Dockerfile"]
        last = tar.extractfile(tar.getmembers()[-1])
        assert last is not None
        assert last.read() == b"FROM a"


def changed(at: slice, value: bytes, files: dict[str, Any] | None = None) -> bytes:
    """An archive with bytes of its first header replaced and its checksum corrected."""
    raw = bytearray(archive(files or {"x": "FROM b", "Dockerfile": "FROM a"}))
    raw[at] = value
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


SIZE, KIND = slice(124, 136), slice(156, 157)
CONTEXTS = {
    "no Dockerfile": archive({"a": "b"}),
    "Dockerfile deeper": archive({"x/Dockerfile": "FROM a"}),
    "Dockerfile a link": changed(KIND, b"2", {"Dockerfile": ""}),
    "size with an underscore": changed(SIZE, b"0000000_006\0"),
    "size with a sign": changed(SIZE, b"-0000000006\0"),
    "sparse file": changed(KIND, b"S"),
    "old file": changed(KIND, b"\0"),
    "device": changed(KIND, b"3", {"x": "", "Dockerfile": "FROM a"}),
    "empty sparse file": changed(KIND, b"S", {"x": "", "Dockerfile": "FROM a"}),
    "empty long name": changed(KIND, b"L", {"x": "", "Dockerfile": "FROM a"}),
    "global header": changed(KIND, b"g"),
    "long name": changed(KIND, b"L"),
    "link with content": changed(KIND, b"2"),
    "folder with content": changed(KIND, b"5"),
    "extended header with a size": changed(
        KIND, b"x", {"x": "10 size=00\n", "Dockerfile": "FROM a"}
    ),
    "extended header with a size later": changed(
        KIND, b"x", {"x": "7 a=b\n+9 size=0\n", "Dockerfile": "FROM a"}
    ),
    "sparse by extension": changed(
        KIND, b"x", {"x": "22 GNU.sparse.major=1\n", "Dockerfile": "FROM a"}
    ),
    "huge Dockerfile": archive({"Dockerfile": "#" * (1 << 19)}),
    "no archive": b"FROM a\nADD x y\n",
    "nothing": b"",
    "only the end": bytes(1024),
    "cut": archive({"Dockerfile": "FROM a"})[:700],
}


@pytest.mark.parametrize("source", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_contexts_that_are_refused(source: bytes) -> None:
    with pytest.raises(rules.Refusal, match=r"context|ends too early"):
        asyncio.run(copied(source))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Names without an engine."""
    with world_without_engine() as names:
        yield names


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_by_a_context_is_denied(attack: Attack, world: World) -> None:
    context = attack.request(world).partition(b"\r\n\r\n")[2]
    with pytest.raises(rules.Refusal, match=f"^docker filter: {attack.denial}"):
        contexts.sources(asyncio.run(copied(context))[1], {})
