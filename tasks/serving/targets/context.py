"""What is sent to the engine to build an image: a tar archive, equal when its content is equal."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO


class Context:
    """A build context in a temporary file, with the digest of its content.

    It leaves out what depends on the machine: times, owners, the order of files, compiled modules.
    """

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self.file: io.BufferedRandom = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)
        for name, text in (texts or {}).items():
            self._text(name, text)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, name: str, path: Path) -> None:
        """Add a file, or all files of a folder, under this name."""
        if path.is_file():
            with path.open("rb") as stream:
                self._add(name, stream, path.stat().st_size)
            return
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.parent.name != "__pycache__":
                self.add(f"{name}/{file.relative_to(path).as_posix()}", file)

    def digest(self) -> str:
        """The digest of everything added so far."""
        self.file.seek(0)
        digest = hashlib.file_digest(self.file, "sha256").hexdigest()
        self.file.seek(0, io.SEEK_END)
        return digest

    def close(self, dockerfile: str) -> None:
        """Add the Dockerfile, finish the archive and rewind it."""
        self._text("Dockerfile", dockerfile)
        self._tar.close()
        self.file.seek(0)

    def _text(self, name: str, text: str) -> None:
        self._add(name, io.BytesIO(text.encode()), len(text.encode()))

    def _add(self, name: str, stream: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o644
        self._tar.addfile(entry, stream)
