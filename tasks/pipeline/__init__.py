"""The pipeline file: what it may say, how it is read, what a run may change of it."""
