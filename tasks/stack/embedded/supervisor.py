"""supervisord: starting it, and adding and removing programs while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tasks.base.errors import MlopsError, UnavailableError
from tasks.stack.embedded import program as program_files
from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.program import Program, literal
from tasks.stack.embedded.rpc import Client, Fault

# supervisord splits the paths of included files at spaces, and expands those of logs twice: they
# are relative to the state folder.
_CONFIGURATION = """\
[supervisord]
nodaemon=false
directory={root}
pidfile={pid_file}
logfile=logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=2
childlogdir=logs
minfds=1024
{user}

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = programs/*.conf
"""


@dataclass(frozen=True)
class ProgramState:
    """What supervisord knows about a program; `state` is RUNNING, BACKOFF, STOPPED and others."""

    name: str
    state: str
    pid: int | None
    uptime_s: float

    @property
    def comes_back(self) -> bool:
        """Whether it runs, or has ended by itself and will be restarted."""
        return self.pid is not None or self.state in {"EXITED", "BACKOFF"}


class Supervisor:
    """The supervisord of a state folder."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._socket = home.sockets / "supervisor.sock"
        self._rpc = Client(self._socket)

    def pid(self) -> int | None:
        """The pid of supervisord, `None` if it is not running."""
        try:
            return cast("int", self._rpc.call("supervisor.getPID", timeout=5))
        except UnavailableError:
            return None

    def start(self) -> int:
        """Start supervisord in its own session, with no program running yet; returns its pid."""
        configuration = self.home.root / "supervisord.conf"
        text = _CONFIGURATION.format(
            root=literal(self.home.root),
            pid_file=program_files.pid_file(self.home).relative_to(self.home.root),
            socket=literal(self._socket),
            user="user=root" if os.geteuid() == 0 else "",
        )
        write_private(configuration, text)
        started = subprocess.run(
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(configuration)],
            cwd=self.home.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        fix = f"See {self.home.logs / 'supervisord.log'}."
        if started.returncode:
            why = (started.stderr or started.stdout).strip()
            raise MlopsError("supervisord does not start.", why=why, fix=fix)
        deadline = time.monotonic() + 10
        while (pid := self.pid()) is None:
            if time.monotonic() > deadline:
                why = f"Timed out after 10 s waiting for an answer on {self._socket}."
                raise MlopsError("supervisord does not answer.", why=why, fix=fix)
            time.sleep(0.05)
        return pid

    def shutdown(self) -> None:
        """Stop every program, then supervisord. Returns immediately."""
        self._rpc.call("supervisor.shutdown")

    def programs(self) -> dict[str, ProgramState]:
        """Every program by name."""
        return {
            entry["name"]: ProgramState(
                name=entry["name"],
                state=entry["statename"],
                pid=entry["pid"] or None,
                uptime_s=float(entry["now"] - entry["start"]) if entry["pid"] else 0.0,
            )
            for entry in self._rpc.call("supervisor.getAllProcessInfo")
        }

    def add(self, program: Program) -> bool:
        """Run a program; returns whether it was started. Replaces a running one that differs."""
        changed = program.write(self.home)
        present = program.name in self.programs()
        if present and changed:
            self._take_out(program.name, program.stop_wait_s)
        if changed or not present:
            self._rpc.attempt("supervisor.reloadConfig")
            self._rpc.attempt(
                "supervisor.addProcessGroup", program.name, ignore=(Fault.ALREADY_ADDED,)
            )
        return self.start_program(program.name)

    def start_program(self, name: str) -> bool:
        """Start a stopped program without waiting for it; returns whether it was stopped."""
        return self._rpc.attempt(
            "supervisor.startProcess", name, False, ignore=(Fault.ALREADY_STARTED,)
        )

    def stop(self, names: Iterable[str], timeout: float = 90) -> None:
        """Stop programs together and wait until they have ended.

        A program that has just ended by itself cannot be stopped and is restarted. The request is
        therefore repeated until supervisord leaves the program stopped.
        """
        waiting = set(names)
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline:
            for name in sorted(waiting):
                self._request_stop(name)
            states = self.programs()
            waiting = {name for name in waiting if name in states and states[name].comes_back}
            if waiting:
                time.sleep(0.05)

    def kill(self, name: str) -> None:
        """Kill a program that ignores the stop signal, and its children; it stays stopped."""
        state = self.programs().get(name)
        self._request_stop(name)  # first, or supervisord would restart it
        if state and state.pid:
            with suppress(ProcessLookupError):
                os.killpg(state.pid, signal.SIGKILL)

    def remove(self, name: str) -> None:
        """Stop a program and delete it; does nothing if there is no such program."""
        program_files.check_name(name)
        self._take_out(name, program_files.written_stop_wait(self.home, name))
        program_files.delete(self.home, name)

    def _request_stop(self, name: str) -> None:
        ignore = (Fault.NOT_RUNNING, Fault.BAD_NAME)
        self._rpc.attempt("supervisor.stopProcess", name, False, ignore=ignore)

    def _take_out(self, name: str, stop_wait_s: int) -> None:
        self.stop([name], stop_wait_s + 5)
        self._rpc.attempt("supervisor.removeProcessGroup", name, ignore=(Fault.BAD_NAME,))


def add_program(
    name: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    stop_wait_s: int = 15,
) -> bool:
    """Run a program in the embedded stack of the settings; see `Supervisor.add`."""
    home = Home.of_settings()
    program = Program(
        name, tuple(command), dict(env or {}), cwd or home.root, stop_wait_s=stop_wait_s
    )
    return Supervisor(home).add(program)


def remove_program(name: str) -> None:
    """Stop and delete a program of the embedded stack of the settings."""
    Supervisor(Home.of_settings()).remove(name)


def kill_program(name: str) -> None:
    """Kill a program that ignores the stop signal; it stays stopped."""
    Supervisor(Home.of_settings()).kill(name)


def programs() -> dict[str, ProgramState]:
    """The programs of the embedded stack of the settings, by name."""
    return Supervisor(Home.of_settings()).programs()
