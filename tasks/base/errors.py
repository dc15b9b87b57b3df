"""Errors that say what happened, why, and how to fix it."""

from __future__ import annotations


class MlopsError(Exception):
    """Base of the project's own errors; `why` and `fix` may be empty if `what` says it all."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(part for part in (what, why, fix) if part))


class UserError(MlopsError, ValueError):
    """Bad input: a file, a parameter, data. Airflow does not retry it."""

    exit_code = 2


class UnavailableError(MlopsError, ConnectionError):
    """A server did not answer. This may pass, so Airflow retries the task."""

    exit_code = 3


class RunFailedError(MlopsError):
    """A DAG run, a search or a deployment failed."""

    exit_code = 4


class ConflictError(MlopsError):
    """Somebody else made a change first, and the request no longer applies."""

    exit_code = 5
