from __future__ import annotations

from uuid import uuid4

import pytest
from mlflow.exceptions import MlflowException

from tasks.base.settings import Settings
from tasks.clients import tracking


def test_every_page_of_a_search_is_read(servers: Settings) -> None:
    client = tracking.client()
    experiment_id = tracking.experiment(f"pages_{uuid4().hex[:8]}")
    run_ids = {client.create_run(experiment_id).info.run_id for _ in range(5)}
    runs = tracking.every(client.search_runs, [experiment_id], max_results=2)
    assert len(runs) == 5
    assert {run.info.run_id for run in runs} == run_ids


@pytest.mark.parametrize("run_id", ["0" * 32, "nonsense"])
def test_what_does_not_exist_is_none(servers: Settings, run_id: str) -> None:
    assert tracking.existing(tracking.client().get_run, run_id) is None


def test_other_errors_are_raised() -> None:
    def refuse() -> None:
        raise MlflowException("The server is overloaded.")

    with pytest.raises(MlflowException, match="overloaded"):
        tracking.existing(refuse)
