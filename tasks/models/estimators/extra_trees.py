"""Averaged trees whose splits are drawn at random."""

from __future__ import annotations

from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from tasks.models.family import TREE, Family

FAMILY = Family(
    regression=ExtraTreesRegressor,
    binary=ExtraTreesClassifier,
    multiclass=ExtraTreesClassifier,
    trusted_types=(TREE,),
)
