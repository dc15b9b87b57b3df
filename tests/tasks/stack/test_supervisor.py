"""Programs that come, crash, change and go while supervisord runs."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tasks.base.errors import UnavailableError
from tasks.stack.embedded import leftovers
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.program import Program
from tasks.stack.embedded.supervisor import (
    Supervisor,
    add_program,
    kill_program,
    programs,
    remove_program,
)
from tests.waiting import pid_once, until

SLEEP = "import time; time.sleep(600)"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def pid_of(supervisor: Supervisor, name: str) -> int:
    return pid_once(lambda: supervisor.programs()[name].pid, name)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_program_gets_its_command_variables_and_folder(supervisor: Supervisor) -> None:
    home = supervisor.home
    code = "import json, os, sys; seen = [sys.argv[1:], dict(os.environ), os.getcwd()]"
    code += "; json.dump(seen, open('seen.new', 'w')); os.rename('seen.new', 'seen')"
    arguments = ("50 %", "it's", 'a "b"', "%(here)s", "")
    env = {"QUOTED": 'a "b", c=%(d)s', "EMPTY": ""}
    add_program("odd", (*python(code + f"; {SLEEP}"), *arguments), env, home.run)
    seen = home.run / "seen"
    until(seen.exists, 20, "the program has written")
    argv, variables, folder = json.loads(seen.read_text())
    assert tuple(argv) == arguments
    assert {name: variables[name] for name in env} == env
    assert folder == str(home.run)


def test_settings_of_the_users_shell_do_not_reach_a_program(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = ("AWS_SECRET_ACCESS_KEY", "AIRFLOW__CORE__EXECUTOR", "MLFLOW_TRACKING_URI", "PGHOST")
    needed = ("KAGGLE_KEY", "AIRFLOW_CONN_SALES")  # by a user's own preparation and sources
    for name in (*foreign, "PYTHONDONTWRITEBYTECODE", *needed):
        monkeypatch.setenv(name, "1")
    Supervisor(home).start()
    add_program("shell", python("import os; print(sorted(os.environ), flush=True);" + SLEEP))
    log = home.logs / "shell.log"
    until(lambda: log.exists() and log.read_text(), 20, "the program has written")
    assert all(name in log.read_text() for name in needed)
    assert not any(name in log.read_text() for name in (*foreign, "PYTHONDONTWRITEBYTECODE"))


def test_adding_again_changes_nothing_and_a_change_replaces(supervisor: Supervisor) -> None:
    assert add_program("one", python(SLEEP), {"A": "1"})
    first = pid_of(supervisor, "one")
    assert not add_program("one", python(SLEEP), {"A": "1"})
    assert pid_of(supervisor, "one") == first
    assert add_program("one", python(SLEEP), {"A": "2"})
    assert pid_of(supervisor, "one") != first
    assert gone(first)


def test_a_killed_program_comes_back(supervisor: Supervisor) -> None:
    add_program("one", python(SLEEP))
    first = pid_of(supervisor, "one")
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of(supervisor, "one") != first, 20, "it runs again")


def test_a_removed_program_is_gone_with_its_children(supervisor: Supervisor) -> None:
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).wait()"
    add_program("parent", python(child))
    pid = pid_of(supervisor, "parent")
    until(lambda: psutil.Process(pid).children(), 20, "it has a child")
    (descendant,) = psutil.Process(pid).children()
    remove_program("parent")
    assert gone(pid)
    until(lambda: gone(descendant.pid), 5, "the child is gone")
    assert "parent" not in programs()
    assert not list(supervisor.home.programs.iterdir())
    remove_program("parent")  # a second time is no error


def test_a_program_that_ends_by_itself_while_it_is_removed_does_not_come_back(
    supervisor: Supervisor,
) -> None:
    names = [f"frail{number}" for number in range(20)]
    for name in names:
        add_program(name, python(SLEEP), stop_wait_s=2)
    until(
        lambda: {program.state for program in supervisor.programs().values()} == {"RUNNING"},
        *(60, "all have run for a while: before, their end is a failed start"),
    )
    for name in names:  # asked only once, some of them came back
        os.kill(pid_of(supervisor, name), signal.SIGKILL)
        remove_program(name)
    assert not supervisor.programs()


def test_a_killed_program_does_not_come_back(supervisor: Supervisor) -> None:
    fork = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
    add_program("stubborn", python(f"{fork} print(1, flush=True); {SLEEP}"), stop_wait_s=600)
    log = supervisor.home.logs / "stubborn.log"
    until(lambda: log.exists() and len(log.read_text().split()) == 2, 20, "both ignore the signal")
    pid = pid_of(supervisor, "stubborn")
    (child,) = psutil.Process(pid).children()
    kill_program("stubborn")
    remove_program("stubborn")
    assert gone(pid)
    until(lambda: gone(child.pid), 5, "its child is gone")
    assert "stubborn" not in programs()


def test_a_program_that_ignores_the_stop_signal_is_killed(supervisor: Supervisor) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True);"
    add_program("stubborn", python(stubborn + SLEEP), stop_wait_s=1)
    log = supervisor.home.logs / "stubborn.log"
    until(lambda: log.exists() and log.read_text(), 20, "it ignores the signal")
    pid = pid_of(supervisor, "stubborn")
    remove_program("stubborn")
    assert gone(pid)


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a:b", "a b", "[x]", "-n"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'name' of a program must"):
        Program(name, ("/bin/true",))


def test_without_supervisord_the_error_says_how_to_start(home: Home) -> None:
    assert Supervisor(home).pid() is None
    with pytest.raises(UnavailableError) as caught:
        programs()
    assert "./mlops up" in caught.value.fix


@pytest.mark.skipif(sys.platform != "linux", reason="no death signal there")
def test_programs_die_with_supervisord(supervisor: Supervisor) -> None:
    add_program("one", python(SLEEP))
    pid = pid_of(supervisor, "one")
    os.kill(pid_once(supervisor.pid, "supervisord"), signal.SIGKILL)
    until(lambda: gone(pid), 5, "the program is gone")


def test_what_a_killed_supervisord_left_is_found_and_ended(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A child that nobody signals, one that left the session, one that hid its environment."""
    pids = tmp_path / "pids"
    child = f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); {SLEEP}"
    code = (
        "import os, subprocess, sys\n"
        f"child = [sys.executable, '-c', {'import os; ' + child!r}]\n"
        "subprocess.Popen(child, env={})\n"
        "subprocess.Popen(child, start_new_session=True)\n"
        f"{SLEEP}"
    )
    add_program("family", python(code))
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 20, "both children run")
    os.kill(pid_once(supervisor.pid, "supervisord"), signal.SIGKILL)
    until(lambda: supervisor.pid() is None, 5, "supervisord is gone")
    bystander = psutil.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    try:
        assert leftovers.end(supervisor.home) >= 2
        assert all(gone(int(pid)) for pid in pids.read_text().split())
        assert bystander.is_running()
        assert leftovers.end(supervisor.home) == 0
    finally:
        bystander.kill()
        bystander.wait()


def test_a_session_number_that_is_somebody_elses_by_now_harms_nobody(home: Home) -> None:
    bystander = psutil.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    try:
        leftovers.record(home, bystander.pid)
        path = home.run / "session.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps(known | {"started": known["started"] - 100}))
        assert leftovers.end(home) == 0
        assert bystander.is_running()
        path.write_text(json.dumps(known | {"boot": known["boot"] - 100}))
        assert leftovers.end(home) == 0
        assert bystander.is_running()
    finally:
        bystander.kill()
        bystander.wait()
