"""The slot's handle of the process in which its trials run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
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

from tasks.base import memory, process
from tasks.base.errors import RunFailedError, UnavailableError, UserError
from tasks.base.settings import REPOSITORY
from tasks.search.session import LeaseLostError

log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between looks at the process: in so short a time no fit fills a machine."""
SENDING = 60.0
"""Seconds for a message: a great one waits for the process to read it."""
FAMILY = 1.0
"""Seconds between looks for processes that it has started."""
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
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class TimeUpError(Exception):
    """The process did not answer in time, and was killed."""


class MemoryUpError(Exception):
    """The process went over its memory, and was killed."""


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

    def __init__(self, setup: Setup, limit: int) -> None:
        self._setup, self._limit = setup, limit
        self._running: _Running | None = None
        self._hello: dict[str, Any] | None = None

    def start(self) -> None:
        """Begin loading, unless it runs already; returns at once."""
        if self._running is None:
            self._running = _Running(self._setup, self._limit)
            self._hello = None

    def stop(self) -> None:
        """Kill it with all that it started."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def ready(self, lost: Event) -> list[dict[str, Any]]:
        """The default points of the families, once it takes jobs; `lost` ends the wait.

        Raises:
            UserError: It cannot work with this pipeline and snapshot, or in so little memory.
            UnavailableError: The store does not answer.
            RunFailedError: It dies each time.
        """
        self._drop_unfit()
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
            except MemoryUpError as err:
                raise UserError(
                    f"A trial's libraries and data alone need more memory than a trial may use, "
                    f"{memory.text(self._limit)}.",
                    fix="Raise search.trial_memory, or lower search.slots.",
                ) from err
            except TimeUpError as err:
                raise UnavailableError("The process for the trials does not start.") from err
            else:
                if "ready" in answer:
                    self._hello = answer
                    if self._running is not None:
                        self._running.loaded()
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
            MemoryUpError: It went over its memory, or the kernel ended it for want of memory.
            WorkerDiedError: The process died, or was stopped for too long.
            LeaseLostError: The event `lost` was set meanwhile.
        """
        return self._answer(limit, lost)

    def _drop_unfit(self) -> None:
        """A process that died between two jobs, or kept their memory, is no fault of the next."""
        if self._running is None or self._hello is None:
            return
        try:
            self._running.check()
            if self._running.is_full():
                log.info("the process for the trials kept memory of earlier ones: a new one")
                self.stop()
        except (WorkerDiedError, MemoryUpError) as err:
            log.warning("the process for the trials is gone: %s", err)
            self.stop()

    def _answer(self, limit: float, lost: Event) -> dict[str, Any]:
        """The next message; whatever else happens, the process is killed."""
        try:
            return self._wait(limit, lost)
        except (TimeUpError, MemoryUpError, WorkerDiedError, LeaseLostError):
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

    def __init__(self, setup: Setup, limit: int) -> None:
        self._limit = limit
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
        self._family, self._family_at = [self._process.pid], 0.0
        self._held = self._held_first = 0
        self.send(vars(setup))

    def send(self, message: dict[str, Any]) -> None:
        """Send it, or leave it to `check` to notice that there is nobody any more."""
        self._output.truncate(0)
        with suppress(OSError):
            self._channel.settimeout(SENDING)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        self._kernel_kills = memory.kernel_kills()

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
                raise self._death()
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def check(self) -> None:
        """Raise when the process is no longer at work, or holds too much memory."""
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
        """Libraries and data are there."""
        self._held_first = self._measured()

    def is_full(self) -> bool:
        """Whether half of what a job may use beside libraries and data was held at the `check`."""
        return 2 * (self._held - self._held_first) > self._limit - self._held_first

    def _measured(self) -> int:
        """Bytes that it and all that it has started hold."""
        if time.monotonic() - self._family_at > FAMILY:
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
        """How it ended, and the end of what it printed."""
        process.kill_group(self._process.pid)
        code = self._process.wait()
        if code == -signal.SIGKILL and memory.kernel_kills() > self._kernel_kills:
            return MemoryUpError("The machine's memory ran out, and the kernel ended it.")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - 2000))
        printed = self._output.read().decode(errors="replace").strip()
        return WorkerDiedError(f"It ended with {how}.\n{printed}".strip())
