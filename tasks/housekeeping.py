"""What would grow without end: the logs of tasks."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_DAY_S = 86_400


def remove_old_files(root: Path, days: float) -> int:
    """Delete the files below `root` that nobody wrote to for `days`; returns how many.

    A folder goes when it has been empty for as long: a task may just have made it for its log.
    """
    before = time.time() - days * _DAY_S
    removed = 0
    for folder, _, files in os.walk(root, topdown=False):
        there = Path(folder)
        empty_since = there.stat().st_mtime
        for file in map(there.joinpath, files):
            with suppress(FileNotFoundError):  # somebody else removed it
                if file.lstat().st_mtime < before:
                    file.unlink()
                    removed += 1
        if there != root and empty_since < before:
            with suppress(OSError):  # something is in it
                there.rmdir()
    return removed
