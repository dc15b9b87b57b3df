"""Links from a task's page in Airflow to its results: MLflow run, model version, endpoint.

Airflow computes them when the task ends and stores them: each try has its own links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from tasks.base.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def _reference(operator: BaseOperator) -> dict[str, Any]:
    """The reference that the task returned; of several slots, the first."""
    reference = getattr(operator, "reference", None) or {}
    if isinstance(reference, list):
        reference = reference[0]["slot"] if reference else {}
    return dict(reference)


class RunLink(BaseOperatorLink):
    """The DAG run's parent run in MLflow."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The run's page; empty if there is no run."""
        run_id = _reference(operator).get("run_id")
        return f"{settings().tracking_page}/#/runs/{run_id}" if run_id else ""


class VersionLink(BaseOperatorLink):
    """The registered model version."""

    name = "Model version"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The version's page in the registry; empty if there is no version."""
        reference = _reference(operator)
        name, version = reference.get("name"), reference.get("version")
        if not (name and version):
            return ""
        return f"{settings().tracking_page}/#/models/{name}/versions/{version}"


class EndpointLink(BaseOperatorLink):
    """The endpoint that serves the model."""

    name = "Endpoint"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The version that the endpoint serves; empty if the task returned nothing."""
        name = _reference(operator).get("name")
        return f"{settings().gateway_url}/models/{name}/version" if name else ""


class MlopsPlugin(AirflowPlugin):
    """Registers the links with Airflow."""

    name = "mlops"
    operator_extra_links = [RunLink(), VersionLink(), EndpointLink()]  # noqa: RUF012
