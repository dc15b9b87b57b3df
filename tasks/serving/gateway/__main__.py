"""`python -m tasks.serving.gateway [COMMAND…]`: writes all routes, then becomes the command.

The compose stack's job `routes` gives no command. The embedded stack gives Caddy's.
"""

from __future__ import annotations

import os
import sys

from tasks.base.settings import settings
from tasks.serving.gateway import site


def main() -> None:
    """Write the routes, then replace this process."""
    folder = settings().gateway_folder
    site.write_routes(folder, site.routed(folder))
    command = sys.argv[1:]
    if command:
        os.execv(command[0], command)  # noqa: S606 - no shell, on purpose


if __name__ == "__main__":
    main()
