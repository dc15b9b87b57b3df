"""Bounded waits for what the stack does by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.clients.orchestrator import Airflow

LIMIT_S = 120


def until_read(airflow: Airflow, name: str) -> None:
    """Wait until Airflow has loaded a pipeline's DAGs; asks it to load those of a new file.

    Raises:
        UnavailableError: Airflow does not answer at all.
    """
    missing = [kind for kind in ("train", "deploy") if not airflow.dag_exists(f"{kind}__{name}")]
    for kind in missing:
        airflow.read_again(kind)
    for kind in missing:
        dag = f"{kind}__{name}"
        _until(f"Airflow to load {dag}", partial(airflow.dag_exists, dag))


def until_served(name: str, version: int) -> None:
    """Wait until the endpoint answers with this version."""
    from tasks.serving.endpoints import endpoints

    def served() -> bool:
        endpoint = endpoints().get(name)
        if endpoint is None or (endpoint.state, endpoint.version) != ("running", version):
            return False
        url = f"{settings().gateway_internal}/models/{name}/ping"
        with suppress(httpx.TransportError):
            return httpx.get(url, timeout=5, trust_env=False).is_success
        return False

    _until(f"version {version} of {name} to be served", served)


def _until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            if holds():
                return
        except UnavailableError:
            pass
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"Timed out after {LIMIT_S} s waiting for {what}.",
                fix=f"Look with {typed('status')} and {typed('logs')}",
            )
        time.sleep(0.5)
