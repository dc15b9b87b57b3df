"""The scoring server: one model version behind MLflow's REST protocol.

`python -m tasks.serving.server --name NAME --version N --port P --model FOLDER [--host HOST]
[--answers labels|probabilities]`

It runs as a process of the embedded stack and in the models' images. An image gets this folder and
nothing else of ours, so no module here imports from another package.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import time
from pathlib import Path

from tasks.serving.server.contract import GRACE_S, HOST, PORT_TAKEN

log = logging.getLogger("tasks.serving.server")

KEEP_ALIVE_S = 300
"""Longer than any gateway keeps an idle connection. So the server never closes a connection just as
a request arrives on it."""


def main() -> None:
    """Load the model and serve it until SIGTERM."""
    parser = argparse.ArgumentParser(prog="tasks.serving.server")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True, type=int)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--host", default=HOST, help="the address to listen on")
    parser.add_argument("--model", required=True, type=Path, help="the model's folder")
    parser.add_argument(
        "--answers",
        choices=("labels", "probabilities"),
        default=os.environ.get("MLOPS_ANSWERS", "labels"),
        help="for classes: labels only, or their probabilities as well",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    began = time.monotonic()
    listener = _listen(options.host, options.port)
    # These imports take seconds. The port is open already, so clients wait and are not refused.
    import uvicorn

    from tasks.serving.server import app
    from tasks.serving.server.scorer import Scorer

    scorer = Scorer.load(options.model, probabilities=options.answers == "probabilities")
    config = uvicorn.Config(
        app.create(scorer, options.name, options.version),
        access_log=False,
        lifespan="off",
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    log.info(
        "%s version %d is ready on %s:%d after %.1f s",
        *(options.name, options.version, options.host, options.port, time.monotonic() - began),
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    # A port in TIME_WAIT after a restart is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as err:
        sys.exit(f"Cannot listen on {host}:{port}: {err.strerror}.\n{PORT_TAKEN}")
    return listener


if __name__ == "__main__":
    main()
