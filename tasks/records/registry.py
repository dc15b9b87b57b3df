"""The model registry: versions, their aliases, and the stage tag derived from both."""

from __future__ import annotations

from typing import Literal

from mlflow.entities.model_registry import ModelVersion

from tasks.base.errors import UserError
from tasks.base.refs import VersionRef
from tasks.clients import tracking

Stage = Literal["None", "Staging", "Production", "Archived"]

PASSED = "mlops.passed"
"""Tag of a version: `true` if it may become champion; `dry_run` and `disabled` pass any verdict."""


def aliases(name: str) -> dict[str, int]:
    """Each alias of the registered model with its version; empty if there is no such model."""
    model = tracking.existing(tracking.client().get_registered_model, name)
    return {} if model is None else {alias: int(v) for alias, v in model.aliases.items()}


def versions(name: str) -> dict[int, ModelVersion]:
    """Every version by its number, newest first. Their `aliases` are empty: use `aliases`."""
    entries = tracking.every(tracking.client().search_model_versions, f"name = '{name}'")
    return {int(v.version): v for v in sorted(entries, key=lambda v: -int(v.version))}


def version(name: str, number: int) -> ModelVersion | None:
    """One version, if it exists."""
    return tracking.existing(tracking.client().get_model_version, name, str(number))


def registered(name: str, run_id: str) -> ModelVersion | None:
    """The newest version that was made from the run."""
    query = f"name = '{name}' and run_id = '{run_id}'"
    entries = tracking.client().search_model_versions(query)
    return max(entries, key=lambda entry: int(entry.version), default=None)


def register(
    name: str, run_id: str, model_uri: str, *, description: str, tags: dict[str, str]
) -> ModelVersion:
    """Make the run's logged model a version; a version that the run already has gets the tags.

    Args:
        name: The registered model, made if it does not exist.
        run_id: The run that logged the model.
        model_uri: `models:/` and the logged model's id.
        description: Of the model and the version.
        tags: Of the version. On an existing version they are set in this order.

    Raises:
        UserError: MLflow did not accept the version.
    """
    client, entry = tracking.client(), registered(name, run_id)
    if entry is None:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=description)
        entry = client.create_model_version(
            name,
            source=model_uri,
            run_id=run_id,
            description=description,
            tags=tags,
            model_id=model_uri.removeprefix("models:/"),
        )
    else:
        for key, value in tags.items():
            client.set_model_version_tag(name, entry.version, key, value)
    if entry.status != "READY":
        raise UserError(f"MLflow did not accept the version: {entry.status_message}")
    return entry


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
    """Whether the version was judged and rejected for good."""
    return entry.tags.get(tracking.VERDICT) == "reject" and passed(entry) is not True


def restage(name: str) -> None:
    """Correct the stage tag of every version."""
    marks = aliases(name)
    for number, entry in versions(name).items():
        due = stage(number, marks, passed(entry))
        if entry.tags.get(tracking.STAGE) != due:
            tracking.client().set_model_version_tag(name, str(number), tracking.STAGE, due)


def judge(name: str, number: int, verdict: str, *, may_promote: bool) -> None:
    """Put a verdict on a version, and update the stages."""
    client = tracking.client()
    client.set_model_version_tag(name, str(number), tracking.VERDICT, verdict)
    client.set_model_version_tag(name, str(number), PASSED, str(may_promote).lower())
    restage(name)


def reject(ref: VersionRef) -> None:
    """Reject a version after the gate: its server did not start or failed the smoke test."""
    judge(ref.name, ref.version, "reject", may_promote=False)
