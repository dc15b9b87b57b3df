"""The model registry: aliases, and the stage tag that is derived from them and the decision."""

from __future__ import annotations

from typing import Literal

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from tasks.base.refs import VersionRef
from tasks.clients import tracking

Stage = Literal["None", "Staging", "Production", "Archived"]

PASSED = "mlops.passed"
"""Tag of a version: `true` if it may become champion; `dry_run` and `disabled` pass any verdict."""


def aliases(name: str) -> dict[str, int]:
    """Each alias of the registered model with its version; empty when there is no such model."""
    try:
        found = tracking.client().get_registered_model(name).aliases
    except MlflowException as err:
        if _is_missing(err):
            return {}
        raise
    return {alias: int(version) for alias, version in found.items()}


def versions(name: str) -> dict[int, ModelVersion]:
    """Every version by its number, newest first; their own `aliases` are empty: ask `aliases`."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = tracking.client().search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return {int(v.version): v for v in sorted(found, key=lambda v: -int(v.version))}


def version(name: str, number: int) -> ModelVersion | None:
    """One version, if it is there."""
    try:
        return tracking.client().get_model_version(name, str(number))
    except MlflowException as err:
        if _is_missing(err):
            return None
        raise


def stage(number: int, marks: dict[str, int], passed: bool | None) -> Stage:
    """MLflow's stage word for a version.

    Args:
        number: The version.
        marks: The registered model's aliases.
        passed: Whether it may become champion; None before the gate.
    """
    if marks.get(tracking.CHAMPION) == number:
        return "Production"
    if passed is None:
        return "Archived" if marks.get(tracking.PREVIOUS) == number else "None"
    if passed and marks.get(tracking.CHALLENGER) == number:
        return "Staging"
    return "Archived"


def passed(entry: ModelVersion) -> bool | None:
    """Whether the version may become champion; None before the gate."""
    mark = entry.tags.get(PASSED)
    return None if mark is None else mark == "true"


def rejected(entry: ModelVersion) -> bool:
    """Whether the version was judged and turned down for good."""
    return entry.tags.get(tracking.VERDICT) == "reject" and passed(entry) is not True


def restage(name: str) -> None:
    """Write the stage tag of every version whose tag is not what it should be."""
    marks = aliases(name)
    for number, entry in versions(name).items():
        due = stage(number, marks, passed(entry))
        if entry.tags.get(tracking.STAGE) != due:
            tracking.client().set_model_version_tag(name, str(number), tracking.STAGE, due)


def judge(name: str, number: int, verdict: str, *, may_promote: bool) -> None:
    """Put a verdict on a version, and the stages that follow from it."""
    client = tracking.client()
    client.set_model_version_tag(name, str(number), tracking.VERDICT, verdict)
    client.set_model_version_tag(name, str(number), PASSED, str(may_promote).lower())
    restage(name)


def reject(ref: VersionRef) -> None:
    """Turn down a version after the gate: its server did not start or failed the smoke test."""
    judge(ref.name, ref.version, "reject", may_promote=False)


def _is_missing(err: MlflowException) -> bool:
    return bool(err.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))
