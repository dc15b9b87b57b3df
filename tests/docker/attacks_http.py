"""Attacks by how a request is framed, and by how its path is written."""

from __future__ import annotations

from collections.abc import Callable

from tests.docker.filtering import http
from tests.docker.world import Attack, Make, World, call, container


def kill(world: World) -> bytes:
    """The request that is smuggled."""
    return http("POST", f"/containers/{world.victim}/kill")


def _ping(lines: str) -> bytes:
    return f"GET /_ping HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def _framed(lines: str, inner: Callable[[bytes], bytes] = lambda hidden: hidden) -> Make:
    """A smuggled request in the body of one that is allowed."""

    def make(world: World) -> bytes:
        head = (
            f"POST /containers/{world.own}/kill?signal=CONT HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n"
        )
        hidden = kill(world)
        return head.replace("{length}", str(len(hidden))).encode() + inner(hidden)

    return make


def _chunked(end: bytes = b"0\r\n\r\n") -> Callable[[bytes], bytes]:
    """A chunked body that ends before the smuggled request."""
    return lambda hidden: end + hidden


CHUNKED = "Transfer-Encoding: chunked"
LENGTHS = "not Transfer-Encoding: chunked or a Content-Length"
MALFORMED = "malformed or repeated"
REQUEST_LINE = "not METHOD /path HTTP/1.1"
SMUGGLING = (
    Attack("pipelined", lambda w: _ping("") + kill(w), served=True),
    Attack(
        "pipelined after a body",
        lambda w: (
            http("POST", f"/containers/{w.own}/kill?signal=CONT", Connection="keep-alive") + kill(w)
        ),
        served=True,
    ),
    Attack("in a body", _framed("Content-Length: {length}"), real=False, denial="body"),
    Attack(
        "both lengths",
        _framed(f"Content-Length: 5\r\n{CHUNKED}", _chunked()),
        real=False,
        denial=LENGTHS,
    ),
    Attack(
        "both lengths, the other way",
        _framed(f"{CHUNKED}\r\nContent-Length: {{length}}", _chunked()),
        real=False,
        denial=LENGTHS,
    ),
    Attack(
        "same length twice", _framed("Content-Length: 0\r\nContent-Length: 0"), denial=MALFORMED
    ),
    Attack("folded header", _framed("X: y\r\n Content-Length: {length}"), denial=MALFORMED),
    Attack("bare LF", _framed("X: y\nContent-Length: 0"), denial=MALFORMED),
    Attack(
        "bare LF everywhere",
        lambda w: (_ping("") + kill(w)).replace(b"\r\n", b"\n") + b"\r\n\r\n",
        denial=REQUEST_LINE,
    ),
    Attack(
        "chunked in capitals", _framed("Transfer-Encoding: CHUNKED", _chunked()), denial=LENGTHS
    ),
    Attack("chunk extension", _framed(CHUNKED, _chunked(b"0;x=y\r\n\r\n")), denial="body"),
    Attack("trailer", _framed(CHUNKED, _chunked(b"0\r\nX: y\r\n\r\n")), denial="body"),
    Attack("chunks with bare LF", _framed(CHUNKED, _chunked(b"0\n\n")), denial="body"),
    Attack(
        "upgrade",
        _framed("Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0"),
        denial="unsupported: upgrade",
    ),
    Attack(
        "in the name of a container",
        lambda w: http(
            "POST",
            f"/containers/create?name={w.marker}-model-x%20HTTP/1.1%0d%0a%0d%0a"
            + kill(w).decode().replace("\r\n", "%0d%0a").replace(" ", "%20"),
            container(w),
        ),
        real=False,
        denial="option.name",
    ),
)

PATHS = (
    *(
        Attack(f"path {path}", call("POST", path), real=real, denial="endpoint")
        for path, real in {
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
            "/v1.9/containers/{victim}/kill": False,
            "/v999.9/containers/{victim}/kill": False,
            "/V1.41/containers/{victim}/kill": False,
            "/v1.41/v1.41/containers/{victim}/kill": False,
            "/v1.41.1/containers/{victim}/kill": False,
        }.items()
    ),
    Attack(
        "absolute path", call("POST", "http://docker/containers/{victim}/kill"), denial=REQUEST_LINE
    ),
)
