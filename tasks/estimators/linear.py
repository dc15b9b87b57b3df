"""Ordinary least squares; logistic regression for classes."""

from __future__ import annotations

from sklearn.linear_model import LinearRegression, LogisticRegression

from tasks.estimators.family import Family

FAMILY = Family(
    regression=LinearRegression,
    binary=LogisticRegression,
    multiclass=LogisticRegression,
    threads=None,  # LogisticRegression warns of its n_jobs since scikit-learn 1.8
)
