"""The embedded stack: which servers run, how they start and stop, and where their state lies."""
