"""Removing what would grow without limit: the logs of tasks."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_DAY_S = 86_400


def remove_old_files(root: Path, days: float) -> int:
    """Delete the files below `root` that have not changed for `days`; returns their number.

    A folder is deleted when it has been empty for as long: a task may just have made it for its
    log.
    """
    limit = time.time() - days * _DAY_S
    removed = 0
    for name, _, files in os.walk(root, topdown=False):
        folder = Path(name)
        last_change = folder.stat().st_mtime
        for file in map(folder.joinpath, files):
            with suppress(FileNotFoundError):  # removed by somebody else
                if file.lstat().st_mtime < limit:
                    file.unlink()
                    removed += 1
        if folder != root and last_change < limit:
            with suppress(OSError):  # not empty
                folder.rmdir()
    return removed
