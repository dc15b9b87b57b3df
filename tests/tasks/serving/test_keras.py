"""A network behind the scoring server, as a process of the stack."""

from __future__ import annotations

import httpx
import mlflow
import numpy as np
import pandas as pd

from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.models import flavors
from tasks.pipeline.schema import Serving
from tasks.serving import model_files, smoke
from tasks.serving.targets.process import ProcessTarget
from tests.tasks.models import test_flavors as examples

NAME = "keras_test"


def test_a_network_is_served_with_its_probabilities(servers: Settings) -> None:
    network = examples.fit(examples.NETWORK, "binary", threshold=0.3)
    tracking.client()
    with mlflow.start_run(experiment_id=tracking.experiment(NAME)):
        uri = flavors.log(network, examples.FRAME.head())
    version = int(mlflow.register_model(uri, NAME).version)
    target, serving = ProcessTarget(), Serving(probabilities=True)
    deployment = target.start(NAME, version, serving)
    try:
        target.wait_ready(deployment, 120)
        smoke.check(deployment, model_files.fetch(NAME, version))
        body = {"dataframe_split": examples.FRAME.to_dict(orient="split", index=False)}
        url = f"http://{deployment.address}/invocations"
        answer = httpx.post(url, json=body, timeout=30).json()
    finally:
        target.stop(deployment, 0)

    assert answer["classes"] == ["better", "worse"]
    chances = np.array(answer["probabilities"])
    np.testing.assert_allclose(chances, network.predict_proba(examples.FRAME), rtol=1e-5)
    decided = pd.Series(answer["predictions"]) == "worse"
    np.testing.assert_array_equal(decided, chances[:, 1] >= 0.3)
