"""A network and a classifier on the compose stack: each in a container of its own requirements."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compose.conftest import Project
from tests.compose.shared.serving import served
from tests.compose.shared.test_chain import train
from tests.published import PUBLISHED
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

NETWORK = {
    "estimator": "keras_mlp",
    "units_1": 32,
    "units_2": 16,
    "learning_rate": 0.05,
    "momentum": 0.5,
    "batch_size": 128,
    "epochs": 60,
    "patience": 8,
}
WINE = {
    "fixed acidity": 7.4, "volatile acidity": 0.7, "citric acid": 0, "residual sugar": 1.9,
    "chlorides": 0.076, "free sulfur dioxide": 11, "total sulfur dioxide": 34, "density": 0.9978,
    "pH": 3.51, "sulphates": 0.56, "alcohol": 9.4, "color": "red",
}  # fmt: skip
PATIENT = {
    "Pregnancies": 0, "PlasmaGlucose": 171, "DiastolicBloodPressure": 80, "TricepsThickness": 34,
    "SerumInsulin": 23, "BMI": 43.5, "DiabetesPedigree": 1.21, "Age": 21,
}  # fmt: skip


@pytest.fixture(scope="module")
def offline(project: Project) -> Iterator[Project]:
    """The stack with the publishers' files at hand, beside the pipelines."""
    copies = [Path(path) for path in PUBLISHED.values()]
    for path in copies:
        shutil.copy(path, project.folder / "pipelines" / path.name)
    yield project
    for path in copies:
        (project.folder / "pipelines" / path.name).unlink()


def answer(project: Project, name: str, row: dict[str, Any]) -> dict[str, Any]:
    until(lambda: served(project, name) == 1, 180, f"version 1 of {name} is served")
    url = f"{project.url()}/models/{name}/invocations"
    response = httpx.post(url, json={"dataframe_records": [row]}, timeout=60)
    response.raise_for_status()
    content: dict[str, Any] = response.json()
    return content


def test_a_network(offline: Project, airflow: httpx.Client) -> None:
    train(airflow, "wine_quality", trials=1, slots=1, points=[NETWORK], gate_mode="dry_run")

    (quality,) = answer(offline, "wine_quality", WINE)["predictions"]
    assert 4 < quality < 7


def test_a_classifier_with_its_probabilities(offline: Project, airflow: httpx.Client) -> None:
    train(airflow, "diabetes_risk", trials=1, slots=1, gate_mode="dry_run")

    prediction = answer(offline, "diabetes_risk", PATIENT)
    assert prediction["classes"] == [0, 1]
    assert prediction["predictions"][0] in prediction["classes"]
    assert sum(prediction["probabilities"][0]) == pytest.approx(1)
