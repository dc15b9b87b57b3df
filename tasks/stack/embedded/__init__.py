"""The embedded stack: its servers, their start and end, and the folder of their state."""
