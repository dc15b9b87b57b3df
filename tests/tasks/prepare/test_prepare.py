"""`prepare` on real servers, from a pipeline file to snapshot, parent run and slots."""

from __future__ import annotations

import csv
import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tasks.base.errors import UserError
from tasks.base.settings import settings
from tasks.cli import application
from tasks.clients import store, tracking
from tasks.data import units
from tasks.data.sources import Fetched
from tasks.pipeline.overrides import Overrides
from tasks.pipeline.schema import Data
from tasks.prepare import Prepared, prepare, rows
from tasks.records import resolved
from tasks.records.snapshots import UNIT, Manifest, read_manifest, read_part

pytestmark = pytest.mark.usefixtures("servers")

NONE = Overrides()


class Project:
    """A pipeline file with its own name and one CSV source; tests change both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"p_{uuid4().hex[:8]}"
        rng = np.random.default_rng(0)
        self.table = pd.DataFrame(
            {
                "a": rng.standard_normal(200).round(6),
                "count": rng.integers(0, 9, 200),
                "color": rng.choice(["red", "white"], 200),
                "y": rng.standard_normal(200),
            }
        )
        self.body: dict[str, Any] = {
            "description": "a test",
            "owner": "tests",
            "data": {
                "sources": [{"uri": f"file://{self.name}.csv"}],
                "target": "y",
                "task": "regression",
                "columns": {
                    "a": {"type": "double", "min": -10},
                    "count": {"type": "integer"},
                    "color": {"type": "category"},
                    "y": {"type": "double"},
                },
            },
            "split": {"test": 0.25, "validation": 0.25},
            "search": {"trials": 3, "slots": 2, "space": {"estimator": "linear"}},
            "metric": {"name": "rmse", "direction": "minimize"},
        }

    def write(self) -> None:
        self.table.to_csv(self.folder / f"{self.name}.csv", index=False)
        (self.folder / f"{self.name}.yaml").write_text(yaml.safe_dump(self.body, sort_keys=False))

    def prepare(self, dag_run: str | None = None, overrides: Overrides = NONE) -> Prepared:
        self.write()
        return prepare(self.name, dag_run or f"train__{self.name}/{uuid4().hex}", overrides)

    def manifest(self, overrides: Overrides = NONE) -> Manifest:
        return read_manifest(self.prepare(overrides=overrides).slots[0].snapshot_uri)

    def refused(self) -> UserError:
        """The error; nothing half-made must be left."""
        with pytest.raises(UserError) as err:
            self.prepare()
        assert list(store.keys(store.data_uri(f"snapshots/{self.name}/"))) == []
        runs = tracking.client().search_runs([tracking.experiment(self.name)])
        assert runs == []
        return err.value


@pytest.fixture
def project(pipelines: Path) -> Project:
    return Project(pipelines)


def test_a_pipeline_becomes_a_snapshot_a_parent_run_and_slots(project: Project) -> None:
    dag_run = f"train__{project.name}/manual__1"
    prepared = project.prepare(dag_run)
    assert [slot.slot for slot in prepared.slots] == [0, 1]
    assert prepared.unchanged is None
    first = prepared.slots[0]
    assert Prepared.model_validate(json.loads(prepared.model_dump_json())) == prepared

    run = tracking.client().get_run(first.run_id)
    assert run.info.run_name == "manual__1"
    assert run.info.status == "RUNNING"
    assert run.data.tags["snapshot"] == first.snapshot_uri
    assert run.data.tags[tracking.DAG_RUN] == dag_run
    assert resolved.read(first.pipeline_uri).name == project.name

    manifest = read_manifest(first.snapshot_uri)
    assert set(manifest.parts) == {"train", "validation", "test"}
    assert sum(part.rows for part in manifest.files.values()) == 200
    parts = {name: read_part(manifest, name) for name in manifest.parts}
    for name, part in parts.items():
        assert [*part.columns] == ["a", "count", "color", "y", UNIT]
        assert [str(kind) for kind in part.dtypes] == [*["float64"] * 2, "str", "float64", "int64"]
        assert len(part) == manifest.files[name].rows
        # The file's order: the rows of a part come in the order of the source.
        order = project.table.reset_index().merge(part, on=["a", "count", "color", "y"])["index"]
        assert order.is_monotonic_increasing
    assert manifest.units.columns == ("a", "color", "count")
    train = parts["train"]
    assert train[UNIT].tolist() == units.hashes(train, manifest.units.columns).tolist()

    assert project.prepare(dag_run) == prepared


def test_statistics_are_those_of_the_training_part(project: Project) -> None:
    manifest = project.manifest()
    train = read_part(manifest, "train")
    figures = manifest.statistics["a"]
    assert figures.kind == "numbers"
    assert figures.mean == pytest.approx(train["a"].mean())
    assert (figures.count, figures.nulls) == (len(train), 0)
    assert (figures.min, figures.median, figures.max) == (
        train["a"].min(),
        train["a"].median(),
        train["a"].max(),
    )
    colors = manifest.statistics["color"]
    assert colors.kind == "categories"
    assert colors.counts == train["color"].value_counts().to_dict()


def test_the_same_inputs_are_the_same_snapshot_without_reading_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project.manifest()
    reads: list[str] = []
    read = rows.pieces

    def counted(source: Fetched, data: Data) -> Iterator[tuple[str, pd.DataFrame]]:
        reads.append(source.source.uri)
        return read(source, data)

    monkeypatch.setattr(rows, "pieces", counted)
    project.body["description"] = "in other words"
    project.body["search"]["trials"] = 5
    assert project.manifest() == first
    assert reads == []
    project.table.loc[0, "a"] = 0.5
    assert project.manifest() != first
    assert reads == [f"file://{project.name}.csv"]


def test_the_address_changes_with_what_decides_the_rows(project: Project) -> None:
    (project.folder / "own.py").write_text("def f(tables):\n    return tables[0]\n")
    seen = [project.manifest().address]

    def changed() -> bool:
        seen.append(project.manifest().address)
        return seen[-1] not in seen[:-1]

    project.table.loc[0, "a"] = 0.5
    assert changed()
    project.body["split"]["seed"] = 1
    assert changed()
    project.body["data"]["columns"]["a"]["min"] = -11
    assert changed()
    project.body["data"]["prepare"] = "own:f"
    assert changed()
    (project.folder / "own.py").write_text("def f(tables):\n    return tables[0][::-1]\n")
    assert changed()
    project.body["data"]["columns"]["site"] = {"type": "category"}
    project.body["data"]["sources"][0]["constants"] = {"site": "north"}
    assert changed()


def test_a_snapshot_is_complete_or_does_not_exist(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the manifest is written; the next attempt makes the same snapshot."""

    def killed(_: Manifest) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.prepare.make.write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            project.prepare()
    left = {
        uri: store.get_bytes(uri) for uri in store.keys(store.data_uri(f"snapshots/{project.name}"))
    }
    assert len(left) == 3
    manifest = project.manifest()
    assert set(manifest.parts.values()) == set(left)
    assert all(store.get_bytes(uri) == body for uri, body in left.items())


