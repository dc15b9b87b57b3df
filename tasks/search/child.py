"""The process in which a slot's trials run: libraries and data are loaded once.

One JSON document a line goes each way over a socket: first the setup and `ready`, then a job and
its result, again and again.
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
    """Load what the setup names, then run one job a line."""
    setup = json.loads(lines.readline())
    from tasks.models import parameters
    from tasks.pipeline.schema import Pipeline
    from tasks.search import trial

    try:
        pipeline = Pipeline.model_validate(setup["pipeline"])
        objective = trial.load(pipeline, setup["snapshot"], setup["threads"])
        hello = {"ready": True, "defaults": parameters.default_points(pipeline)}
    except MlopsError as err:
        refusal = {"what": err.what, "why": err.why, "fix": err.fix}
        _send(lines, {"refused": refusal, "user": isinstance(err, UserError)})
        return
    gc.freeze()  # no collection during a fit goes through the libraries
    _send(lines, hello)
    for line in lines:
        job = json.loads(line)
        _send(lines, trial.attempt(objective, job["params"], job["seed"]))


def _send(lines: IO[str], message: dict[str, Any]) -> None:
    lines.write(json.dumps(message, default=str) + "\n")
    lines.flush()


if __name__ == "__main__":
    main()
