"""A search's records: its rows in the trial table and its child runs in MLflow."""

from __future__ import annotations

from tasks.clients import database, tracking


def rows(search: str) -> dict[int, tuple]:
    """The recorded trials of a search: number -> what was recorded."""
    connection = database.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select tid, vals, outcome, loss, attempts, began_at, ended_at from trial"
                " where search = %s and outcome is not null",
                (search,),
            )
            return {row[0]: row[1:] for row in cursor.fetchall()}
    finally:
        connection.close()


def assert_published_once(name: str, search: str, trials: int) -> None:
    """Each trial has exactly one child run, which has ended; there are no other child runs."""
    children = tracking.client().search_runs(
        [tracking.experiment(name)], f"tags.`{tracking.PARENT}` = '{search}'", max_results=1000
    )
    assert sorted(int(r.data.tags[tracking.TRIAL]) for r in children) == list(range(trials))
    assert {r.info.status for r in children} <= {"FINISHED", "FAILED", "KILLED"}
    assert tracking.client().get_run(search).info.status == "FINISHED"
