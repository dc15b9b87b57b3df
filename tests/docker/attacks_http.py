"""Attacks by how a request is framed, and by how its path is written."""

from __future__ import annotations

from collections.abc import Callable

from tests.docker.attacks import to
from tests.docker.filtering import http
from tests.docker.world import Attack, Make, World, container


def kill(world: World) -> bytes:
    """What smuggled requests do."""
    return http("POST", f"/containers/{world.victim}/kill")


def _after(first: bytes | Make) -> Make:
    return lambda w: (first if isinstance(first, bytes) else first(w)) + kill(w)


def _ping(lines: str) -> bytes:
    return f"GET /_ping HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def _framed(lines: str, inner: Callable[[bytes], bytes]) -> Make:
    """A smuggled request in the body of one that is allowed."""

    def make(world: World) -> bytes:
        head = (
            f"POST /containers/{world.own}/kill?signal=CONT HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n"
        )
        hidden = kill(world)
        return head.replace("{length}", str(len(hidden))).encode() + inner(hidden)

    return make


CHUNKED = "Transfer-Encoding: chunked"
SMUGGLING = (
    Attack("pipelined", _after(_ping("")), served=True),
    Attack(
        "pipelined after a body",
        _after(
            lambda w: http("POST", f"/containers/{w.own}/kill?signal=CONT", Connection="keep-alive")
        ),
        served=True,
    ),
    Attack("in a body", _framed("Content-Length: {length}", lambda k: k), bare=False),
    Attack(
        "both lengths",
        _framed(f"Content-Length: 5\r\n{CHUNKED}", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack(
        "both lengths, the other way",
        _framed(f"{CHUNKED}\r\nContent-Length: {{length}}", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack(
        "two lengths",
        _framed("Content-Length: 0\r\nContent-Length: {length}", lambda k: k),
        bare=False,
    ),
    Attack("same length twice", _framed("Content-Length: 0\r\nContent-Length: 0", lambda k: k)),
    Attack("list of lengths", _framed("Content-Length: 0, 0", lambda k: k), bare=False),
    Attack("signed length", _framed("Content-Length: +0", lambda k: k), bare=False),
    Attack("length with an underscore", _framed("Content-Length: 0_0", lambda k: k), bare=False),
    Attack("negative length", _framed("Content-Length: -1", lambda k: k), bare=False),
    Attack("blank before the colon", _framed("Content-Length : {length}", lambda k: k), bare=False),
    Attack("folded header", _framed("X: y\r\n Content-Length: {length}", lambda k: k)),
    Attack("bare LF", _framed("X: y\nContent-Length: 0", lambda k: k)),
    Attack(
        "bare LF everywhere", lambda w: (_ping("") + kill(w)).replace(b"\r\n", b"\n") + b"\r\n\r\n"
    ),
    Attack(
        "chunked in capitals", _framed("Transfer-Encoding: CHUNKED", lambda k: b"0\r\n\r\n" + k)
    ),
    Attack(
        "odd coding", _framed("Transfer-Encoding: xchunked", lambda k: b"0\r\n\r\n" + k), bare=False
    ),
    Attack(
        "two codings",
        _framed(f"{CHUNKED}\r\nTransfer-Encoding: identity", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack("chunk extension", _framed(CHUNKED, lambda k: b"0;x=y\r\n\r\n" + k)),
    Attack("trailer", _framed(CHUNKED, lambda k: b"0\r\nX: y\r\n\r\n" + k)),
    Attack("chunk in hexadecimal", _framed(CHUNKED, lambda k: b"0x0\r\n\r\n" + k), bare=False),
    Attack("chunks with bare LF", _framed(CHUNKED, lambda k: b"0\n\n" + k)),
    Attack("NUL in a header", _framed("X: \0\r\nContent-Length: 0", lambda k: k), bare=False),
    Attack(
        "upgrade", _framed("Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0", lambda k: k)
    ),
    Attack(
        "in the name of a container",
        lambda w: http(
            "POST",
            f"/containers/create?name={w.marker}-model-x%20HTTP/1.1%0d%0a%0d%0a"
            + kill(w).decode().replace("\r\n", "%0d%0a").replace(" ", "%20"),
            container(w),
        ),
        bare=False,
    ),
)

PATHS = tuple(
    Attack(f"path {path}", to("POST", path), bare=bare)
    for path, bare in {
        "//containers/{victim}/kill": False,
        "/./containers/{victim}/kill": False,
        "/containers/{own}/../{victim}/kill": False,
        "/containers/{own}/%2e%2e/{victim}/kill": False,
        "/containers/{own}%2F..%2F{victim}/kill": False,
        "/containers%2F{victim}%2Fkill": True,
        "/%63ontainers/{victim}/kill": True,
        "/containers/%2f{victim}/kill": False,
        "/containers/{victim}%00/kill": False,
        "/containers/{victim}/kill%3Fx": False,
        "/containers/{victim}/kill;x": False,
        "/containers/{victim};x/kill": False,
        "/containers/{victim}/kill#x": False,
        "/containers/{victim}/kill/": False,
        "/CONTAINERS/{victim}/kill": False,
        "/v1.24/containers/{victim}/kill": True,
        "/v1.9/containers/{victim}/kill": False,
        "/v999.9/containers/{victim}/kill": False,
        "/V1.41/containers/{victim}/kill": False,
        "/v1.41/v1.41/containers/{victim}/kill": False,
        "/v1.41.1/containers/{victim}/kill": False,
        "http://docker/containers/{victim}/kill": True,
        "docker:2375": False,
        "*": False,
    }.items()
)
