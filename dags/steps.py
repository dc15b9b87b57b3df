"""The callables of the DAGs: each turns a reference into another through a step of `tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetAlias, BaseHook, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from tasks.base import refs
from tasks.pipeline import overrides

Json = dict[str, Any]

CHAMPION = AssetAlias("mlops.champion")
"""Stands for the asset `NAME.champion` in a DAG that serves all pipelines."""


def _dag_run() -> str:
    run = get_current_context()["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def connection(name: str) -> str | None:
    """An Airflow connection as JSON, wherever Airflow stores it."""
    try:
        return str(BaseHook.get_connection(name).as_json())
    except AirflowNotFoundException:
        return None


def _json(reference: refs.Ref) -> Json:
    return reference.model_dump(mode="json")


def prepare(name: str) -> list[dict[str, Json]]:
    """The slots of this run's search; none if nothing has changed since the champion's training."""
    from tasks.finish import sweep
    from tasks.prepare import prepare as work

    context = get_current_context()
    sweep(name, _dag_run())
    prepared = work(name, _dag_run(), overrides.parse(dict(context["params"])), connection)
    if prepared.unchanged is not None:
        context["ti"].xcom_push(
            key="unchanged", value={"version": prepared.unchanged, "reason": prepared.reason}
        )
    return [{"slot": _json(slot)} for slot in prepared.slots]


def search(slot: Json) -> Json:
    """Run trials until none is left."""
    from tasks.search import search as work

    return slot | work(refs.SlotRef(**slot))


def select(slots: list[dict[str, Json]]) -> Json:
    """The best trial of the search."""
    from tasks.select import select as work

    if not slots:
        raise AirflowSkipException("unchanged: the champion was trained on exactly this")
    return _json(work(refs.SlotRef(**slots[0]["slot"]).run))


def evaluate(best: Json) -> Json:
    """The best trial, refitted, tested and registered as the challenger."""
    from tasks.evaluate import evaluate as work

    return _json(work(refs.BestRef(**best)))


def gate(version: Json) -> Json:
    """The verdict on the challenger."""
    from tasks.gate import gate as work

    return _json(work(refs.VersionRef(**version)))


def build(decision: Json) -> Json:
    """The challenger's server, started and tested; skipped if the gate does not promote it."""
    from tasks.build import build as work

    reference = refs.DecisionRef(**decision)
    if not reference.promote:
        raise AirflowSkipException(f"{reference.verdict}: {reference.reason}")
    return _json(work(reference))


def promote(built: Json) -> Json:
    """Make the challenger the champion."""
    from tasks.promote import promote as work

    return built | work(refs.BuildRef(**built), _dag_run())


def register() -> Json:
    """Make a run that was logged by hand a challenger."""
    from tasks.register import register as work

    params = get_current_context()["params"]
    return _json(
        work(params["run_id"], params["name"], snapshot=params["snapshot"], model=params["model"])
    )


def promote_registered(built: Json) -> Json:
    """As `promote`; also triggers `deploy__NAME`, whose asset depends on the form."""
    promoted = promote(built)
    champion = Asset(f"{built['name']}.champion")
    get_current_context()["outlet_events"][CHAMPION].add(champion)
    return promoted


def finish(name: str) -> None:
    """Close this run's MLflow runs, even after a failure."""
    from tasks.finish import finish as work

    context = get_current_context()
    run = context["dag_run"]
    states = context["ti"].get_task_states(dag_id=run.dag_id, run_ids=[run.run_id])[run.run_id]
    failed = {task.partition("_")[0] for task, state in states.items() if "failed" in str(state)}
    # A failed slot does no harm if another slot took over and `select` had all trials.
    if str(states.get("select")) == "success":
        failed.discard("search")
    work(name, _dag_run(), failed=bool(failed))


def reconcile(name: str) -> Json:
    """Serve the champion."""
    from tasks.deploy import reconcile as work

    return work(name, _dag_run())


def remove_old_logs() -> int:
    """Delete old task logs; returns their number."""
    from airflow.configuration import conf

    from tasks.base.settings import settings
    from tasks.housekeeping import remove_old_files

    folder = Path(conf.get_mandatory_value("logging", "base_log_folder"))
    return remove_old_files(folder, settings().log_days)
