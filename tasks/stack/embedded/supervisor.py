"""supervisord: starting it, and programs that come and go while it runs.

A program is two files in the state folder, `programs/NAME.json` (what to run) and
`programs/NAME.conf` (how to supervise it), and so outlives supervisord: the next `up` starts it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tasks.base.errors import MlopsError, UnavailableError
from tasks.stack.embedded.home import Home, write_private

# What supervisord answers: https://supervisord.org/api.html#process-control
_SHUTDOWN, _BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED = 6, 10, 60, 70, 90
MARK = "MLOPS_STACK_HOME"
"""Variable by which a process is known as the stack's."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Program:
    """A process to keep running; its command begins with an absolute path.

    `stop_group` sends the stop signal to the children too.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    user: str | None = None
    stop_signal: str = "TERM"
    stop_wait_s: int = 15
    stop_group: bool = True

    def __post_init__(self) -> None:
        _check(self.name)

    def specification(self, home: Home) -> str:
        """What `child.py` reads."""
        return json.dumps(
            {
                "command": self.command,
                "env": {**self.env, MARK: str(home.root)},
                "cwd": str(self.cwd),
                "user": self.user,
            },
            indent=1,
        )

    def section(self, home: Home) -> str:
        """Its section in supervisord's configuration."""
        options: dict[str, object] = {
            "command": shlex.join(
                [*child_command(home.programs / f"{self.name}.json"), str(pid_file(home))]
            ),
            "directory": "/",
            "autostart": "false",
            "autorestart": "true",
            "startsecs": 2,
            "startretries": 1000,
            "stopsignal": self.stop_signal,
            "stopwaitsecs": self.stop_wait_s,
            "stopasgroup": str(self.stop_group).lower(),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"logs/{self.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 2,
        }
        lines = [f"{key}={_literal(value)}" for key, value in options.items()]
        return "\n".join([f"[program:{self.name}]", *lines, ""])


@dataclass(frozen=True)
class ProgramState:
    """What supervisord knows of a program; `state` is RUNNING, BACKOFF, STOPPED and others."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    description: str

    @property
    def comes_back(self) -> bool:
        """Whether it runs, or has ended by itself and will be started again."""
        return self.pid is not None or self.state in {"EXITED", "BACKOFF"}


def child_command(specification: Path) -> list[str]:
    """The command that becomes the specified program."""
    return [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("child.py")),
        str(specification),
    ]


def pid_file(home: Home) -> Path:
    """Where supervisord writes its pid."""
    return home.run / "supervisord.pid"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class _UnixTransport(xmlrpc.client.Transport):
    """The `SupervisorTransport` of supervisor has no time limit, and its import loads a server."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        del host  # there is one socket
        return _UnixConnection(str(self.path), self.timeout)


class Supervisor:
    """The supervisord of one state folder."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.socket = home.sockets / "supervisor.sock"

    def _call(self, method: str, *args: object, timeout: float = 30) -> Any:
        transport = _UnixTransport(self.socket, timeout)
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
                return getattr(server, method)(*args)
        except (OSError, http.client.HTTPException, xmlrpc.client.Fault) as err:
            if isinstance(err, xmlrpc.client.Fault) and err.faultCode != _SHUTDOWN:
                raise
            raise UnavailableError(
                "The embedded stack does not run.",
                why=f"supervisord does not answer on {self.socket}: {err!r}",
                fix="Start it with `./mlops up`.",
            ) from err

    def pid(self) -> int | None:
        """The pid of supervisord, `None` when it does not run."""
        try:
            return cast("int", self._call("supervisor.getPID", timeout=5))
        except UnavailableError:
            return None

    def start(self) -> int:
        """Start supervisord in a session of its own, with no program running yet."""
        configuration = self.home.root / "supervisord.conf"
        write_private(configuration, self._configuration())
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(configuration)]
        started = subprocess.run(
            command,
            cwd=self.home.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode:
            raise MlopsError(
                "supervisord does not start.",
                why=(started.stderr or started.stdout).strip(),
                fix=f"See {self.home.logs / 'supervisord.log'}.",
            )
        deadline = time.monotonic() + 10
        while (pid := self.pid()) is None:
            if time.monotonic() > deadline:
                raise MlopsError(
                    "supervisord does not answer.",
                    why=f"Nothing answers on {self.socket} after 10 s.",
                    fix=f"See {self.home.logs / 'supervisord.log'}.",
                )
            time.sleep(0.05)
        return pid

    def _configuration(self) -> str:
        """Its own settings, relative to the state folder.

        It splits the paths of included files at spaces, and expands those of logs twice.
        """
        return f"""\
[supervisord]
nodaemon=false
directory={_literal(self.home.root)}
pidfile={pid_file(self.home).relative_to(self.home.root)}
logfile=logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=2
childlogdir=logs
minfds=1024
{"user=root" if os.geteuid() == 0 else ""}

