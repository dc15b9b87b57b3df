"""The thread of a slot that publishes trials behind the fits."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients.database import connect
from tasks.records.trials.publish import Desk

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between looks for rows that a dead slot left."""
PAUSE, LONGEST_PAUSE = 1.0, 15.0


class Publisher(threading.Thread):
    """Publishes all recorded rows of the search, its own slot's and those of dead ones.

    An outage of MLflow or PostgreSQL only delays it; what it leaves, `publish_rest` does.
    """

    def __init__(self, run: RunRef) -> None:
        super().__init__(name="publisher", daemon=True)
        self._run = run
        self._news, self._closed, self._abandoned = (threading.Event() for _ in range(3))
        self._pause = PAUSE

    def wake(self) -> None:
        """There is a new row."""
        self._news.set()

    def close(self, seconds: float) -> None:
        """Let it finish what is recorded, for so long at most."""
        self._closed.set()
        self._news.set()
        self.join(seconds)
        if self.is_alive():
            self._abandoned.set()
            log.warning("MLflow has not all trials yet: the next task, `select`, publishes them")

    def run(self) -> None:
        """Publish until closed."""
        while not self._abandoned.is_set():
            try:
                self._publish()
            except UnavailableError as err:
                log.warning("publishing to MLflow waits: %s", err)
                self._abandoned.wait(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            else:
                return

    def _publish(self) -> None:
        """Publish over one database session, until closed."""
        with closing(connect(application="publisher")) as connection:
            desk = Desk(self._run, connection)
            last = False
            while not last:
                last = self._closed.is_set()  # seen first: then the look finds all that is recorded
                self._news.clear()
                desk.publish_open()
                self._pause = PAUSE
                if not last:
                    self._news.wait(LOOK)
