from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tasks.base import memory
from tasks.search.limits import trial_memory
from tests.tasks.search.searches import pipeline
from tests.waiting import until


@pytest.mark.parametrize(
    ("gigabytes", "slots", "each"), [(8, 2, "3 GB"), (64, 4, "12 GB"), (3, 2, "768 MB")]
)
def test_a_slots_share(
    gigabytes: int, slots: int, each: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total", lambda: gigabytes * memory.GIGABYTE)
    assert memory.text(trial_memory(pipeline(slots=slots).search)) == each


@pytest.mark.parametrize(
    ("setting", "shown"), [("600m", "600 MB"), ("4g", "4 GB"), ("1536m", "1.5 GB")]
)
def test_the_files_limit(setting: str, shown: str) -> None:
    assert memory.text(trial_memory(pipeline(trial_memory=setting).search)) == shown


def test_the_total_is_no_more_than_the_machines() -> None:
    assert 0 < memory.total() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("membership", "files", "least"),
    [
        ("0::/", {"memory.max": "1000"}, [1000]),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "5", "a/b/memory.max": "max"}, [5]),
        ("0::/of/the/host", {"memory.max": "7"}, [7]),
        (
            "4:cpu,memory:/docker/x\n1:cpu:/",
            {"memory/memory.limit_in_bytes": "9", "memory.max": "1"},
            [9],
        ),
        ("", {"memory.max": "1"}, []),
    ],
)
def test_limits_of_control_groups(
    membership: str,
    files: dict[str, str],
    least: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self: membership if str(self) == "/proc/self/cgroup" else read(self),
    )
    assert list(memory._cgroup_limits()) == least


GRANDCHILD = """
import subprocess, sys
inner = "import time; kept = bytearray(200 * 2**20); print('ready', flush=True); time.sleep(600)"
subprocess.run([sys.executable, "-c", inner])
"""


def test_memory_of_descendants_counts() -> None:
    program = subprocess.Popen([sys.executable, "-c", GRANDCHILD], stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        family = memory.tree(program.pid)
        assert len(family) == 2
        assert memory.held([program.pid]) < 100 * memory.MEGABYTE
        assert memory.held(family) > 200 * memory.MEGABYTE
    finally:
        for pid in reversed(family):
            psutil.Process(pid).kill()
        program.wait()
    until(lambda: memory.held(family) == 0, 10, "both processes are gone")


def test_reserved_memory_does_not_count() -> None:
    pid = psutil.Process().pid
    before = memory.held([pid])
    kept = np.empty(2**30)
    assert memory.held([pid]) < before + 100 * memory.MEGABYTE
    assert kept.nbytes == 8 * memory.GIGABYTE
