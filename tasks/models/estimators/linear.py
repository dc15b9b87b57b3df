"""Ordinary least squares."""

from __future__ import annotations

from sklearn.linear_model import LinearRegression

from tasks.models.family import Family

FAMILY = Family(regression=LinearRegression, threads=None)  # its n_jobs is for several targets
