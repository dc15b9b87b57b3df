"""Errors of the workflow's search on unseen wines, from UCI's wine quality.

Five shuffled folds, with equal wines in the same fold. The champion is tuned for each fold on the
four others (nested), with the workflow's asker, trials, folds and refit. For comparison:
scikit-learn's default, and a support vector machine as in Cortez et al. 2009, the latter also on
folds where equal wines may be on both sides.

`python -m benchmarks.wine [red] [white]`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from benchmarks import machine
from tasks.base.settings import REPOSITORY
from tasks.data import units
from tasks.models import fitting
from tasks.models.fitting import Rows
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.snapshots import UNIT
from tasks.records.trials.seeds import trial_seed
from tasks.records.trials.table import Row
from tasks.search import trial
from tasks.search.ask import Asker, History

DATA = REPOSITORY / "tests" / "data"
FOLDS, TRIALS, THREADS = 5, 16, 1
SPACE: dict[str, Any] = {
    "estimator": "extra_trees",
    "max_features": {"uniform": [0.2, 1]},
    "min_samples_leaf": {"uniformint": [1, 5]},
    "bootstrap": {"choice": [False, True]},
}
GAMMAS = (0.1, 0.25, 0.5, 1.0)
Predictor = Callable[[pd.DataFrame, pd.DataFrame], Any]
"""From the rows to train on and the rows to predict to predictions, `(rows,)`."""
Splits = list[tuple[Any, Any]]


def wine_pipeline(columns: list[str]) -> Pipeline:
    """The shipped pipeline for one color, with the metric mae and rounded scores."""
    content = yaml.safe_load((REPOSITORY / "pipelines" / "wine_quality.yaml").read_text())
    content["name"] = "wine"
    content |= {"metric": {"name": "mae", "direction": "minimize"}, "rounded": True}
    content["data"]["columns"] = {
        name: rule for name, rule in content["data"]["columns"].items() if name in columns
    }
    content["search"] |= {"trials": TRIALS, "space": SPACE, "resampling": {"folds": FOLDS}}
    content["split"] = {"validation": 0}
    return Pipeline.model_validate(content)


def champion(pipeline: Pipeline, chosen: list[dict[str, Any]]) -> Predictor:
    """Tune on the rows to train on; the chosen parameters are appended to `chosen`."""

    def predict(train: pd.DataFrame, others: pd.DataFrame) -> Any:
        hashed = train.assign(**{UNIT: units.hashes(train, pipeline.feature_names)})
        halves = trial.folds(hashed, FOLDS, pipeline.search.seed)
        rows = tuple(
            (Rows.from_part(pipeline, fit), Rows.from_part(pipeline, held_out))
            for fit, held_out in halves
        )
        objective = trial.Objective(pipeline, rows, THREADS)
        asker, history = Asker(pipeline), History()
        for tid in range(TRIALS):
            vals = asker.ask(tid, history)
            params = space.evaluate(asker.node, vals)
            result = trial.attempt(objective, params, trial_seed(pipeline.search.seed, tid))
            row = Row(tid, vals, result["outcome"], result["loss"], result["figure"], 0.0, 0)
            history.update([row])
        best = history.best()
        assert best is not None
        params = space.evaluate(asker.node, best.vals)
        chosen.append(params)
        seed = trial_seed(pipeline.search.seed, best.tid)
        fitted = fitting.refit(
            pipeline, params, Rows.from_part(pipeline, train), {}, seed=seed, threads=THREADS
        )
        return fitted.predict(others[list(pipeline.feature_names)])

    return predict


def untuned(pipeline: Pipeline, make: Callable[[], Any]) -> Predictor:
    """An estimator without tuning."""
    features, target = list(pipeline.feature_names), pipeline.data.target
    return lambda train, others: (
        make().fit(train[features], train[target]).predict(others[features])
    )


def support_vectors(gamma: float) -> Callable[[], Any]:
    """As in Cortez et al.: a Gaussian kernel, C = 3."""
    return lambda: make_pipeline(StandardScaler(), SVR(C=3, gamma=gamma))


def score(
    table: pd.DataFrame, truth: NDArray[Any], folds: Splits, predict: Predictor
) -> list[float]:
    """MAE, MAE of the rounded predictions, RMSE, seconds."""
    began, predicted = time.perf_counter(), np.empty(len(table))
    for train, others in folds:
        predicted[others] = predict(table.iloc[train], table.iloc[others])
    errors, rounded = predicted - truth, np.rint(predicted) - truth
    root = np.sqrt(np.mean(errors**2))
    return [np.abs(errors).mean(), np.abs(rounded).mean(), root, time.perf_counter() - began]


def main() -> None:
    """Print the tables."""
    print(f"{machine.describe()}\n")
    print("| | folds | MAE | MAE of whole scores | RMSE | seconds |")
    print("|---|---|---:|---:|---:|---:|")
    for color in sys.argv[1:] or ("red", "white"):
        table = pd.read_csv(DATA / f"winequality-{color}.csv", sep=";")
        pipeline, chosen = wine_pipeline(list(table)), []
        truth = table[pipeline.data.target].to_numpy(float)
        wines = units.hashes(table, pipeline.feature_names)
        grouped = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(table, groups=wines))
        leaking = list(KFold(FOLDS, shuffle=True, random_state=0).split(table))
        gamma = min(
            GAMMAS,
            key=lambda value: score(
                table, truth, leaking, untuned(pipeline, support_vectors(value))
            )[0],
        )
        svm = untuned(pipeline, support_vectors(gamma))
        trees = untuned(pipeline, lambda: ExtraTreesRegressor(random_state=0, n_jobs=THREADS))
        for name, folds, predict in (
            ("champion", grouped, champion(pipeline, chosen)),
            ("default ExtraTrees", grouped, trees),
            (f"SVM, gamma {gamma:g}", grouped, svm),
            (f"SVM, gamma {gamma:g}", leaking, svm),
        ):
            mae, whole, root, seconds = score(table, truth, folds, predict)
            how = "grouped" if folds is grouped else "leaking"
            print(
                f"| {color}, {name} | {how} | {mae:.3f} | {whole:.3f} | {root:.3f} |"
                f" {seconds:.0f} |",
                flush=True,
            )
        print(f"{color}: {chosen}", file=sys.stderr)


if __name__ == "__main__":
    main()
