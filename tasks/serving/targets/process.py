"""Servers as supervised processes of the embedded stack.

The supervisor keeps the command of each, so a server comes back on its port with the stack, and
what runs is read from there: nothing of ours has to be remembered.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from tasks.base.errors import MlopsError, RunFailedError, UnavailableError
from tasks.base.settings import REPOSITORY
from tasks.pipeline.schema import Serving
from tasks.serving import model_files
from tasks.serving.server.contract import GRACE_S, HOST, PORT_TAKEN
from tasks.serving.targets.deployment import Deployment, State
from tasks.stack.embedded import ports, supervisor
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import ProgramState

_PREFIX = "model-"
_POLL_S = 0.1
_YOUNG_S = 30.0
"""A server that started so recently may still be loading its model."""
_PATIENCE = 3
"""Tries of a few seconds each before a silent server counts as stuck: a busy one is slow."""
Answers = Literal["labels", "probabilities"]
_STATES: dict[str, State] = {"RUNNING": "running", "STARTING": "starting", "BACKOFF": "starting"}


class ProcessTarget:
    """Runs each version's server as a program `model-NAME-vN` of the supervisor; see `Target`.

    Of `serving` it heeds `probabilities`: replicas, limits and environment are for containers.
    """

    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:  # noqa: ARG002
        """Download the model."""
        model_files.fetch(name, version)
        return {}

    def start(
        self,
        name: str,
        version: int,
        serving: Serving = Serving(),  # noqa: B008 - frozen
    ) -> Deployment:
        """The version's server: the running one, or a new one that may not answer yet."""
        model = model_files.fetch(name, version)
        known = _read(_program(name, version))
        answers: Answers = "probabilities" if serving.probabilities else "labels"
        if known and (known.model, known.answers) == (model, answers):
            if self._usable(known):
                return known.deployment("running")
            # Stuck: it would not heed SIGTERM, and the endpoint is down.
            supervisor.kill_program(_program(name, version))
        supervisor.remove_program(_program(name, version))
        port = known.port if known and ports.free(known.port) else _unused_port()
        new = Command(name, version, port, model, answers)
        # One thread a server: on a few rows more of them only get in each other's way.
        env = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLOPS_STACK_HOME": str(Home.of_settings().root),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
        supervisor.add_program(
            _program(name, version), new.arguments(), env, REPOSITORY, stop_wait_s=GRACE_S + 5
        )
        return new.deployment("starting")

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until the server answers as this version."""
        deadline = time.monotonic() + timeout
        first = self._process(deployment)
        while not deployment.answers():
            now = self._process(deployment)
            if now is None or now.pid is None or (first and now.pid != first.pid):
                raise self._failure(deployment, "ended before it answered")
            if time.monotonic() > deadline:
                raise self._failure(deployment, f"does not answer after {timeout:.0f} s")
            time.sleep(_POLL_S)

    def memory(self, deployment: Deployment) -> int:
        """Bytes that the server uses now; 0 when it has just ended."""
        process = self._process(deployment)
        try:
            return psutil.Process(process.pid).memory_info().rss if process else 0
        except psutil.NoSuchProcess:
            return 0

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, `drain_timeout` seconds at most, and end the server."""
        deployment.drain(drain_timeout, lambda: self._process(deployment) is not None)
        supervisor.remove_program(_program(deployment.name, deployment.version))
        model_files.forget(deployment.name, deployment.version)

    def list(self, name: str | None = None) -> list[Deployment]:
        """The servers of one model or of all, whatever their state, oldest version first."""
        found = []
        for program, process in supervisor.programs().items():
            command = _read(program) if program.startswith(_PREFIX) else None
            if command and name in (None, command.name):
                one = command.deployment(_STATES.get(process.state, "stopped"))
                found.append(replace(one, young=process.uptime_s < _YOUNG_S))
        return sorted(found, key=lambda one: (one.name, one.version))

    def clean(self, name: str, keep: set[int]) -> None:
        """Nothing: `stop` removes the files of its version, and `start` what a kill left."""

    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The end of what the version's server wrote."""
        path = Home.of_settings().logs / f"{_program(name, version)}.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _usable(self, known: Command) -> bool:
        """Whether the server runs, and answers or is still about to."""
        state = supervisor.programs().get(_program(known.name, known.version))
        if state is None or state.pid is None:
            return False
        server = known.deployment("running")
        return state.uptime_s < _YOUNG_S or any(server.answers() for _ in range(_PATIENCE))

    def _process(self, deployment: Deployment) -> ProgramState | None:
        return supervisor.programs().get(_program(deployment.name, deployment.version))

    def _failure(self, deployment: Deployment, what: str) -> MlopsError:
        log = self.logs_tail(deployment.name, deployment.version)
        error = UnavailableError if log.endswith(PORT_TAKEN) else RunFailedError
        return error(
            f"The server of {deployment.name} version {deployment.version} {what}.", why=log
        )


@dataclass(frozen=True)
class Command:
    """The command line of a server, which is also the record of what it serves."""

    name: str
    version: int
    port: int
    model: Path
    answers: Answers = "labels"

    def arguments(self) -> tuple[str, ...]:
        """The command."""
        return (
            *(sys.executable, "-m", "tasks.serving.server"),
            *("--name", self.name, "--version", str(self.version)),
            *("--port", str(self.port), "--model", str(self.model)),
            *("--answers", self.answers),
        )

    @classmethod
    def parse(cls, arguments: list[str]) -> Command:
        """The inverse of `arguments`."""
        options = dict(zip(arguments[3::2], arguments[4::2], strict=True))
        return cls(
            options["--name"],
            int(options["--version"]),
            int(options["--port"]),
            Path(options["--model"]),
            "probabilities" if options.get("--answers") == "probabilities" else "labels",
        )

    def deployment(self, state: State) -> Deployment:
        """The server that this command starts."""
        return Deployment(self.name, self.version, (f"{HOST}:{self.port}",), state)


def _program(name: str, version: int) -> str:
    return f"{_PREFIX}{name}-v{version}"


def _read(program: str) -> Command | None:
    """The command that the supervisor keeps for a program."""
    path = Home.of_settings().programs / f"{program}.json"
    try:
        return Command.parse(json.loads(path.read_text())["command"])
    except FileNotFoundError:
        return None


def _unused_port() -> int:
    """A port that nobody listens on, nor a stopped server is to come back on."""
    commands = (_read(one) for one in supervisor.programs() if one.startswith(_PREFIX))
    taken = {command.port for command in commands if command}
    while (port := ports.unused()) in taken:
        pass
    return port
