from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

from tests.tasks.serving import examples


@pytest.fixture(scope="session")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples.save(tmp_path_factory.mktemp("models") / "ridge", Ridge())


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    estimator = RandomForestRegressor(n_estimators=5, random_state=0)
    return examples.save(tmp_path_factory.mktemp("models") / "forest", estimator)


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    mlflow.pyfunc.save_model(folder / "gate", **examples.gate(folder))
    return folder / "gate"


@pytest.fixture(scope="session")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples.save_typed(tmp_path_factory.mktemp("models") / "typed")
