"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import hashlib
import os
import shutil
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


def beside(path: Path) -> Path:
    """A name for this process alone; what a killed one of the same id left there is removed."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
    return part


def replace(path: Path, text: str) -> bool:
    """Write a text file, whole or not at all; tells whether its content changed."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    part = beside(path)
    part.write_text(text, encoding="utf-8")
    sync(part)
    part.replace(path)
    return True


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
