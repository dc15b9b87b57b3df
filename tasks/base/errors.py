"""Errors that say what happened, why, and the way out."""

from __future__ import annotations


class MlopsError(Exception):
    """Base of the project's own errors.

    `what` happened, `why`, and the `fix`; the last two may be empty when `what` says it all.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(part for part in (what, why, fix) if part))


class UserError(MlopsError, ValueError):
    """Bad input: a file, a parameter, data. Trying again cannot help, so nobody does."""

    exit_code = 2


class UnavailableError(MlopsError, ConnectionError):
    """A server did not answer. It may pass, so a task that meets it is tried again."""

    exit_code = 3


class RunFailedError(MlopsError):
    """A DAG run, a search or a deployment ended badly."""

    exit_code = 4


class ConflictError(MlopsError):
    """Somebody else's change came first: what was asked no longer fits what is."""

    exit_code = 5
