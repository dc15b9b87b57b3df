"""The gateway: a stable URL for each model, and the start page."""
