from __future__ import annotations

import os
import tarfile
from pathlib import Path

from tasks.serving.targets.context import Context


def folder(path: Path, names: list[str]) -> Path:
    for name in names:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {name}")
    return path


def digest(path: Path, pins: str = "a==1\n") -> str:
    with Context({"pins.txt": pins}) as context:
        context.add("model", path)
        return context.digest()


def test_equal_content_is_an_equal_archive(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", ["a", "b", "deep/c"])
    second = folder(tmp_path / "second", ["deep/c", "b", "a"])
    for file in second.rglob("*"):
        file.chmod(0o700)
        os.utime(file, (1, 1))
    assert digest(first) == digest(second)


def test_other_content_is_another(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", ["a", "b"])
    second = folder(tmp_path / "second", ["a", "c"])
    digests = {digest(first), digest(first, "a==2\n"), digest(second)}
    (first / "a").write_text("other content")
    assert digest(first) not in digests
    assert len(digests) == 3


def test_what_is_in_it(tmp_path: Path) -> None:
    with Context({"pins.txt": "ä==1\n"}) as context:
        context.add("model", folder(tmp_path / "one", ["deep/c", "deep/__pycache__/c.pyc"]))
        context.digest()
        context.close("FROM scratch\n")
        with tarfile.open(fileobj=context.file) as archive:
            members = {member.name: member for member in archive.getmembers()}
            assert sorted(members) == ["Dockerfile", "model/deep/c", "pins.txt"]
            text = archive.extractfile("pins.txt")
            assert text is not None
            assert text.read().decode() == "ä==1\n"
    owners = {(entry.mtime, entry.uid, entry.gid, entry.mode) for entry in members.values()}
    assert owners == {(0, 0, 0, 0o644)}
