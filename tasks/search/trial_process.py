"""One process in which trials run: its socket, its memory, its death."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import psutil

from tasks.base import memory, process
from tasks.base.settings import REPOSITORY

SEND_LIMIT = 60.0
"""Seconds to send a message: a large one waits until the process reads it."""
FAMILY_INTERVAL = 1.0
"""Seconds between searches for processes that it has started."""
STOPPED_LIMIT = 5.0
"""Seconds that the process may stay stopped (SIGSTOP) before it is replaced."""
PRINTED_END = 2000
"""Bytes of its last output to show when it died."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""Variables that limit the threads of numerical libraries."""


class MemoryUpError(Exception):
    """The process exceeded its memory, and was killed."""


class WorkerDiedError(Exception):
    """The process ended during its work."""


@dataclass(frozen=True)
class Setup:
    """What the process loads."""

    pipeline: dict[str, Any]
    snapshot: str
    """URI of the snapshot's manifest."""
    threads: int


class TrialProcess:
    """One process. It leads a session of its own, which is ended as a whole."""

    def __init__(self, setup: Setup, limit: int) -> None:
        self._limit = limit
        self._channel, theirs = socket.socketpair()
        their_pipe, self._pipe = os.pipe()  # the group ends when this pipe is closed
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until `kill`
        flags = fcntl.fcntl(self._output, fcntl.F_GETFL)
        fcntl.fcntl(self._output, fcntl.F_SETFL, flags | os.O_APPEND)  # `send` truncates it
        self._process = subprocess.Popen(
            [
                "/usr/bin/env",  # the thread count must be set before the libraries load
                *(f"{name}={setup.threads}" for name in THREADS),
                *(sys.executable, "-X", "faulthandler", "-m", "tasks.search.child"),
                *map(str, (theirs.fileno(), their_pipe, os.getpid())),
            ],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(theirs.fileno(), their_pipe),
            start_new_session=True,
        )
        theirs.close()
        os.close(their_pipe)
        self._buffer = b""
        self._stopped_since: float | None = None
        self._family, self._family_at = [self._process.pid], 0.0
        self._held = self._held_when_loaded = 0
        self.send(vars(setup))

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; if the process is gone, `check` will notice."""
        self._output.truncate(0)
        with suppress(OSError):
            self._channel.settimeout(SEND_LIMIT)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        self._kernel_kills = memory.kernel_kills()

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None if it does not come in time."""
        self._channel.settimeout(seconds)
        while b"\n" not in self._buffer:
            try:
                received = self._channel.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError:
                received = b""
            if not received:
                raise self._death()
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def check(self) -> None:
        """Raise if the process no longer works, or holds too much memory."""
        try:
            state = psutil.Process(self._process.pid).status()
        except psutil.NoSuchProcess:
            state = psutil.STATUS_ZOMBIE
        if state == psutil.STATUS_ZOMBIE:
            raise self._death()
        self._held = self._measured()
        if self._held > self._limit:
            raise MemoryUpError(f"It was over its memory limit of {memory.text(self._limit)}.")
        if state != psutil.STATUS_STOPPED:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.monotonic()
        elif time.monotonic() - self._stopped_since > STOPPED_LIMIT:
            raise WorkerDiedError(f"It was stopped for more than {STOPPED_LIMIT:.0f} s.")

    def loaded(self) -> None:
        """Note that libraries and data are loaded."""
        self._held_when_loaded = self._measured()

    def is_full(self) -> bool:
        """Whether the last `check` found half of the memory that a job may use still in use."""
        return 2 * (self._held - self._held_when_loaded) > self._limit - self._held_when_loaded

    def _measured(self) -> int:
        """Bytes that the process and all that it has started hold."""
        if time.monotonic() - self._family_at > FAMILY_INTERVAL:
            self._family, self._family_at = memory.tree(self._process.pid), time.monotonic()
        return memory.held(self._family)

    def kill(self) -> None:
        """End the process and its whole group."""
        process.kill_group(self._process.pid)
        self._process.wait()
        self._channel.close()
        os.close(self._pipe)
        self._output.close()

    def _death(self) -> MemoryUpError | WorkerDiedError:
        """How the process ended, and the end of what it printed."""
        process.kill_group(self._process.pid)
        code = self._process.wait()
        if code == -signal.SIGKILL and memory.kernel_kills() > self._kernel_kills:
            return MemoryUpError("The machine's memory ran out, and the kernel ended it.")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - PRINTED_END))
        printed = self._output.read().decode(errors="replace").strip()
        return WorkerDiedError(f"It ended with {how}.\n{printed}".strip())
