"""What the scoring server shares with the programs that start and ask it."""

from __future__ import annotations

HOST = "127.0.0.1"
GRACE_S = 25
"""How long a server lets requests in flight finish when it is told to end."""
PORT_TAKEN = "The server's port is taken."
"""Last line of a server that cannot listen; the next start moves it to another port."""
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""The keys of MLflow's protocol, one of which holds a request's rows."""
