"""Boosted trees, each fitted to what the ones before left over."""

from __future__ import annotations

from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from tasks.models.family import TREE, Family

FAMILY = Family(
    regression=GradientBoostingRegressor,
    binary=GradientBoostingClassifier,
    multiclass=GradientBoostingClassifier,
    trusted_types=(TREE,),
)
