"""A client of supervisord's XML-RPC interface, over its Unix socket."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from tasks.base.errors import MlopsError, UnavailableError


class Fault(IntEnum):
    """Codes of https://supervisord.org/api.html#process-control."""

    SHUTDOWN_STATE = 6
    BAD_NAME = 10
    ALREADY_STARTED = 60
    NOT_RUNNING = 70
    ALREADY_ADDED = 90


@dataclass(frozen=True)
class Client:
    """Calls methods of the supervisord that listens on `path`."""

    path: Path

    def call(self, method: str, *args: object, timeout: float = 30) -> Any:
        """The result of a method.

        Raises:
            UnavailableError: supervisord does not answer, or is shutting down.
            xmlrpc.client.Fault: supervisord refuses the call for another reason.
        """
        transport = _UnixTransport(self.path, timeout)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
                return getattr(server, method)(*args)
        except (OSError, http.client.HTTPException, xmlrpc.client.Fault) as err:
            if isinstance(err, xmlrpc.client.Fault) and err.faultCode != Fault.SHUTDOWN_STATE:
                raise
            raise UnavailableError(
                "The embedded stack is not running.",
                why=f"supervisord does not answer on {self.path}: {err!r}",
                fix="Start it with `./mlops up`.",
            ) from err

    def attempt(self, method: str, *args: object, ignore: tuple[Fault, ...] = ()) -> bool:
        """Call a method; returns whether it succeeded. Faults in `ignore` are no error."""
        try:
            self.call(method, *args)
        except xmlrpc.client.Fault as err:
            if err.faultCode not in ignore:
                raise MlopsError(
                    f"supervisord refused {method}{args}.", why=err.faultString
                ) from err
            return False
        return True


class _UnixTransport(xmlrpc.client.Transport):
    """supervisor's own `SupervisorTransport` has no timeout, and importing it loads a server."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        del host  # the socket's path takes its place
        return _UnixConnection(str(self.path), self.timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)