def test_rows_added_and_moved_change_no_units_part(project: Project) -> None:
    before = project.manifest()
    more = project.table.assign(a=project.table["a"] + 1)
    project.table = pd.concat([project.table, more]).sample(frac=1, random_state=1)
    after = project.manifest()
    for part in ("train", "validation", "test"):
        old, new = (set(read_part(manifest, part)[UNIT]) for manifest in (before, after))
        assert old < new


def test_groups_stay_together(project: Project) -> None:
    project.body["data"]["columns"]["patient"] = {"type": "category"}
    project.body["split"]["groups"] = ["patient"]
    project.table["patient"] = np.arange(200) // 5
    manifest = project.manifest()
    patients = [set(read_part(manifest, part)["patient"]) for part in manifest.parts]
    assert sum(len(part) for part in patients) == len(set().union(*patients)) == 40
    assert manifest.features == ("a", "count", "color")
    assert manifest.units.model_dump() == {"kind": "groups", "columns": ("patient",)}
    assert sum(part.units for part in manifest.files.values()) == 40


def test_a_part_without_rows_reads_as_an_empty_table(project: Project) -> None:
    project.body["split"] = {"test": 0.3, "validation": 0}
    project.body["search"]["resampling"] = {"folds": 3}
    manifest = project.manifest()
    assert set(manifest.parts) == {"train", "test"}
    empty, train = read_part(manifest, "validation"), read_part(manifest, "train")
    assert empty.dtypes.to_dict() == train.dtypes.to_dict()
    assert len(empty) == 0


