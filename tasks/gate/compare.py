"""Compares two models on the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.gate import bootstrap, drawn
from tasks.gate.bootstrap import Improvement, NoValueError
from tasks.gate.contenders import IncomparableError, Trained
from tasks.models.metrics import Outcome
from tasks.pipeline.metrics import of_task
from tasks.pipeline.schema import Gate, Pipeline
from tasks.records.snapshots import UNIT, Manifest


def check_same_question(challenger: Manifest, champion: Trained) -> None:
    """Check that both predict the same target.

    Raises:
        IncomparableError: They do not.
    """
    other = champion.manifest
    if (challenger.target, challenger.task) != (other.target, other.task):
        raise IncomparableError(
            f"Version {champion.version} predicts {other.target} ({other.task}), the challenger "
            f"{challenger.target} ({challenger.task})."
        )


def improvement(  # noqa: PLR0913 - two models, the rows and the method
    metric: str,
    challenger: Outcome,
    opponent: Outcome,
    rows: pd.DataFrame,
    pipeline: Pipeline,
    *,
    gate: Gate,
    trained: int,
) -> Improvement:
    """How much better the challenger's predictions are on these rows; see `bootstrap.improvement`.

    Raises:
        IncomparableError: A class is too rare in these rows for the metric.
    """
    names, unit_of_row = np.unique(rows[UNIT].to_numpy(), return_inverse=True)
    try:
        return bootstrap.improvement(
            drawn.statistic(metric, challenger, unit_of_row),
            drawn.statistic(metric, opponent, unit_of_row),
            len(names),
            of_task(pipeline.data.task)[metric],
            gate,
            trained=trained,
        )
    except NoValueError as err:
        units = rows.groupby(pipeline.data.target)[UNIT].nunique()
        raise IncomparableError(
            f"These rows have too few units of class {units.idxmin()} ({units.min()}) to compare "
            f"the {metric}: {err}."
        ) from err
