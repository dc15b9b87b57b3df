"""Programs of the embedded stack, as they are written down for supervisord.

A program is two files in the state folder, `programs/NAME.json` (what to run) and
`programs/NAME.conf` (how to supervise it). It outlives supervisord: the next `up` starts it again.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.stack.embedded.home import Home, write_private

MARK = "MLOPS_STACK_HOME"
"""The variable that marks a process as the stack's."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Program:
    """A process to keep running; its command begins with an absolute path.

    `stop_group` also sends the stop signal to the children.
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
        check_name(self.name)

    def write(self, home: Home) -> bool:
        """Write both files; returns whether one of them changed."""
        specification, section = _files(home, self.name)
        specification_changed = write_private(specification, self.specification(home))
        section_changed = write_private(section, self._section(home))
        return specification_changed or section_changed

    def specification(self, home: Home) -> str:
        """The input of `child.py`."""
        return json.dumps(
            {
                "command": self.command,
                "env": {**self.env, MARK: str(home.root)},
                "cwd": str(self.cwd),
                "user": self.user,
            },
            indent=1,
        )

    def _section(self, home: Home) -> str:
        """The section of supervisord's configuration."""
        specification, _ = _files(home, self.name)
        command = [*child_command(specification), str(pid_file(home))]
        options: dict[str, object] = {
            "command": shlex.join(command),
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
        lines = [f"{key}={literal(value)}" for key, value in options.items()]
        return "\n".join([f"[program:{self.name}]", *lines, ""])


def written_stop_wait(home: Home, name: str) -> int:
    """The `stop_wait_s` of a written program; the default if there is no such program."""
    _, section = _files(home, name)
    text = section.read_text() if section.exists() else ""
    match = re.search(r"^stopwaitsecs=(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else Program.stop_wait_s


def delete(home: Home, name: str) -> None:
    """Delete the files of a program."""
    # The section goes first: without it a specification that a kill leaves behind does no harm.
    for path in reversed(_files(home, name)):
        path.unlink(missing_ok=True)


def child_command(specification: Path) -> list[str]:
    """The command that becomes the specified program."""
    child = Path(__file__).with_name("child.py")
    return [sys.executable, "-I", "-S", str(child), str(specification)]


def pid_file(home: Home) -> Path:
    """The file in which supervisord writes its pid."""
    return home.run / "supervisord.pid"


def check_name(name: str) -> None:
    """Refuse a name that is not a file name.

    Raises:
        ValueError: The name has other characters.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The 'name' of a program must consist of letters, digits, '_', '.' and '-'. "
            f"Got {name!r} instead."
        )


def literal(value: object) -> str:
    """A value in which supervisord expands nothing."""
    return str(value).replace("%", "%%")


def _files(home: Home, name: str) -> tuple[Path, Path]:
    return home.programs / f"{name}.json", home.programs / f"{name}.conf"
