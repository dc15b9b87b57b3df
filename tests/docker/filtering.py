"""The Docker socket filter, and requests as bytes: what clients of good will cannot say."""

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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.stack.embedded import ports
from tests.waiting import until

HERE = Path(__file__).parents[2] / "docker" / "filter"
sys.path.insert(0, str(HERE))

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


def archive(files: Mapping[str, str | bytes | tarfile.TarInfo]) -> bytes:
    """A tar archive, its Dockerfile as the others in the order given."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def ask(address: str | tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """Send bytes, and hear all that comes back: the first answer's status (0: none), everything."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(address)
        with suppress(ConnectionError):  # it may answer before it has heard everything
            connection.sendall(request)
        heard = b""
        with suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                heard += piece
    return int(heard.split(maxsplit=2)[1]) if heard.startswith(b"HTTP/") else 0, heard


class Running:
    """A filter in a process of its own."""

    def __init__(self, log: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self._log, self.process, self.port = log, process, port

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def open_files(self) -> int:
        """How many files and connections it holds open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def running(log: Path, **settings: str) -> Iterator[Running]:
    """Run the filter with these variables (`PROJECT` for `FILTER_PROJECT`)."""
    port = ports.unused()
    environment = {f"FILTER_{name}": value for name, value in settings.items()}
    environment["FILTER_LISTEN"] = f"127.0.0.1:{port}"
    command = [sys.executable, str(HERE / "filter.py")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)
    try:
        found = Running(log, process, port)
        until(lambda: "listening" in found.log or process.poll() is not None, 10, "it listens")
        assert process.poll() is None, found.log
        yield found
    finally:
        process.terminate()
        process.wait(5)


class Cuttable:
    """A relay to the engine; when cut, a filter sees what it sees when the engine stops."""

    def __init__(self, path: str, engine: str) -> None:
        self.path, self._engine = path, engine
        self._open: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        """As an engine that starts."""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """As an engine that is stopped."""
        Path(self.path).unlink(missing_ok=True)
        for one in (self._server, *self._open):
            with ExitStack() as ignored:
                ignored.callback(one.close)
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine)
            self._open += [near, far]
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
