"""The slot's handle of the process in which its trials run."""

from __future__ import annotations

import logging
import time
from threading import Event
from typing import Any

from tasks.base import memory
from tasks.base.errors import RunFailedError, UnavailableError, UserError
from tasks.search.session import LeaseLostError
from tasks.search.trial_process import MemoryUpError, Setup, TrialProcess, WorkerDiedError

log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between checks of the process: too short for a fit to fill the machine's memory."""
LOADING_LIMIT = 300.0
MOST_DEATHS_LOADING = 5
LONGEST_PAUSE = 15.0


class TimeUpError(Exception):
    """The process did not answer in time, and was killed."""


class Worker:
    """Starts the process, gives it jobs, kills and replaces it.

    Use it from the main thread: the death signal comes when the *thread* that started the process
    ends.
    """

    def __init__(self, setup: Setup, limit: int) -> None:
        self._setup, self._limit = setup, limit
        self._process: TrialProcess | None = None
        self._defaults: list[dict[str, Any]] | None = None

    def start(self) -> None:
        """Start loading unless a process runs already; returns at once."""
        if self._process is None:
            self._process = TrialProcess(self._setup, self._limit)
            self._defaults = None

    def stop(self) -> None:
        """Kill the process and all that it started."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def ready(self, lost: Event) -> list[dict[str, Any]]:
        """Wait until the process takes jobs; returns the default points of the families.

        The event `lost` ends the wait.

        Raises:
            UserError: The pipeline and the snapshot do not fit together, or do not fit in memory.
            UnavailableError: The store does not answer.
            RunFailedError: The process dies each time.
        """
        self._drop_unfit()
        deadline, deaths, pause = time.monotonic() + LOADING_LIMIT, 0, 1.0
        while self._process is None or self._defaults is None:
            self.start()
            try:
                answer = self._loaded(deadline, lost)
            except WorkerDiedError as err:
                deaths += 1
                if deaths >= MOST_DEATHS_LOADING:
                    raise RunFailedError(
                        f"The process for the trials died {deaths} times while it started.",
                        why=str(err),
                    ) from err
                continue
            if "ready" in answer and self._process is not None:
                self._defaults = answer["defaults"]
                self._process.loaded()
                break
            self.stop()
            self._raise_refusal(answer, last=time.monotonic() + pause > deadline)
            lost.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return self._defaults

    def send(self, job: dict[str, Any]) -> None:
        """Start a job."""
        if self._process is not None:
            self._process.send(job)

    def result(self, limit: float, lost: Event) -> dict[str, Any]:
        """The result of the job. Whatever else happens, the process is killed.

        Raises:
            TimeUpError: `limit` seconds went by.
            MemoryUpError: It exceeded its memory, or the kernel ended it because memory ran out.
            WorkerDiedError: The process died, or was stopped for too long.
            LeaseLostError: The event `lost` was set meanwhile.
        """
        try:
            return self._wait(limit, lost)
        except (TimeUpError, MemoryUpError, WorkerDiedError, LeaseLostError):
            self.stop()
            raise

    def _drop_unfit(self) -> None:
        """Stop a process that died between jobs or kept their memory, so that a new one starts."""
        if self._process is None or self._defaults is None:
            return
        try:
            self._process.check()
            if self._process.is_full():
                log.info("the process for the trials kept memory of earlier ones: starting another")
                self.stop()
        except (WorkerDiedError, MemoryUpError) as err:
            log.warning("the process for the trials is gone: %s", err)
            self.stop()

    def _loaded(self, deadline: float, lost: Event) -> dict[str, Any]:
        """The answer to the setup."""
        try:
            return self.result(deadline - time.monotonic(), lost)
        except MemoryUpError as err:
            raise UserError(
                f"A trial's libraries and data alone need more memory than a trial may use, "
                f"{memory.text(self._limit)}.",
                fix="Raise search.trial_memory, or lower search.slots.",
            ) from err
        except TimeUpError as err:
            raise UnavailableError("The process for the trials does not start.") from err

    def _wait(self, limit: float, lost: Event) -> dict[str, Any]:
        running = self._process
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
    def _raise_refusal(answer: dict[str, Any], *, last: bool) -> None:
        """Raise what the process answered, unless another try may succeed."""
        refusal = answer["refused"]
        if answer["user"]:
            raise UserError(refusal["what"], why=refusal["why"], fix=refusal["fix"])
        if last:
            raise UnavailableError(refusal["what"], why=refusal["why"], fix=refusal["fix"])
        log.warning("the process for the trials waits: %s", refusal["what"])
