"""Least squares with L1 and L2 penalties."""

from __future__ import annotations

from sklearn.linear_model import ElasticNet

from tasks.models.family import Family

FAMILY = Family(regression=ElasticNet)
