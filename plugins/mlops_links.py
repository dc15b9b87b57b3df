"""Links from a task's page in Airflow to what it made: MLflow run, model version, endpoint.

Airflow asks for them when the task ends and keeps the answer: a link shows what that try made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from tasks.base.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


def _made(operator: BaseOperator) -> dict[str, Any]:
    """The reference that the task returned; of several slots, the first."""
    reference = getattr(operator, "reference", None) or {}
    if isinstance(reference, list):
        reference = reference[0]["slot"] if reference else {}
    return dict(reference)


class RunLink(BaseOperatorLink):
    """The DAG run's parent run in MLflow."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The run's page, or nothing where no run was made."""
        run = _made(operator).get("run_id")
        return f"{settings().tracking_page}/#/runs/{run}" if run else ""


class VersionLink(BaseOperatorLink):
    """The registered model version."""

    name = "Model version"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The version's page in the registry."""
        made = _made(operator)
        if not made.get("version"):
            return ""
        return f"{settings().tracking_page}/#/models/{made['name']}/versions/{made['version']}"


class EndpointLink(BaseOperatorLink):
    """Where the model is served."""

    name = "Endpoint"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The endpoint's version page, behind the gateway."""
        made = _made(operator)
        return f"{settings().gateway_url}/models/{made['name']}/version" if "name" in made else ""


class MlopsPlugin(AirflowPlugin):
    """Makes the links known to the UI."""

    name = "mlops"
    operator_extra_links = [RunLink(), VersionLink(), EndpointLink()]  # noqa: RUF012
