"""Boosted trees, each fitted to the residuals of those before."""

from __future__ import annotations

from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from tasks.models.family import TREE, Family

FAMILY = Family(
    regression=GradientBoostingRegressor,
    binary=GradientBoostingClassifier,
    multiclass=GradientBoostingClassifier,
    trusted_types=(TREE,),
)
