from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.housekeeping import remove_old_files

DAY_S = 86_400


def make(path: Path, age_days: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a line\n")
    age(path, age_days)
    return path


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))


def test_old_logs_go_and_young_ones_stay(tmp_path: Path) -> None:
    old = make(tmp_path / "dag_id=a" / "run_id=1" / "task_id=t" / "attempt=1.log", 31)
    young = make(tmp_path / "dag_id=a" / "run_id=2" / "task_id=t" / "attempt=1.log", 29)
    assert remove_old_files(tmp_path, 30) == 1
    assert not old.exists()
    assert young.exists()
    assert remove_old_files(tmp_path, 30) == 0


def test_a_folder_goes_when_it_has_been_empty_as_long(tmp_path: Path) -> None:
    folder = make(tmp_path / "run_id=1" / "attempt=1.log", 31).parent
    remove_old_files(tmp_path, 30)
    assert folder.exists(), "a task may be about to write there"
    age(folder, 31)
    remove_old_files(tmp_path, 30)
    assert not folder.exists()
    assert tmp_path.exists()


def test_an_old_folder_with_a_young_log_stays(tmp_path: Path) -> None:
    young = make(tmp_path / "run_id=1" / "attempt=2.log", 1)
    age(young.parent, 40)
    assert remove_old_files(tmp_path, 30) == 0
    assert young.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside" / "kept.log", 40)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "latest").symlink_to(outside.parent)
    remove_old_files(logs, 30)
    assert outside.exists()
