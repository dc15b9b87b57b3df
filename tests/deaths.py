"""Run work in a separate process that dies at one of its steps, as by SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from tasks.base.errors import MlopsError
from tasks.base.settings import settings

# Processes start from a clean server that has the imports, not as forks of pytest.
_processes = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
_processes.set_forkserver_preload(["tasks.promote", "tasks.deploy"])

OK, CONFLICT, DIED = 0, 5, 77
"""Exit codes."""


@dataclass(frozen=True)
class Death:
    """Where the process dies: before or after it calls one of these steps."""

    steps: tuple[str, ...]
    """As `module:name.of.function`."""
    before: bool = False
    spared: int = 0
    """The number of calls that succeed first."""


def start(work: Callable[..., object], *arguments: Any, death: Death | None = None) -> BaseProcess:
    """Start `work(*arguments)` in a process with the same settings."""
    environment = {key: text for key, text in os.environ.items() if key.startswith("MLOPS_")}
    process = _processes.Process(
        target=_run, args=(work, arguments, environment, death), daemon=True
    )
    process.start()
    return process


def code(process: BaseProcess, seconds: float = 60) -> int | None:
    """Wait for the process; returns its exit code, or `None` if it is still running."""
    process.join(seconds)
    return process.exitcode


def _run(
    work: Callable[..., object],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    death: Death | None,
) -> None:
    os.environ.update(environment)
    settings.cache_clear()
    if death:
        _arm(death)
    try:
        work(*arguments)
    except MlopsError as error:
        sys.exit(error.exit_code)


def _arm(death: Death) -> None:
    left = death.spared

    def deadly(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                return step(*positional, **named)
            if not death.before:
                step(*positional, **named)
            os._exit(DIED)

        return call

    for path in death.steps:
        owner_path, _, name = path.rpartition("." if "." in path.partition(":")[2] else ":")
        owner = pkgutil.resolve_name(owner_path)
        setattr(owner, name, deadly(getattr(owner, name)))
