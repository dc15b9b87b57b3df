"""The process in which a slot's trials run. It loads libraries and data once.

It exchanges JSON documents with the slot over a socket, one per line: first the setup and `ready`,
then a job and its result, for each trial.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from typing import IO, Any

from tasks.base import process
from tasks.base.errors import MlopsError, UserError


def main() -> None:
    """Serve the slot until it closes the socket."""
    channel, pipe, parent = map(int, sys.argv[1:])
    process.die_with_parent(parent)
    process.end_group_at_eof(pipe)
    process.offer_to_oom_killer()
    with socket.socket(fileno=channel) as connection, connection.makefile("rw") as lines:
        _serve(lines)


def _serve(lines: IO[str]) -> None:
    """Load what the setup names, then run one job per line."""
    setup = json.loads(lines.readline())
    from tasks.models import parameters
    from tasks.pipeline.schema import Pipeline
    from tasks.search import trial

    try:
        pipeline = Pipeline.model_validate(setup["pipeline"])
        objective = trial.load(pipeline, setup["snapshot"], setup["threads"])
        ready = {"ready": True, "defaults": parameters.default_points(pipeline)}
    except MlopsError as err:
        refusal = {"what": err.what, "why": err.why, "fix": err.fix}
        _send(lines, {"refused": refusal, "user": isinstance(err, UserError)})
        return
    gc.freeze()  # a garbage collection during a fit need not scan the libraries
    _send(lines, ready)
    for line in lines:
        job = json.loads(line)
        _send(lines, trial.attempt(objective, job["params"], job["seed"]))


def _send(lines: IO[str], message: dict[str, Any]) -> None:
    lines.write(json.dumps(message, default=str) + "\n")
    lines.flush()


if __name__ == "__main__":
    main()
