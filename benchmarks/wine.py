"""What the workflow's search reaches on wines that it has not seen: errors on UCI's wine quality.

Five folds, shuffled, in which equal wines are in one fold. The champion is tuned again for each of
them on the four others alone (nested): the workflow's asker, trials and folds, then its refit.
Beside it, scikit-learn's default, and a support vector machine as in Cortez et al. 2009, also on
folds that let equal wines be on both sides.

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
from tasks.search import trial
from tasks.search.ask import Asker, History
from tasks.search.table import Row

DATA = REPOSITORY / "tests" / "data"
FOLDS, TRIALS, THREADS = 5, 16, 1
SPACE: dict[str, Any] = {
    "estimator": "extra_trees",
    "max_features": {"uniform": [0.2, 1]},
    "min_samples_leaf": {"uniformint": [1, 5]},
    "bootstrap": {"choice": [False, True]},
}
GAMMAS = (0.1, 0.25, 0.5, 1.0)
Answer = Callable[[pd.DataFrame, pd.DataFrame], Any]
"""From the rows to train on and those to answer for, to the answers, `(rows,)`."""
Halves = list[tuple[Any, Any]]


def of_wine(columns: list[str]) -> Pipeline:
    """The shipped pipeline on one colour, for the metric mae and so with whole scores."""
    content = yaml.safe_load((REPOSITORY / "pipelines" / "wine_quality.yaml").read_text())
    content["name"] = "wine"
    content |= {"metric": {"name": "mae", "direction": "minimize"}, "rounded": True}
    content["data"]["columns"] = {
        name: rule for name, rule in content["data"]["columns"].items() if name in columns
    }
    content["search"] |= {"trials": TRIALS, "space": SPACE, "resampling": {"folds": FOLDS}}
    content["split"] = {"validation": 0}
    return Pipeline.model_validate(content)


def champion(of: Pipeline, chosen: list[dict[str, Any]]) -> Answer:
    """Tunes on the rows to train on; what it chose goes to `chosen`."""

    def answer(train: pd.DataFrame, others: pd.DataFrame) -> Any:
        hashed = train.assign(**{UNIT: units.hashes(train, of.feature_names)})
        halves = trial.folds(hashed, FOLDS, of.search.seed)
        rows = tuple((Rows.from_part(of, fit), Rows.from_part(of, score)) for fit, score in halves)
        objective = trial.Objective(of, rows, THREADS)
        asker, history = Asker(of), History()
        for tid in range(TRIALS):
            vals = asker.ask(tid, history)
            params = space.evaluate(asker.node, vals)
            found = trial.attempt(objective, params, trial_seed(of.search.seed, tid))
            row = Row(tid, vals, found["outcome"], found["loss"], found["figure"], 0)
            history.update([row])
        best = history.best()
        assert best is not None
        params = space.evaluate(asker.node, best.vals)
        chosen.append(params)
        seed = trial_seed(of.search.seed, best.tid)
        fitted = fitting.refit(
            of, params, Rows.from_part(of, train), {}, seed=seed, threads=THREADS
        )
        return fitted.predict(others[list(of.feature_names)])

    return answer


def plain(of: Pipeline, make: Callable[[], Any]) -> Answer:
    """An estimator as it is."""
    features, target = list(of.feature_names), of.data.target
    return lambda train, others: (
        make().fit(train[features], train[target]).predict(others[features])
    )


def support_vectors(gamma: float) -> Callable[[], Any]:
    """As in Cortez et al.: a Gaussian kernel, C = 3."""
    return lambda: make_pipeline(StandardScaler(), SVR(C=3, gamma=gamma))


def scored(table: pd.DataFrame, truth: NDArray[Any], folds: Halves, answer: Answer) -> list[float]:
    """MAE, MAE of the answers as whole scores, RMSE, seconds."""
    began, found = time.perf_counter(), np.empty(len(table))
    for train, others in folds:
        found[others] = answer(table.iloc[train], table.iloc[others])
    errors, rounded = found - truth, np.rint(found) - truth
    root = np.sqrt(np.mean(errors**2))
    return [np.abs(errors).mean(), np.abs(rounded).mean(), root, time.perf_counter() - began]


def main() -> None:
    """Print the tables."""
    print(f"{machine.describe()}\n")
    print("| | folds | MAE | MAE of whole scores | RMSE | seconds |")
    print("|---|---|---:|---:|---:|---:|")
    for color in sys.argv[1:] or ("red", "white"):
        table = pd.read_csv(DATA / f"winequality-{color}.csv", sep=";")
        of, chosen = of_wine(list(table)), []
        truth = table[of.data.target].to_numpy(float)
        wines = units.hashes(table, of.feature_names)
        grouped = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(table, groups=wines))
        leaking = list(KFold(FOLDS, shuffle=True, random_state=0).split(table))
        gamma = min(
            GAMMAS,
            key=lambda one: scored(table, truth, leaking, plain(of, support_vectors(one)))[0],
        )
        svm = plain(of, support_vectors(gamma))
        trees = plain(of, lambda: ExtraTreesRegressor(random_state=0, n_jobs=THREADS))
        for name, folds, answer in (
            ("champion", grouped, champion(of, chosen)),
            ("default ExtraTrees", grouped, trees),
            (f"SVM, gamma {gamma:g}", grouped, svm),
            (f"SVM, gamma {gamma:g}", leaking, svm),
        ):
            mae, whole, root, seconds = scored(table, truth, folds, answer)
            how = "grouped" if folds is grouped else "leaking"
            print(
                f"| {color}, {name} | {how} | {mae:.3f} | {whole:.3f} | {root:.3f} |"
                f" {seconds:.0f} |",
                flush=True,
            )
        print(f"{color}: {chosen}", file=sys.stderr)


if __name__ == "__main__":
    main()
