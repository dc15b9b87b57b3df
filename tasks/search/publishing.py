"""The thread of a slot that publishes trials while the next ones are fitted."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients.database import connect
from tasks.records.trials.publish import TrialPublisher

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between checks for rows that a dead slot left."""
PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds to wait after an outage."""


class PublishingThread(threading.Thread):
    """Publishes all recorded rows of the search, those of dead slots included.

    An outage of MLflow or PostgreSQL only delays it. `publish_rest` publishes what it leaves.
    """

    def __init__(self, run: RunRef) -> None:
        super().__init__(name="publisher", daemon=True)
        self._run = run
        self._wakened, self._closed, self._abandoned = (threading.Event() for _ in range(3))
        self._pause = PAUSE

    def wake(self) -> None:
        """Publish now: a row was recorded."""
        self._wakened.set()

    def close(self, seconds: float) -> None:
        """Let the thread publish what is recorded, for this long at most."""
        self._closed.set()
        self._wakened.set()
        self.join(seconds)
        if self.is_alive():
            self._abandoned.set()
            log.warning("some trials are not in MLflow yet; `select` publishes them")

    def run(self) -> None:
        """Publish until closed."""
        while not self._abandoned.is_set():
            try:
                self._publish()
            except UnavailableError as err:
                log.warning("publishing to MLflow is delayed: %s", err)
                self._abandoned.wait(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            else:
                return

    def _publish(self) -> None:
        """Publish over one database session, until closed."""
        with closing(connect(application="publisher")) as connection:
            publisher = TrialPublisher(self._run, connection)
            last = False
            while not last:
                last = self._closed.is_set()  # read first, so that the last round misses no row
                self._wakened.clear()
                publisher.publish_recorded()
                self._pause = PAUSE
                if not last:
                    self._wakened.wait(INTERVAL)