[unix_http_server]
file={_literal(self.socket)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = programs/*.conf
"""

    def shutdown(self) -> None:
        """Stop every program, then supervisord. Returns at once."""
        self._call("supervisor.shutdown")

    def programs(self) -> dict[str, ProgramState]:
        """Every program by name."""
        return {
            entry["name"]: ProgramState(
                name=entry["name"],
                state=entry["statename"],
                pid=entry["pid"] or None,
                uptime_s=float(entry["now"] - entry["start"]) if entry["pid"] else 0.0,
                description=entry["spawnerr"] or entry["description"],
            )
            for entry in self._call("supervisor.getAllProcessInfo")
        }

    def add(self, program: Program) -> bool:
        """Run a program; a running one is replaced only if it differs.

        Tells whether it was started.
        """
        changed = self._write(program)
        known = self.programs().get(program.name)
        if known and changed:
            self._take_out(program.name, program.stop_wait_s)
        if known is None or changed:
            self._tolerate((), "supervisor.reloadConfig")
            self._tolerate((_ALREADY_ADDED,), "supervisor.addProcessGroup", program.name)
        return self.start_program(program.name)

    def start_program(self, name: str) -> bool:
        """Start a program that is known, without waiting; tells whether it was not running."""
        return self._tolerate((_ALREADY_STARTED,), "supervisor.startProcess", name, False)

    def stop(self, names: Iterable[str], timeout: float = 20) -> None:
        """Stop programs together and wait until they are gone.

        One that has just ended by itself cannot be stopped, and is started again: then it is asked
        once more.
        """
        waiting = set(names)
        deadline = time.monotonic() + timeout
        while waiting and time.monotonic() < deadline:
            for name in sorted(waiting):
                self._ask_to_stop(name)
            states = self.programs()
            waiting = {name for name in waiting if name in states and states[name].comes_back}
            if waiting:
                time.sleep(0.05)

    def kill(self, name: str) -> None:
        """Stop a program that would not heed the stop signal, and its children."""
        known = self.programs().get(name)
        self._ask_to_stop(name)  # first, or it would be started again
        if known and known.pid:
            with suppress(ProcessLookupError):
                os.killpg(known.pid, signal.SIGKILL)

    def _ask_to_stop(self, name: str) -> None:
        self._tolerate((_NOT_RUNNING, _BAD_NAME), "supervisor.stopProcess", name, False)

    def remove(self, name: str) -> None:
        """Stop a program and forget it; nothing happens when there is none."""
        _check(name)
        specification = self.home.programs / f"{name}.conf"
        found = re.search(r"^stopwaitsecs=(\d+)", _text(specification), re.MULTILINE)
        self._take_out(name, int(found[1]) if found else 15)
        specification.unlink(missing_ok=True)
        specification.with_suffix(".json").unlink(missing_ok=True)

    def _take_out(self, name: str, stop_wait_s: int) -> None:
        self.stop([name], stop_wait_s + 5)
        self._tolerate((_BAD_NAME,), "supervisor.removeProcessGroup", name)

    def _tolerate(self, codes: tuple[int, ...], method: str, *args: object) -> bool:
        try:
            self._call(method, *args)
        except xmlrpc.client.Fault as err:
            if err.faultCode not in codes:
                raise MlopsError(
                    f"supervisord refused {method}{args}.", why=err.faultString
                ) from err
            return False
        return True

    def _write(self, program: Program) -> bool:
        changed = False
        for path, text in (
            (self.home.programs / f"{program.name}.json", program.specification(self.home)),
            (self.home.programs / f"{program.name}.conf", program.section(self.home)),
        ):
            if _text(path) != text:
                write_private(path, text)
                changed = True
        return changed


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
    """Stop and forget a program of the embedded stack of the settings."""
    Supervisor(Home.of_settings()).remove(name)


def programs() -> dict[str, ProgramState]:
    """The programs of the embedded stack of the settings, by name."""
    return Supervisor(Home.of_settings()).programs()


def pid() -> int | None:
    """The pid of the supervisord of the settings, `None` when it does not run."""
    return Supervisor(Home.of_settings()).pid()


def start_program(name: str) -> bool:
    """Start a stopped program; tells whether it was stopped."""
    return Supervisor(Home.of_settings()).start_program(name)


def kill_program(name: str) -> None:
    """End a program that would not heed the stop signal, and keep it known."""
    Supervisor(Home.of_settings()).kill(name)


def stop_program(name: str) -> None:
    """Stop a program and keep it known; it stays stopped until it is started."""
    Supervisor(Home.of_settings()).stop([name])


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The 'name' of a program must consist of letters, digits, '_', '.' and '-'. "
            f"Got {name!r} instead."
        )


def _literal(value: object) -> str:
    """A value without what supervisord would expand."""
    return str(value).replace("%", "%%")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
