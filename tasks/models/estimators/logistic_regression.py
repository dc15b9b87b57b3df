"""Logistic regression, with a regularization rate instead of scikit-learn's inverse C."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression

from tasks.models.family import Family, Own


def _inverse(rate: float) -> float:
    return 1 / rate


FAMILY = Family(
    binary=LogisticRegression,
    multiclass=LogisticRegression,
    threads=None,  # deprecated since scikit-learn 1.8
    own={"reg_rate": Own(replaces="C", default=1.0, value=_inverse)},
)
