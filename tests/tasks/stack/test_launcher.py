"""`./mlops` in repositories of its own, with a `uv` that only writes down what it is asked.

The real installation needs the network and minutes; `.ci/run` does it from a bare clone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.base.settings import REPOSITORY

LAUNCHER = REPOSITORY / "mlops"
SHOWN = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['PYTHONPATH'])"
UV = """#!/bin/sh
case $1 in --version) echo "uv {version}"; exit ;; esac
echo "$@" >> "{root}/uv.log"
sleep 0.3
[ ! -e "{root}/no-network" ] || {{ echo "error: Could not connect" >&2; exit 2; }}
"""


@dataclass(frozen=True)
class Clone:
    """A repository with the launcher, and a virtual environment whose uv is not the real one."""

    root: Path

    def run(
        self, *args: str, cwd: Path | None = None, launcher: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(launcher or self.root / "mlops"), *args],
            cwd=cwd or self.root,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def installed(self) -> list[str]:
        """The locks that uv was asked to install."""
        log = self.root / "uv.log"
        return re.findall(r"--requirement .*/(\S+)", log.read_text()) if log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    root = tmp_path / "a clone"
    package = root / "tasks" / "cli"
    package.mkdir(parents=True)
    shutil.copy(LAUNCHER, root)
    (package / "__main__.py").write_text(SHOWN)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (root / name).write_text(f"# {name}\n")
    bin_ = root / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").symlink_to(sys.executable)
    version = re.search(r"^UV=(\S+)", LAUNCHER.read_text(), re.MULTILINE)
    assert version
    (bin_ / "uv").write_text(UV.format(version=version[1], root=root))
    (bin_ / "uv").chmod(0o755)
    return Clone(root)


@pytest.fixture
def without_python(tmp_path: Path) -> str:
    """A PATH with the tools of a system, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "cmp", "dirname", "readlink", "cut", "cp", "mv", "rm"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    return str(folder)


def test_it_installs_once_and_again_when_the_lock_changed(clone: Clone) -> None:
    assert clone.run("status").returncode == 0
    assert clone.run("status").returncode == 0
    assert clone.installed == ["requirements.txt"]
    (clone.root / "requirements.txt").write_text("# another\n")
    assert clone.run("status").returncode == 0
    assert clone.installed == ["requirements.txt"] * 2
    assert "--compile-bytecode" in (clone.root / "uv.log").read_text()


def test_only_test_needs_the_development_packages(clone: Clone) -> None:
    clone.run("status")
    assert clone.run("test", "unit").stdout.startswith("['test', 'unit']")
    clone.run("test")
    assert clone.installed == ["requirements.txt", "requirements-dev.txt"]


def test_an_interrupted_installation_is_done_again(clone: Clone) -> None:
    (clone.root / "no-network").touch()
    failed = clone.run("status")
    assert failed.returncode == 3
    assert "could not be installed" in failed.stderr
    assert "network" in failed.stderr
    assert not failed.stdout
    (clone.root / "no-network").unlink()
    assert clone.run("status").returncode == 0
    assert clone.installed == ["requirements.txt"] * 2


def test_launchers_at_once_install_once(clone: Clone) -> None:
    command = [str(clone.root / "mlops"), "status"]
    env = {"PATH": os.environ["PATH"], "HOME": str(clone.root)}
    several = [
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=30) for process in several]
    assert not [process.returncode for process in several if process.returncode], outputs
    assert clone.installed == ["requirements.txt"]


def test_the_users_folder_and_arguments_arrive_unchanged(clone: Clone, tmp_path: Path) -> None:
    arguments = ("predict", "a b", "", "$HOME", "*", "--", "-n")
    shown = clone.run(*arguments, cwd=tmp_path)
    assert shown.stdout == f"{list(arguments)} {tmp_path} {clone.root}\n"


