"""The scoring server, and where it runs."""
