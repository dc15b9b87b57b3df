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
    one = folder(tmp_path / "one", ["a", "b", "deep/c"])
    two = folder(tmp_path / "two", ["deep/c", "b", "a"])
    for file in two.rglob("*"):
        file.chmod(0o700)
        os.utime(file, (1, 1))
    assert digest(one) == digest(two)


def test_other_content_is_another(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", ["a", "b"])
    known = {digest(one), digest(one, "a==2\n"), digest(folder(tmp_path / "two", ["a", "c"]))}
    (one / "a").write_text("other content")
    assert digest(one) not in known
    assert len(known) == 3


def test_what_is_in_it(tmp_path: Path) -> None:
    with Context({"pins.txt": "ä==1\n"}) as context:
        context.add("model", folder(tmp_path / "one", ["deep/c"]))
        context.digest()
        context.close("FROM scratch\n")
        with tarfile.open(fileobj=context.file) as archive:
            found = {one.name: one for one in archive.getmembers()}
            assert sorted(found) == ["Dockerfile", "model/deep/c", "pins.txt"]
            text = archive.extractfile("pins.txt")
            assert text is not None
            assert text.read().decode() == "ä==1\n"
    assert {(one.mtime, one.uid, one.gid, one.mode) for one in found.values()} == {(0, 0, 0, 0o644)}
