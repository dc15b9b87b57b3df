"""Serving: the scoring server, what runs it, and the gateway in front."""
