"""The embedded stack: which servers, how they start and stop, their health."""
