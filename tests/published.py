"""Addresses of the shipped pipelines' data, and the same files in this repository."""

from __future__ import annotations

from tasks.base.settings import REPOSITORY

_DATA = REPOSITORY / "tests" / "data"
_WINE = "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality"
_LABS = "https://raw.githubusercontent.com/MicrosoftLearning/mslearn-azure-ml/main/Labs"
RISK = f"{_LABS}/08/src/diabetes.csv"

PUBLISHED = {
    f"{_WINE}/winequality-red.csv": str(_DATA / "winequality-red.csv"),
    f"{_WINE}/winequality-white.csv": str(_DATA / "winequality-white.csv"),
    RISK: str(_DATA / "azure-lab-diabetes.csv"),
}
"""For the setting `MLOPS_SOURCE_MAP`, as JSON."""
