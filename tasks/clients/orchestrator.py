"""Airflow, through its REST API."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tasks.base.commands import typed
from tasks.base.errors import MlopsError, UnavailableError, UserError
from tasks.base.settings import Settings, settings

DONE = frozenset({"success", "failed"})
POOL = "training"
"""The pool that bounds the tasks that compute, over all DAGs."""


@dataclass(frozen=True)
class TaskState:
    """One task instance of a DAG run."""

    task: str
    map_index: int
    state: str | None
    try_number: int


@dataclass
class Airflow:
    """A signed-in client. Each call raises `UnavailableError` while Airflow does not answer."""

    where: Settings = field(default_factory=settings)
    _token: str = ""

    def get(self, path: str, **params: Any) -> Any:
        """GET under `/api/v2`; returns the decoded JSON."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST under `/api/v2`; returns the decoded JSON."""
        return self._call("POST", path, json=body)

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, note: str = "") -> str:
        """Start a DAG run; returns its id."""
        body = {"logical_date": None, "conf": conf or {}, "note": note or None}
        return str(self.post(f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def stop(self, dag_id: str, run_id: str) -> None:
        """Mark a DAG run failed. Airflow ends its running tasks; its teardown still runs."""
        self._call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def page(self, dag_id: str) -> str:
        """Address of the DAG's page."""
        return f"{self.where.airflow_page}/dags/{dag_id}"

    def dag_exists(self, dag_id: str) -> bool:
        """Whether Airflow has loaded this DAG."""
        try:
            return not self.get(f"/dags/{dag_id}")["is_stale"]
        except NotFoundError:
            return False

    def create_pool(self, slots: int) -> None:
        """Make the pool of the tasks that compute; an existing one stays as it is."""
        pool = {
            "name": POOL,
            "slots": slots,
            "description": "Search slots",
            "include_deferred": False,
        }
        with suppress(ConflictError):
            self.post("/pools", pool)

    def read_again(self, kind: str) -> None:
        """Have Airflow load the DAG file of this kind now rather than within a minute."""
        known = self.get("/dags", dag_id_pattern=f"{kind}__%", limit=1)["dags"]
        with suppress(ConflictError):  # requested already
            for dag in known:
                self._call("PUT", f"/parseDagFile/{dag['file_token']}")

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run: queued, running, success or failed."""
        return str(self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def active_run(self, dag_id: str) -> str | None:
        """The oldest DAG run that has not ended."""
        runs = self.get(
            f"/dags/{dag_id}/dagRuns", state=["queued", "running"], order_by="run_after", limit=1
        )["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Every task instance of a DAG run."""
        answer = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)
        return [
            TaskState(t["task_id"], t["map_index"], t["state"], t["try_number"])
            for t in answer["task_instances"]
        ]

    def xcom(self, dag_id: str, run_id: str, task: str, key: str = "return_value") -> Any:
        """What a task returned or pushed; None if nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/{key}"
        try:
            return self.get(path, deserialize=False, stringify=False)["value"]
        except NotFoundError:
            return None

    def log_tail(self, dag_id: str, run_id: str, task: TaskState, lines: int = 15) -> list[str]:
        """The last messages of a task's last try; after its last error, only errors."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task}/logs/{task.try_number}"
        try:
            content = self.get(path, map_index=task.map_index, full_content=True)["content"]
        except NotFoundError:
            return []
        messages: list[str] = []
        failed = False
        for entry in content:
            if error := _error(entry):
                messages, failed = [error], True
            elif not failed or _is_error(entry):
                messages += _messages(entry)
        return messages[-lines:]

    def wait(
        self, dag_id: str, run_id: str, poll: Callable[[], object] | None = None, every: float = 1.0
    ) -> str:
        """Wait until a DAG run ends, however long Airflow is away; calls `poll` each time."""
        while True:
            try:
                state = self.run_state(dag_id, run_id)
            except UnavailableError:
                state = "unknown"
            if poll is not None:
                poll()
            if state in DONE:
                return state
            time.sleep(every)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.where.airflow_url}/api/v2{path}"
        for _ in range(2):
            if not self._token:
                self._sign_in()
            answer = self._send(method, url, **options)
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                return _decoded(answer)
            self._token = ""  # expired, or the secret changed
        raise UnavailableError("Airflow refuses the login in the state folder.")

    def _sign_in(self) -> None:
        answer = self._send(
            "POST",
            f"{self.where.airflow_url}/auth/token",
            json={
                "username": self.where.airflow_user,
                "password": self.where.airflow_password.get_secret_value(),
            },
        )
        self._token = _decoded(answer)["access_token"]

    def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        if not self.where.airflow_url:
            raise UnavailableError("The stack is not up.", fix=f"Start it: {typed('up')}")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            return httpx.request(
                method, url, headers=headers, timeout=30, trust_env=False, **options
            )
        except httpx.TransportError as err:
            raise UnavailableError(
                f"Airflow does not answer at {self.where.airflow_url}.",
                why=str(err),
                fix=f"Look with {typed('status')}, start the stack with {typed('up')}.",
            ) from err


def _messages(entry: dict[str, Any] | str) -> list[str]:
    """The text of a log entry."""
    if isinstance(entry, str):
        return [entry]
    return [] if entry["event"].startswith("::") else [entry["event"]]


def _error(entry: dict[str, Any] | str) -> str:
    """The exception of a log entry, without its frames and its causes: our messages name them."""
    errors = entry.get("error_detail") if isinstance(entry, dict) else None
    return f"{errors[0]['exc_type']}: {errors[0]['exc_value']}" if errors else ""


def _is_error(entry: dict[str, Any] | str) -> bool:
    return isinstance(entry, dict) and entry.get("level") in {"error", "critical"}


class NotFoundError(MlopsError, LookupError):
    """Airflow knows nothing under this name."""


class ConflictError(UserError):
    """Airflow has this already."""


def _decoded(answer: httpx.Response) -> Any:
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFoundError(f"Airflow knows nothing at {answer.url.path}.")
    if answer.is_server_error:
        raise UnavailableError(f"Airflow answered {answer.status_code} at {answer.url.path}.")
    if answer.is_error:
        detail = answer.json().get("detail", answer.text)
        kind = ConflictError if answer.status_code == httpx.codes.CONFLICT else UserError
        raise kind(f"Airflow refused {answer.url.path}: {detail}")
    return answer.json()
