"""Files that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file, or a folder with all in it, on the disk.

    Only a rename after this shows either nothing or all: else what was renamed may be empty files.
    """
    for one in (*path.rglob("*"), path):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
