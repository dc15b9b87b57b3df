"""Least squares with an L2 penalty. Its classifier has no probabilities, so it is left out."""

from __future__ import annotations

from sklearn.linear_model import Ridge

from tasks.models.family import Family

FAMILY = Family(regression=Ridge)
