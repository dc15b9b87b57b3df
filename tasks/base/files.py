"""Writing files whole or not at all, even across a power failure."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file, or a folder and all that it contains, to the disk.

    Call it before a rename: a power failure could otherwise leave empty files under the new name.
    """
    for entry in (*path.rglob("*"), path):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def beside(path: Path) -> Path:
    """A temporary path of this process; removes what a killed process of the same id left there."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
    return part


def replace(path: Path, text: str) -> bool:
    """Write a text file, whole or not at all; returns whether its content changed."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    part = beside(path)
    part.write_text(text, encoding="utf-8")
    sync(part)
    part.replace(path)
    return True


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
