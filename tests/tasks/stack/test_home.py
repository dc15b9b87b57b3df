"""The state folder: private, made once, never somebody else's."""

from __future__ import annotations

import shutil
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.base.errors import UserError
from tasks.stack.embedded.home import Home


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    first = asdict(home.secrets)
    assert asdict(Home(home.root).secrets) == first
    assert len(set(first.values())) == len(first)
    assert min(len(value) for value in first.values()) >= 16
    assert len(first["jwt_secret"]) >= 64
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    folders = [home.root, *(path for path in home.root.rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_a_new_secret_is_added_and_the_others_stay(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    before = home.secrets
    path = home.secrets_folder / "secrets.json"
    path.write_text(path.read_text().replace('"fernet_key"', '"of_a_later_version"'))
    after = Home(home.root).secrets
    assert after.fernet_key != before.fernet_key
    assert after.jwt_secret == before.jwt_secret


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir(mode=0o755)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="contains other files"):
        Home(folder).create()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_place_where_nothing_can_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="cannot be written") as caught:
        Home(file / "home").create()
    assert "MLOPS_HOME" in caught.value.fix


def test_a_long_path_has_its_sockets_elsewhere_in_a_private_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 25))
    home.create()
    folder = home.sockets
    try:
        assert not folder.is_relative_to(home.root)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "supervisor.sock.4194304"))
        assert Home(home.root).sockets == folder
    finally:
        shutil.rmtree(folder)


def test_a_link_in_place_of_the_sockets_folder_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 25))
    home.create()
    folder = home.sockets
    folder.rmdir()
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(Exception, match="belongs to another user"):
            _ = Home(home.root).sockets
    finally:
        folder.unlink()
