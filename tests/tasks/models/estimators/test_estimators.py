from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_diabetes, load_iris

from tasks.base.errors import UserError
from tasks.base.settings import REPOSITORY
from tasks.models import estimators
from tasks.pipeline import families

SCIKIT_LEARN = [
    "decision_tree",
    "elastic_net",
    "extra_trees",
    "gradient_boosting",
    "linear",
    "logistic_regression",
    "random_forest",
    "ridge",
]
SHIPPED = sorted([*SCIKIT_LEARN, "keras_mlp"])


def test_families_are_named_after_their_files() -> None:
    assert families.names() == SHIPPED


def test_listing_the_names_imports_no_family() -> None:
    code = (
        "import sys; from tasks.pipeline import families; families.names();"
        "print('sklearn' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="must be one of") as caught:
        estimators.get("random_forst")

    assert caught.value.fix == "Did you mean 'random_forest'?"


def test_a_dropped_in_file_is_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SHIPPED:
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "lasso.py").write_text(
        "from sklearn.linear_model import Lasso\n"
        "from tasks.models.family import Family\n"
        "FAMILY = Family(regression=Lasso)\n"
    )
    monkeypatch.setattr(families, "FOLDER", tmp_path)
    monkeypatch.setattr(estimators, "__path__", [*estimators.__path__, str(tmp_path)])

    assert families.names() == sorted([*SHIPPED, "lasso"])
    assert estimators.get("lasso").estimator_for("regression").__name__ == "Lasso"


@pytest.mark.parametrize("name", SCIKIT_LEARN)
@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_family_fits_and_survives_skops_with_its_reviewed_types(name: str, task: str) -> None:
    family = estimators.get(name)
    made = family.estimator_for(task)  # type: ignore[arg-type]
    if made is None:
        assert family.regression is None or task != "regression"
        return
    features, truth = (load_diabetes if task == "regression" else load_iris)(return_X_y=True)
    if task == "binary":
        truth = truth > 0

    fitted = made().fit(features, truth)
    data = skops.io.dumps(fitted)

    assert skops.io.get_untrusted_types(data=data) == sorted(family.trusted_types)
    again = skops.io.loads(data, trusted=list(family.trusted_types))
    assert np.array_equal(again.predict(features), fitted.predict(features))
    if task != "regression":
        assert fitted.predict_proba(features).shape == (150, len(set(truth)))
