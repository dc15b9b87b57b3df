"""Servers as supervised processes of the embedded stack.

The supervisor keeps the command of each server. So a server returns to its port with the stack, and
what runs is read from there: we store nothing ourselves.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import psutil

from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import REPOSITORY
from tasks.pipeline.schema import Serving
from tasks.serving import model_files
from tasks.serving.server.contract import GRACE_S, HOST, PORT_TAKEN
from tasks.serving.targets.deployment import YOUNG_S, Comparison, Deployment, State
from tasks.stack.embedded import ports, supervisor
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import ProgramState

_PREFIX = "model-"
Answers = Literal["labels", "probabilities"]
_STATES: dict[str, State] = {"RUNNING": "running", "STARTING": "starting", "BACKOFF": "starting"}


class ProcessTarget:
    """Runs each version's server as a program `model-NAME-vN` of the supervisor; see `Target`.

    Of `serving` it follows `probabilities`; replicas, limits and environment are for containers.
    """

    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:  # noqa: ARG002
        """Download the model."""
        model_files.fetch(name, version)
        return {}

    def compare(self, name: str, version: int, serving: Serving) -> Comparison:
        """Compare the version's server with what `start` would make of it, in its place."""
        command = _read(_program(name, version))
        if command is None or not command.serves(model_files.fetch(name, version), serving):
            return Comparison(None)
        process = supervisor.programs().get(_program(name, version))
        runs = process is not None and process.pid is not None
        return Comparison(command.deployment("running") if runs else None)

    def start(self, name: str, version: int, serving: Serving) -> Deployment:
        """The version's server: the running one, or a new one that may not answer yet."""
        program, model = _program(name, version), model_files.fetch(name, version)
        known = _read(program)
        if known and known.serves(model, serving):
            deployment = known.deployment("running")
            process = supervisor.programs().get(program)
            if process and process.pid is not None and not deployment.is_stuck(process.uptime_s):
                return deployment
            # A stuck server would ignore SIGTERM, and the endpoint is down.
            supervisor.kill_program(program)
        supervisor.remove_program(program)
        port = known.port if known and ports.free(known.port) else _unused_port()
        command = Command(name, version, port, model, _answers(serving))
        # One thread a server: on a few rows, more threads only get in each other's way.
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
            program, command.arguments(), env, REPOSITORY, stop_wait_s=GRACE_S + 5
        )
        return command.deployment("starting")

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until the server answers as this version."""
        first = self._process(deployment)

        def ended() -> bool:
            process = self._process(deployment)
            if process is None or process.pid is None:
                return True
            return first is not None and process.pid != first.pid

        if problem := deployment.wait_for_answers(timeout, ended):
            log = self.logs_tail(deployment.name, deployment.version)
            error = UnavailableError if log.endswith(PORT_TAKEN) else RunFailedError
            raise error(
                f"The server of {deployment.name} version {deployment.version} {problem}.", why=log
            )

    def memory(self, deployment: Deployment) -> int:
        """Bytes that the server uses at the moment; 0 when it has just ended."""
        process = self._process(deployment)
        try:
            return psutil.Process(process.pid).memory_info().rss if process else 0
        except psutil.NoSuchProcess:
            return 0

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, at most `drain_timeout` seconds, and end the server."""
        deployment.drain(drain_timeout, lambda: self._process(deployment) is not None)
        supervisor.remove_program(_program(deployment.name, deployment.version))
        model_files.forget(deployment.name, deployment.version)

    def list(self, name: str | None = None) -> list[Deployment]:
        """The servers of one model or of all, whatever their state, oldest version first."""
        servers = []
        for program, process in supervisor.programs().items():
            command = _read(program) if program.startswith(_PREFIX) else None
            if command and name in (None, command.name):
                server = command.deployment(_STATES.get(process.state, "stopped"))
                servers.append(replace(server, young=process.uptime_s < YOUNG_S))
        return sorted(servers, key=lambda server: (server.name, server.version))

    def stored(self, name: str) -> frozenset[int | None]:  # noqa: ARG002
        """Nothing: `stop` removes the files of its version, and `start` what a kill left."""
        return frozenset()

    def clean(self, name: str, keep: frozenset[int]) -> None:
        """Nothing is stored, so nothing is removed."""

    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The last lines of the version's server log."""
        path = Home.of_settings().logs / f"{_program(name, version)}.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _process(self, deployment: Deployment) -> ProgramState | None:
        return supervisor.programs().get(_program(deployment.name, deployment.version))


@dataclass(frozen=True)
class Command:
    """The command line of a server, which is also the record of what it serves."""

    name: str
    version: int
    port: int
    model: Path
    answers: Answers

    def arguments(self) -> tuple[str, ...]:
        """The command line."""
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
            cast("Answers", options["--answers"]),
        )

    def serves(self, model: Path, serving: Serving) -> bool:
        """Whether the server has this model and answers as the pipeline file asks."""
        return (self.model, self.answers) == (model, _answers(serving))

    def deployment(self, state: State) -> Deployment:
        """The server that this command starts."""
        return Deployment(self.name, self.version, (f"{HOST}:{self.port}",), state)


def _answers(serving: Serving) -> Answers:
    return "probabilities" if serving.probabilities else "labels"


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
    """A port without a listener, and that no stopped server will return to."""
    programs = (program for program in supervisor.programs() if program.startswith(_PREFIX))
    commands = map(_read, programs)
    taken = {command.port for command in commands if command}
    while (port := ports.unused()) in taken:
        pass
    return port
