"""The scoring server: all of ours that goes into an image, and nothing else."""
