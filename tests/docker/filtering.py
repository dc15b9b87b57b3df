"""The Docker socket filter as a process, and requests as bytes that no ordinary client sends."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.stack.embedded import ports
from tests.waiting import until

FILTER = Path(__file__).parents[2] / "docker" / "filter"
sys.path.insert(0, str(FILTER))

BASE = "python:3.11-slim"


def http(
    method: str,
    target: str,
    body: bytes | str | Mapping[str, Any] = b"",
    **headers: str,
) -> bytes:
    """A request, framed by its length unless a header says otherwise."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    framing = {} if "Transfer-Encoding" in named else {"Content-Length": str(len(body))}
    lines = {"Host": "docker", "Connection": "close", **framing, **named}
    if body and "Content-Type" not in lines:
        lines["Content-Type"] = "application/json"
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return head.encode() + b"\r\n" + body


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A tar archive with its files, the Dockerfile included, in the order given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def send(address: str | tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """Send bytes and read until the end; returns the first answer's status (0: none) and all."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(address)
        with suppress(ConnectionError):  # the server may answer before it has read everything
            connection.sendall(request)
        reply = b""
        with suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                reply += piece
    return int(reply.split(maxsplit=2)[1]) if reply.startswith(b"HTTP/") else 0, reply


def message(reply: bytes) -> str:
    """The message in an answer's JSON."""
    return str(json.loads(reply.partition(b"\r\n\r\n")[2])["message"])


class RunningFilter:
    """A filter in its own process."""

    def __init__(self, log: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self._log, self.process, self.port = log, process, port

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text()

    def open_files(self) -> int:
        """How many files and connections it holds open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def running_filter(log: Path, **settings: str) -> Iterator[RunningFilter]:
    """Run the filter with these variables (`PROJECT` for `FILTER_PROJECT`)."""
    port = ports.unused()
    environment = {f"FILTER_{name}": value for name, value in settings.items()}
    environment["FILTER_LISTEN"] = f"127.0.0.1:{port}"
    command = [sys.executable, str(FILTER / "filter.py")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)
    try:
        service = RunningFilter(log, process, port)
        until(
            lambda: "listening" in service.log or process.poll() is not None,
            10,
            "the filter listens",
        )
        assert process.poll() is None, service.log
        yield service
    finally:
        process.terminate()
        process.wait(5)


class CuttableRelay:
    """A relay to the engine; when it is cut, a filter sees what it sees when the engine stops."""

    def __init__(self, path: str, engine: str) -> None:
        self.path, self._engine = path, engine
        self._connections: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        """Listen, as an engine that starts."""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """Drop everything, as an engine that stops."""
        Path(self.path).unlink(missing_ok=True)
        for connection in (self._server, *self._connections):
            with closing(connection), suppress(OSError):  # the other end may have hung up
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine)
            self._connections += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
