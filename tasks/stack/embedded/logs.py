"""Reading the logs of the programs."""

from __future__ import annotations

import difflib
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.base.errors import UserError
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import AIRFLOW

_POLL_S = 0.3


class Log:
    """A log file, read to its end and then further, across rotations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._rest = b""

    def last(self, lines: int) -> list[str]:
        """The last complete lines that are not read yet."""
        return list(deque(self.more(), maxlen=lines))

    def more(self) -> list[str]:
        """The complete lines since the last call."""
        content = self._file.read()
        if not content and self._rotated():
            self._file.close()
            self._file = self.path.open("rb")
            content = self._file.read()
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _rotated(self) -> bool:
        if not self.path.exists():
            return False
        current, opened = self.path.stat(), os.fstat(self._file.fileno())
        return current.st_ino != opened.st_ino or current.st_size < self._file.tell()


def logs_of(home: Home, service: str) -> dict[str, Log]:
    """The logs of a service or a program, by program; Airflow has four.

    Raises:
        UserError: There is no such log.
    """
    paths = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    names = [name for name in AIRFLOW if name in paths] if service == "airflow" else [service]
    if not names or not set(names) <= set(paths):
        choices = sorted({*paths, *(["airflow"] if set(AIRFLOW) & set(paths) else [])})
        near = difflib.get_close_matches(service, choices, n=1, cutoff=0.5)
        raise UserError(
            f"There is no log of '{service}'.",
            why=f"These have logs: {', '.join(choices)}." if choices else "There are no logs yet.",
            fix=f"Did you mean '{near[0]}'?" if near else "",
        )
    return {name: Log(paths[name]) for name in names}


def follow(logs: Mapping[str, Log]) -> Iterator[tuple[str, str]]:
    """New lines as (program, line), until interrupted."""
    while True:
        quiet = True
        for name, log in logs.items():
            for line in log.more():
                quiet = False
                yield name, line
        if quiet:
            time.sleep(_POLL_S)


def tail(path: Path, lines: int = 10) -> str:
    """The last lines of a log; empty if there is no log."""
    return "\n".join(Log(path).last(lines)) if path.exists() else ""
