"""The pipeline file: its keys, how it is read and checked, and what a run may change."""