@pytest.mark.parametrize("relative", [True, False])
def test_it_works_through_links(clone: Clone, tmp_path: Path, *, relative: bool) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.symlink_to("a clone/mlops" if relative else clone.root / "mlops")
    second.symlink_to("first" if relative else first)
    shown = clone.run("up", launcher=second, cwd=Path("/"))
    assert shown.stdout == f"['up'] / {clone.root}\n"


def test_packages_where_the_user_is_do_not_take_the_place_of_ours(
    clone: Clone, tmp_path: Path
) -> None:
    (tmp_path / "tasks" / "cli").mkdir(parents=True)
    (tmp_path / "tasks" / "cli" / "__main__.py").write_text("print('theirs')")
    (tmp_path / "os.py").write_text("raise SystemExit('theirs')")
    assert clone.run("x", cwd=tmp_path).stdout.startswith("['x']")


def test_it_works_by_name_from_path(clone: Clone, tmp_path: Path) -> None:
    command = ["sh", "-c", 'PATH="$1:$PATH" && cd / && mlops x', "sh", str(clone.root)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == f"['x'] / {clone.root}\n"


def test_without_python_it_says_so(clone: Clone, without_python: str) -> None:
    shutil.rmtree(clone.root / ".venv")
    failed = clone.run("status", PATH=without_python)
    assert failed.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13" in failed.stderr
    assert "MLOPS_PYTHON=" in failed.stderr
    assert not (clone.root / ".venv").exists()


def python_that(folder: Path, does: str) -> Path:
    path = folder / "python-of-a-test"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return path


def test_a_named_python_of_another_version_is_refused(clone: Clone, tmp_path: Path) -> None:
    shutil.rmtree(clone.root / ".venv")
    old = python_that(tmp_path, "exit 1")
    failed = clone.run("status", MLOPS_PYTHON=str(old))
    assert failed.returncode == 1
    assert f"MLOPS_PYTHON={old} is not a Python 3.11, 3.12 or 3.13" in failed.stderr


def test_a_python_without_venv_is_told_with_the_package(clone: Clone, tmp_path: Path) -> None:
    shutil.rmtree(clone.root / ".venv")
    bare = python_that(tmp_path, f'case "$*" in *venv*) exit 1 ;; esac; exec {sys.executable} "$@"')
    failed = clone.run("status", MLOPS_PYTHON=str(bare))
    assert failed.returncode == 1
    assert "has no 'venv' module" in failed.stderr
    assert "apt-get install python3-venv" in failed.stderr


def test_an_environment_whose_python_is_gone_is_made_again(clone: Clone, tmp_path: Path) -> None:
    clone.run("status")
    (clone.root / ".venv" / "bin" / "python").unlink()
    (clone.root / ".venv" / "bin" / "python").symlink_to(tmp_path / "gone")
    makes_nothing = f'case "$*" in *"-m venv"*) exit 7 ;; esac; exec {sys.executable} "$@"'
    failed = clone.run("status", MLOPS_PYTHON=str(python_that(tmp_path, makes_nothing)))
    assert failed.returncode == 1
    assert ".venv could not be created" in failed.stderr


def test_the_lock_is_written_from_its_source(clone: Clone) -> None:
    assert clone.run("lock").returncode == 0
    lines = (clone.root / "uv.log").read_text().splitlines()
    assert [line.split()[-2:] for line in lines] == [
        ["requirements.txt", "requirements.in"],
        ["requirements-dev.txt", "requirements-dev.in"],
    ]
    assert all("--universal --python-version 3.11" in line for line in lines)
    assert all("--custom-compile-command ./mlops lock" in line for line in lines)


def test_the_check_of_the_lock_covers_every_platform(clone: Clone) -> None:
    shown = clone.run("lock", "--check")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 9
    (clone.root / "no-network").touch()
    failed = clone.run("lock", "--check")
    assert failed.returncode == 1
    assert failed.stderr.count("does not resolve") == 9
