"""Averaged trees on bootstrap samples."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from tasks.models.family import TREE, Family

FAMILY = Family(
    regression=RandomForestRegressor,
    binary=RandomForestClassifier,
    multiclass=RandomForestClassifier,
    trusted_types=(TREE,),
)
