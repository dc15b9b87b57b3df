"""The slot's handle of the process in which its trials run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import IO, Any

import psutil

from tasks import process
from tasks.errors import RunFailedError, UnavailableError, UserError
from tasks.search.session import LeaseLostError
from tasks.settings import REPOSITORY

log = logging.getLogger(__name__)

POLL = 0.5
STOPPED_LIMIT = 5.0
"""Seconds that the process may stay stopped (SIGSTOP) before it is replaced."""
LOADING_LIMIT = 300.0
MOST_DEATHS_LOADING = 5
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


class TimeUpError(Exception):
    """The process did not answer in time, and was killed."""


class WorkerDiedError(Exception):
    """The process ended under its work."""


@dataclass(frozen=True)
class Setup:
    """What the process loads."""

    pipeline: dict[str, Any]
    snapshot: str
    threads: int


class Worker:
    """Starts the process, gives it jobs, kills and replaces it.

    Use it from the main thread: the death signal comes with the end of the *thread* that started
    the process.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._running: _Running | None = None
        self._hello: dict[str, Any] | None = None

    def start(self) -> None:
        """Begin loading, unless it runs already; returns at once."""
        if self._running is None:
            self._running = _Running(self._setup)
            self._hello = None

    def stop(self) -> None:
        """Kill it with all that it started."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def ready(self, lost: Event) -> list[dict[str, Any]]:
        """The default points of the families, once it takes jobs; `lost` ends the wait.

        Raises:
            UserError: It cannot work with this pipeline and snapshot.
            UnavailableError: The store does not answer.
            RunFailedError: It dies each time.
        """
        self._drop_dead()
        deadline, deaths, pause = time.monotonic() + LOADING_LIMIT, 0, 1.0
        while self._running is None or self._hello is None:
            self.start()
            try:
                answer = self._answer(deadline - time.monotonic(), lost)
            except WorkerDiedError as err:
                deaths += 1
                if deaths >= MOST_DEATHS_LOADING:
                    raise RunFailedError(
                        f"The process for the trials died {deaths} times while it started.",
                        why=str(err),
                    ) from err
            except TimeUpError as err:
                raise UnavailableError("The process for the trials does not start.") from err
            else:
                if "ready" in answer:
                    self._hello = answer
                    break
                self.stop()
                self._refused(answer, last=time.monotonic() + pause > deadline)
                lost.wait(pause)
                pause = min(2 * pause, 15)
        defaults: list[dict[str, Any]] = self._hello["defaults"]
        return defaults

    def send(self, job: dict[str, Any]) -> None:
        """Begin a job."""
        if self._running is not None:
            self._running.send(job)

    def result(self, limit: float, lost: Event) -> dict[str, Any]:
        """The result of the job.

        Raises:
            TimeUpError: `limit` seconds went by.
            WorkerDiedError: The process died, or was stopped for too long.
            LeaseLostError: The event `lost` was set meanwhile.
        """
        return self._answer(limit, lost)

    def _drop_dead(self) -> None:
        """A process that died between two jobs is no fault of the next job."""
        try:
            if self._running is not None and self._hello is not None:
                self._running.check()
        except WorkerDiedError as err:
            log.warning("the process for the trials is gone: %s", err)
            self.stop()

    def _answer(self, limit: float, lost: Event) -> dict[str, Any]:
        """The next message; whatever else happens, the process is killed."""
        try:
            return self._wait(limit, lost)
        except (TimeUpError, WorkerDiedError, LeaseLostError):
            self.stop()
            raise

    def _wait(self, limit: float, lost: Event) -> dict[str, Any]:
        running = self._running
        if running is None:
            raise WorkerDiedError("It was not started.")
        deadline = time.monotonic() + limit
        while (left := deadline - time.monotonic()) > 0:
            message = running.receive(min(POLL, left))
            if message is not None:
                return message
            if lost.is_set():
                raise LeaseLostError("it ended during the fit")
            running.check()
        raise TimeUpError

    @staticmethod
    def _refused(answer: dict[str, Any], *, last: bool) -> None:
        told = answer["refused"]
        if answer["user"]:
            raise UserError(told["what"], why=told["why"], fix=told["fix"])
        if last:
            raise UnavailableError(told["what"], why=told["why"], fix=told["fix"])
        log.warning("the trials' process waits: %s", told["what"])


class _Running:
    """One process: leader of a session of its own, which ends as a whole."""

    def __init__(self, setup: Setup) -> None:
        self._channel, theirs = socket.socketpair()
        their_pipe, self._pipe = os.pipe()  # its end is the sign for the group to end
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until `kill`
        flags = fcntl.fcntl(self._output, fcntl.F_GETFL)
        fcntl.fcntl(self._output, fcntl.F_SETFL, flags | os.O_APPEND)  # it is truncated meanwhile
        self._process = subprocess.Popen(
            [
                "/usr/bin/env",  # the thread count must be there before the libraries load
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
        self.send(vars(setup))

    def send(self, message: dict[str, Any]) -> None:
        """Send it, or leave it to `check` to notice that there is nobody any more."""
        self._output.truncate(0)
        with suppress(OSError):
            self._channel.settimeout(POLL)
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message, if one comes in time."""
        self._channel.settimeout(seconds)
        while b"\n" not in self._buffer:
            try:
                received = self._channel.recv(65536)
            except TimeoutError:
                return None
            except ConnectionError:
                received = b""
            if not received:
                raise WorkerDiedError(self._last_words())
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def check(self) -> None:
        """Raise when the process is no longer at work."""
        try:
            state = psutil.Process(self._process.pid).status()
        except psutil.NoSuchProcess:
            state = psutil.STATUS_ZOMBIE
        if state == psutil.STATUS_ZOMBIE:
            raise WorkerDiedError(self._last_words())
        if state != psutil.STATUS_STOPPED:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.monotonic()
        elif time.monotonic() - self._stopped_since > STOPPED_LIMIT:
            raise WorkerDiedError(f"It was stopped for more than {STOPPED_LIMIT:.0f} s.")

    def kill(self) -> None:
        """End the process and its whole group."""
        process.kill_group(self._process.pid)
        self._process.wait()
        self._channel.close()
        os.close(self._pipe)
        self._output.close()

    def _last_words(self) -> str:
        """How it ended, and the end of what it printed."""
        process.kill_group(self._process.pid)
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 2000))
        printed = self._output.read().decode(errors="replace").strip()
        return f"It ended with {how}.\n{printed}".strip()
