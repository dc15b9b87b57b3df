"""Clients that call an endpoint while a test runs."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import httpx


class Clients:
    """Clients that post until the end, and count the results.

    `each` of them keep their connection; as many open a new one for each request.
    """

    def __init__(
        self,
        url: str,
        body: dict[str, Any],
        *,
        each: int = 2,
        pause_s: float = 0.05,
        timeout_s: float = 30,
    ) -> None:
        self.url, self.body = url, body
        self.pause_s, self.timeout_s = pause_s, timeout_s
        self.got: Counter[tuple[int, str]] = Counter()
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.threads = [
            threading.Thread(target=self.call, args=(keep_alive,))
            for keep_alive in (True, False)
            for _ in range(each)
        ]

    def call(self, keep_alive: bool) -> None:
        headers = {} if keep_alive else {"connection": "close"}
        with httpx.Client(timeout=self.timeout_s, headers=headers, trust_env=False) as client:
            while True:
                try:
                    answer = client.post(self.url, json=self.body)
                    result = (answer.status_code, answer.headers.get("x-model-version", ""))
                except httpx.TransportError as err:
                    result = (0, repr(err))
                with self.lock:
                    self.got[result] += 1
                if self.ended.wait(self.pause_s):
                    break

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
