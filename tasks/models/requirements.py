"""The packages that a logged model needs."""

from __future__ import annotations

from importlib.metadata import version

REQUIREMENTS = ("mlflow", "scikit-learn", "skops", "pandas", "numpy", "scipy")
"""What a scikit-learn model needs to be loaded and served."""


def requirements(extra: tuple[str, ...] = ()) -> list[str]:
    """The installed versions, pinned. MLflow's own inference would take 18 s and find the same."""
    return [f"{name}=={version(name)}" for name in (*REQUIREMENTS, *extra)]