def test_bad_rows_are_refused_with_their_report(project: Project) -> None:
    project.table["a"] = project.table["a"].astype(object)
    project.table.loc[3, "a"] = "many"
    project.table.loc[[5, 6], "a"] = -11
    err = project.refused()
    assert err.what == "3 of 200 rows break the rules of the table."
    assert "a must be at least -10: 2 rows" in err.why
    assert "row 4: a is many" in err.why
    command = err.fix.splitlines()[0].removeprefix("List them: ./mlops ")
    shown = CliRunner().invoke(application(), command.split())
    report = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert [(line["row"], line["value"]) for line in report] == [
        ("4", "many"),
        ("6", "-11"),
        ("7", "-11"),
    ]


def test_bad_rows_are_dropped_if_the_file_says_so(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project.body["data"]["bad_rows"] = "drop"
    project.table.loc[[5, 6], "a"] = -11
    with caplog.at_level(logging.WARNING):
        manifest = project.manifest()
    assert "2 of 200 rows" in caplog.text
    assert "row 6: a is -11" in caplog.text
    assert manifest.dropped.rows == 2
    assert manifest.dropped.report is not None
    assert manifest.dropped.report in caplog.text
    rows = [read_part(manifest, part) for part in manifest.parts]
    assert sum(map(len, rows)) == 198
    assert min(part["a"].min() for part in rows) > -10


def test_bad_tables_are_refused(project: Project) -> None:
    good = project.table
    project.table = good.drop(columns="color")
    assert "'color' is missing" in project.refused().why
    project.table = good.assign(size=1)
    assert "'size' is unknown" in project.refused().why
    project.table = good.head(0)
    assert "no rows" in project.refused().what
    project.table = good.assign(y=1.5)
    assert "only one value: 1.5" in project.refused().what
    project.table = good.head(2)
    assert "too few units" in project.refused().what


def test_schema_changes_are_one_error_or_accepted(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    good, columns = project.table, project.body["data"]["columns"]
    project.table = good.drop(columns="color").assign(size=1, a="many")
    why = project.refused().why
    for part in ("'color' is missing", "'size' is unknown", "'a' has another type"):
        assert part in why
    project.body["data"]["drift"] = {"new": "ignore", "lost": "fill", "type": "fill"}
    columns["color"]["nullable"] = columns["a"]["nullable"] = True
    with caplog.at_level(logging.WARNING):
        manifest = project.manifest()
    assert "'size' is unknown and left out" in caplog.text
    train = read_part(manifest, "train")
    assert train[["a", "color"]].isna().all(axis=None)
    project.table = good
    before = project.manifest().address
    del project.body["data"]["drift"]
    assert project.manifest().address != before


def test_columns_that_are_no_features_are_named_in_the_log(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    columns = project.body["data"]["columns"]
    columns |= {"note": {"type": "string"}, "at": {"type": "datetime"}, "who": {"type": "string"}}
    project.table = project.table.assign(note="x y", at="2026-01-01", who=np.arange(200) // 2)
    project.body["split"]["groups"] = ["who"]
    with caplog.at_level(logging.INFO, logger="tasks.prepare"):
        manifest = project.manifest()
    assert manifest.features == ("a", "count", "color")
    assert caplog.text.count("'note' is of type string: the model does not use it") == 1
    assert caplog.text.count("'at' is of type datetime") == 1
    assert "'who'" not in caplog.text
    assert read_part(manifest, "train")["note"].unique().tolist() == ["x y"]


def test_categories_missing_from_train_are_counted_on_the_run(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    plain = tracking.client().get_run(project.prepare().slots[0].run_id)
    assert tracking.UNSEEN not in plain.data.tags
    project.table["color"] = [f"c{number}" for number in range(200)]
    for _ in range(2):  # a new snapshot, then the existing one
        caplog.clear()
        slot = project.prepare().slots[0]
        manifest = read_manifest(slot.snapshot_uri)
        rows = {part: manifest.files[part].rows for part in ("validation", "test")}
        tag = tracking.client().get_run(slot.run_id).data.tags[tracking.UNSEEN]
        assert json.loads(tag) == {part: {"color": count} for part, count in rows.items()}
        assert f"{rows['test']} of {rows['test']} rows of the test part" in caplog.text


def test_a_connection_is_recorded_by_its_name_only(project: Project) -> None:
    uri = store.data_uri(f"test/{uuid4().hex}.csv")
    store.put_bytes(uri, project.table.to_csv(index=False).encode())
    before = project.manifest()
    project.body["data"]["sources"] = [{"uri": uri, "connection": "the_lake"}]
    project.write()
    ours = settings()
    assert ours.aws_secret_access_key is not None
    secret = ours.aws_secret_access_key.get_secret_value()
    connection = {
        "conn_type": "aws",
        "login": ours.aws_access_key_id,
        "password": secret,
        "extra": {"endpoint_url": ours.s3_endpoint},
    }
    prepared = prepare(project.name, "x/y", NONE, lambda _: json.dumps(connection))
    slot = prepared.slots[0]
    # The same rows from elsewhere are the same snapshot.
    assert read_manifest(slot.snapshot_uri) == before
    project.table.loc[0, "a"] = 0.25
    store.put_bytes(uri, project.table.to_csv(index=False).encode())
    prepared = prepare(project.name, "x/z", NONE, lambda _: json.dumps(connection))
    slot = prepared.slots[0]
    manifest = read_manifest(slot.snapshot_uri)
    assert manifest.sources[0].connection == "the_lake"
    run = tracking.client().get_run(slot.run_id)
    assert secret not in manifest.model_dump_json() + str(run.data.tags)
    assert secret.encode() not in store.get_bytes(slot.pipeline_uri)


def test_an_older_snapshot_can_be_run_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = project.manifest()
    project.table.loc[0, "a"] = 0.5
    assert project.manifest().uri != old.uri
    (project.folder / f"{project.name}.csv").unlink()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tasks.prepare.make.fetch", never)
    again = project.prepare(overrides=Overrides(snapshot=old.uri))
    assert again.slots[0].snapshot_uri == old.uri


def test_a_snapshot_that_does_not_fit_is_refused(project: Project, pipelines: Path) -> None:
    old = project.manifest()
    for wrong in (f"{old.uri}x", "here", old.parts["test"]):
        with pytest.raises(UserError, match="must be the URI of a snapshot's manifest"):
            project.prepare(overrides=Overrides(snapshot=wrong))
    with pytest.raises(UserError, match=f"Got one of {project.name}"):
        Project(pipelines).prepare(overrides=Overrides(snapshot=old.uri))
    project.body["data"]["columns"]["count"] = {"type": "category"}
    with pytest.raises(UserError, match="Columns that differ: count"):
        project.prepare(overrides=Overrides(snapshot=old.uri))


def test_a_changed_part_is_not_read(project: Project) -> None:
    manifest = project.manifest()
    store.put_bytes(manifest.parts["test"], store.get_bytes(manifest.parts["train"]))
    with pytest.raises(UserError, match="is not the file that its manifest describes"):
        read_part(manifest, "test")


def test_two_simultaneous_attempts_make_one_parent_run(project: Project) -> None:
    dag_run = f"train__{project.name}/at-once"
    project.prepare()  # the snapshot exists, so both attempts meet at the run
    run_ids: list[str] = []
    tries = [
        threading.Thread(
            target=lambda: run_ids.append(prepare(project.name, dag_run, NONE).slots[0].run_id)
        )
        for _ in range(2)
    ]
    for each in tries:
        each.start()
    for each in tries:
        each.join()
    assert len(run_ids) == 2
    assert len(set(run_ids)) == 1


def test_a_cleared_run_continues_its_parent_run_unless_its_inputs_changed(project: Project) -> None:
    dag_run = f"train__{project.name}/cleared"
    client = tracking.client()
    first = project.prepare(dag_run).slots[0].run_id
    client.set_terminated(first, "FAILED")
    assert project.prepare(dag_run).slots[0].run_id == first
    assert client.get_run(first).info.status == "RUNNING"
    project.table.loc[0, "a"] = 0.5
    other = project.prepare(dag_run).slots[0].run_id
    assert other != first
    assert client.get_run(first).info.status == "KILLED"
    assert tracking.find_run(project.name, tracking.DAG_RUN, dag_run).info.run_id == other


def champion(project: Project, run_id: str) -> int:
    """Register a version of this run and make it champion."""
    client = tracking.client()
    client.create_registered_model(project.name)
    version = client.create_model_version(
        project.name, source=f"runs:/{run_id}/model", run_id=run_id
    )
    client.set_registered_model_alias(project.name, tracking.CHAMPION, version.version)
    return int(version.version)


def test_unchanged_inputs_make_no_run_unless_forced(project: Project) -> None:
    client = tracking.client()
    version = champion(project, project.prepare().slots[0].run_id)
    experiment = [tracking.experiment(project.name)]
    before = len(client.search_runs(experiment))

    kept = project.prepare()
    assert (kept.slots, kept.unchanged) == ((), version)
    assert f"version {version}" in kept.reason
    project.body["owner"] = "somebody else"
    project.body["serving"] = {"memory": "2g"}
    assert project.prepare().unchanged == version
    assert len(client.search_runs(experiment)) == before

    assert project.prepare(overrides=Overrides(force=True)).slots
    assert project.prepare(overrides=Overrides(trials=4)).slots
    (project.folder / f"{project.name}.py").write_text("# code of this pipeline\n")
    assert project.prepare().slots
    project.table.loc[0, "a"] = 0.5
    assert project.prepare().slots


def test_the_log_names_what_changed_since_the_champion(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    version = champion(project, project.prepare().slots[0].run_id)
    project.body["gate"] = {"confidence": 0.9}
    with caplog.at_level(logging.INFO):
        project.prepare()
        assert f"Changed since version {version}: section gate." in caplog.text
        project.table.loc[0, "a"] = 0.5
        (project.folder / f"{project.name}.py").write_text("# code of this pipeline\n")
        project.prepare()
    assert (
        f"Changed since version {version}: data, file pipelines/{project.name}.py, section gate."
        in caplog.text
    )


def test_a_champion_without_recorded_inputs_is_replaced(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracking.client().create_run(tracking.experiment(project.name))
    version = champion(project, run.info.run_id)
    with caplog.at_level(logging.INFO):
        assert project.prepare().slots
    assert f"The inputs of version {version} are not known; training again." in caplog.text


def test_fewer_trials_than_slots(project: Project) -> None:
    assert len(project.prepare(overrides=Overrides(trials=1)).slots) == 1


def test_a_prepared_table_from_several_sources(project: Project) -> None:
    visits = "id,a\n" + "".join(f"{i},{i / 10}\n" for i in range(100))
    outcomes = "id,y\n" + "".join(f"{i},{i}\n" for i in reversed(range(100)))
    (project.folder / "visits.csv").write_text(visits)
    (project.folder / "outcomes.csv").write_text(outcomes)
    (project.folder / "joined.py").write_text(
        "def join(tables):\n"
        "    table = tables[0].merge(tables[1], on='id').drop(columns='id')\n"
        "    high = table['a'] > 5\n"
        "    gap = high.astype(object).mask(table['a'] > 9, None)\n"
        "    return table.assign(high=high, gap=gap)\n"
    )
    project.body["data"] = {
        "sources": [{"uri": "file://visits.csv"}, {"uri": "file://outcomes.csv"}],
        "prepare": "joined:join",
        "target": "y",
        "task": "regression",
        "columns": {"a": {}, "high": {}, "gap": {"nullable": True}, "y": {}},
    }
    manifest = project.manifest()
    rows = pd.concat([read_part(manifest, part) for part in manifest.parts])
    assert len(rows) == 100
    high = (rows["a"] > 5).astype("float64")
    assert rows["high"].tolist() == high.tolist()
    pd.testing.assert_series_equal(rows["gap"], high.mask(rows["a"] > 9), check_names=False)
    assert (rows["a"] * 10).round(9).tolist() == rows["y"].tolist()
    assert [source.uri for source in manifest.sources] == [
        "file://visits.csv",
        "file://outcomes.csv",
    ]
    (project.folder / "joined.py").write_text("def join(tables):\n    return tables[0]\n")
    with pytest.raises(UserError, match="The table that joined:join returned does not have"):
        project.prepare()
