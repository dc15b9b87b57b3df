from __future__ import annotations

import json
import logging
import threading
from contextlib import closing
from typing import Any

import pytest

from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients import database, tracking
from tasks.records.trials.publish import TrialPublisher, publish_rest
from tasks.search import search
from tasks.stack import health
from tasks.stack.embedded.supervisor import Supervisor
from tests.tasks.search.searches import begin, children, pipeline, rows, slot_of
from tests.waiting import until


@pytest.fixture
def run(stack: Supervisor) -> RunRef:
    return begin(pipeline())


def record(run: RunRef, tid: int, outcome: str | None = "finished", **more: Any) -> None:
    """Write a row as a slot leaves it."""
    values = {
        "search": run.run_id,
        "tid": tid,
        "vals": json.dumps({"estimator": 0, "ridge.alpha": 0.5}),
        "params": json.dumps({"estimator": "ridge", "alpha": 0.5, "positive": None}),
        "outcome": outcome,
        "loss": 50.0 + tid if outcome == "finished" else None,
        "metrics": json.dumps({"val_rmse": 50.0 + tid, "duration_s": 0.25}),
        "began_at": "2026-01-02 03:04:05+00",
        "ended_at": "2026-01-02 03:04:06.5+00",
    } | more
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"insert into trial ({', '.join(values)}) values ({', '.join(['%s'] * len(values))})",
            list(values.values()),
        )


def open_child(run: RunRef, tid: int) -> str:
    child = tracking.client().create_run(
        tracking.experiment(run.name),
        tags={tracking.PARENT: run.run_id, tracking.TRIAL: str(tid)},
    )
    return str(child.info.run_id)


def test_what_dead_slots_left_is_published(run: RunRef) -> None:
    record(run, 0)
    record(run, 1, "failed", error="ValueError: no", metrics=json.dumps({"duration_s": 0.1}))
    record(run, 2, "killed", error="too long", metrics=json.dumps({"duration_s": 2.0}))
    record(run, 3, None)

    publish_rest(run)

    published = children(run)
    assert [child.info.status for child in published] == ["FINISHED", "FAILED", "KILLED"]
    assert [child.info.run_name for child in published] == [
        f"trial 00{tid} ridge" for tid in range(3)
    ]
    assert published[0].data.params == {"estimator": "ridge", "alpha": "0.5", "positive": "None"}
    assert published[0].data.metrics == {"val_rmse": 50.0, "duration_s": 0.25}
    assert published[0].info.end_time - published[0].info.start_time == 1500
    assert "error" not in published[0].data.tags
    assert [child.data.tags["error"] for child in published[1:]] == ["ValueError: no", "too long"]
    assert rows(run.run_id, "run_id, published") == [
        *((child.info.run_id, True) for child in published),
        (None, False),
    ]


def test_publishing_again_changes_nothing(run: RunRef) -> None:
    record(run, 0)
    publish_rest(run)
    (before,) = children(run)

    publish_rest(run)

    (after,) = children(run)
    assert after.to_dictionary() == before.to_dictionary()


@pytest.mark.parametrize("filled", [False, True])
def test_a_run_whose_maker_died_is_continued(run: RunRef, filled: bool) -> None:
    """Killed after the id was noted: before anything was written to the run, or after all."""
    record(run, 0)
    if filled:
        publish_rest(run)
        ((run_id,),) = rows(run.run_id, "run_id")
        change = "update trial set published = false where search = %s"
    else:
        run_id = open_child(run, 0)
        change = f"update trial set run_id = '{run_id}' where search = %s"
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(change, (run.run_id,))

    publish_rest(run)

    (child,) = children(run)
    assert (child.info.run_id, child.info.status) == (run_id, "FINISHED")
    assert child.data.metrics["val_rmse"] == 50.0
    history = tracking.client().get_metric_history(run_id, "val_rmse")
    assert len(history) == 1


def test_runs_that_no_row_names_are_deleted(run: RunRef) -> None:
    """Killed between making the run and noting its id."""
    record(run, 0)
    record(run, 1, None)
    for tid in (0, 0, 1):
        open_child(run, tid)

    publish_rest(run)

    (child,) = children(run)
    assert (child.info.status, child.data.tags[tracking.TRIAL]) == ("FINISHED", "0")


def test_a_run_that_is_being_made_is_no_stray(run: RunRef) -> None:
    record(run, 0, None)
    child = open_child(run, 0)
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        key = database.lock_key(f"publish {run.run_id}")
        cursor.execute("select pg_advisory_lock(%s, 0)", (key,))

        publish_rest(run)

    assert [open_run.info.run_id for open_run in children(run)] == [child]


def test_side_by_side_each_trial_is_published_once(run: RunRef) -> None:
    for tid in range(12):
        record(run, tid)
    start = threading.Barrier(3)

    def publish() -> None:
        with closing(database.connect()) as connection:
            publisher = TrialPublisher(run, connection)
            start.wait()
            while publisher.publish_recorded():
                pass

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [int(child.data.tags[tracking.TRIAL]) for child in children(run)] == list(range(12))
    assert all(published for (published,) in rows(run.run_id, "published"))


def test_a_row_that_another_holds_is_waited_for(
    run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.records.trials.publish.OTHERS_LIMIT", 0.5)
    record(run, 0)
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        key = database.lock_key(f"publish {run.run_id}")
        cursor.execute("select pg_advisory_lock(%s, 0)", (key,))

        with pytest.raises(UnavailableError, match="held by another process"):
            publish_rest(run)

    publish_rest(run)
    assert len(children(run)) == 1


def test_a_deleted_child_run_stops_nothing(run: RunRef, caplog: pytest.LogCaptureFixture) -> None:
    deleted = open_child(run, 0)
    tracking.client().delete_run(deleted)
    record(run, 0, run_id=deleted)
    record(run, 1)

    with caplog.at_level(logging.ERROR):
        publish_rest(run)

    assert any("MLflow refuses trial 0" in message for message in caplog.messages)
    assert [int(child.data.tags[tracking.TRIAL]) for child in children(run)] == [1]


def test_search_goes_on_without_mlflow(
    run: RunRef, stack: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.search.slot.PUBLISHING_LIMIT", 1.0)
    stack.stop(["mlflow"])
    try:
        summary = search(slot_of(run))
        with tracking.impatient(), pytest.raises(UnavailableError, match="MLflow does not answer"):
            publish_rest(run)
    finally:
        stack.start_program("mlflow")
    port = int(tracking.settings().tracking_uri.rpartition(":")[2])
    until(lambda: health.web(port), 60, "MLflow is back")

    publish_rest(run)

    assert summary["recorded"] == 12
    assert [child.info.status for child in children(run)] == ["FINISHED"] * 12


def test_impatience_ends_with_the_block() -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT

    before = MLFLOW_HTTP_REQUEST_TIMEOUT.get_raw()
    with tracking.impatient():
        assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 10
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get_raw() == before
