"""A pipeline with versions made to order, on real MLflow, store and PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from tasks.base.refs import DecisionRef, VersionRef
from tasks.clients import store, tracking
from tasks.data import units
from tasks.pipeline.schema import Column, Data, Gate, Metric, Pipeline, Search, Source, Split
from tasks.records import ledger, resolved
from tasks.records.snapshots import UNIT, Dropped, Manifest, Units, write_manifest, write_part

RULES = Gate(resamples=500)


@dataclass
class World:
    """A pipeline and its versions."""

    name: str
    task: Any = "regression"
    metric: Metric = field(default_factory=lambda: Metric(name="rmse", direction="minimize"))
    columns: tuple[str, ...] = ("x1", "x2")
    groups: tuple[str, ...] = ()
    rules: Gate = RULES
    integers: tuple[str, ...] = ()
    """Those of `columns` that hold integers or nulls."""
    smoke_test: dict[str, Any] | None = None

    @property
    def pipeline(self) -> Pipeline:
        names = (*self.columns, *self.groups, "y")
        columns = {name: Column() for name in names} | {
            name: Column(type="integer", nullable=True) for name in self.integers
        }
        return Pipeline(
            name=self.name,
            description="d",
            owner="o",
            data=Data(
                sources=(Source(uri="file:///none.csv"),),
                target="y",
                task=self.task,
                columns=columns,
            ),
            split=Split(groups=self.groups),
            search=Search(space={}),
            metric=self.metric,
            gate=self.rules,
        )

    def snapshot(self, **parts: pd.DataFrame) -> Manifest:
        """A snapshot of these parts."""
        pipeline, folder = self.pipeline, store.data_uri(f"snapshots/{self.name}/{uuid4().hex}")
        columns = self.groups or tuple(sorted(self.columns))
        manifest = Manifest(
            name=self.name,
            address=uuid4().hex,
            uri=f"{folder}/manifest.json",
            created_at=datetime.now(tz=UTC),
            target="y",
            task=self.task,
            columns=pipeline.data.columns,
            features=pipeline.feature_names,
            units=Units(kind="groups" if self.groups else "row", columns=columns),
            split=pipeline.split,
            parts={part: f"{folder}/{part}.parquet" for part in parts},
            files={
                part: write_part(
                    f"{folder}/{part}.parquet",
                    rows.assign(**{UNIT: units.hashes(rows, columns)}),
                    pipeline.data,
                )
                for part, rows in parts.items()
            },
            statistics={},
            sources=(),
            function=None,
            dropped=Dropped(rows=0, report=None),
        )
        write_manifest(manifest)
        return manifest

    def version(self, model: Any, manifest: Manifest) -> VersionRef:
        """A version of a fitted model, which becomes the challenger."""
        client, plan_uri = tracking.client(), resolved.write(self.pipeline)
        run = client.create_run(
            tracking.experiment(self.name), tags={tracking.DAG_RUN: f"train/{uuid4().hex}"}
        )
        mlflow.start_run(run.info.run_id)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=["numpy.dtype"],
            pip_requirements=["scikit-learn"],
            metadata={"smoke_test": self.smoke_test} if self.smoke_test else None,
        )
        mlflow.end_run("RUNNING")
        if not client.search_registered_models(f"name = '{self.name}'"):
            client.create_registered_model(self.name)
        registered = client.create_model_version(
            self.name,
            logged.model_uri,
            run.info.run_id,
            tags={tracking.SNAPSHOT: manifest.uri},
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(self.name, tracking.CHALLENGER, registered.version)
        return VersionRef(
            name=self.name,
            run_id=run.info.run_id,
            pipeline_uri=plan_uri,
            snapshot_uri=manifest.uri,
            version=int(registered.version),
        )

    def champion(self, model: Any, manifest: Manifest) -> VersionRef:
        """A version that is champion."""
        version = self.version(model, manifest)
        alias(self.name, version.version)
        return version

    def decision(self, ref: DecisionRef) -> dict[str, Any]:
        """The evidence of a decision in the ledger."""
        entry = ledger.find(f"decision:{ref.run_id}")
        assert entry is not None
        return entry.evidence


def alias(name: str, version: int) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, str(version))


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    """y = 2 x1 + noise; x2 is irrelevant."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=(2, count))
    return pd.DataFrame({"x1": x1, "x2": x2, "y": 2 * x1 + rng.normal(size=count)})


def good(columns: tuple[str, ...] = ("x1", "x2")) -> LinearRegression:
    table = rows(500, seed=9)
    return LinearRegression().fit(
        table.assign(**dict.fromkeys(columns[2:], 0.0))[list(columns)], table["y"]
    )


def bad(shrunk: float = 0.5) -> LinearRegression:
    model = good()
    model.coef_ = model.coef_ * shrunk
    return model
