"""What the scoring server and the programs that start it agree on."""

from __future__ import annotations

HOST = "127.0.0.1"
GRACE_S = 25
"""What a server gives to the requests in flight when it is told to end."""
PORT_TAKEN = "The server's port is taken."
"""Last words of a server that cannot listen; the next start moves it."""
