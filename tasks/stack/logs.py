"""Reading the programs' logs."""

from __future__ import annotations

import difflib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import UserError
from tasks.stack.home import Home
from tasks.stack.services import AIRFLOW

_POLL_S = 0.3


def files(home: Home, service: str) -> dict[str, Path]:
    """The log of a service or a program, by program; Airflow has four."""
    known = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    names = [name for name in AIRFLOW if name in known] if service == "airflow" else [service]
    if not names or not set(names) <= set(known):
        choices = sorted({*known, *(["airflow"] if set(AIRFLOW) & set(known) else [])})
        near = difflib.get_close_matches(service, choices, n=1, cutoff=0.5)
        raise UserError(
            f"There is no log of '{service}'.",
            why=f"There are logs of: {', '.join(choices) or 'nothing, the stack never ran'}.",
            fix=f"Did you mean '{near[0]}'?" if near else "",
        )
    return {name: known[name] for name in names}


def last(path: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    with path.open(errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def follow(logs: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """What is written from now on, as (program, line), over rotations, until interrupted."""
    tails = {name: _Tail(path) for name, path in logs.items()}
    while True:
        quiet = True
        for name, tail in tails.items():
            for line in tail.read():
                quiet = False
                yield name, line
        if quiet:
            time.sleep(_POLL_S)


class _Tail:
    """The end of one log file; a rotation puts a new file in its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("rb")
        self.file.seek(0, 2)
        self.rest = b""

    def read(self) -> list[str]:
        content = self.file.read()
        if not content and self._rotated():
            self.file.close()
            self.file = self.path.open("rb")
            content = self.file.read()
        *whole, self.rest = (self.rest + content).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def _rotated(self) -> bool:
        if not self.path.exists():
            return False
        now, then = self.path.stat(), os.fstat(self.file.fileno())
        return now.st_ino != then.st_ino or now.st_size < self.file.tell()
