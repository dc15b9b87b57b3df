"""One decision tree."""

from __future__ import annotations

from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tasks.models.family import TREE, Family

FAMILY = Family(
    regression=DecisionTreeRegressor,
    binary=DecisionTreeClassifier,
    multiclass=DecisionTreeClassifier,
    trusted_types=(TREE,),
)
