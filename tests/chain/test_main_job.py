"""The main job through Airflow: train, gate, build, promote, deploy, predict, again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tasks.base.settings import REPOSITORY, settings
from tasks.clients import tracking
from tasks.stack.embedded import leftovers, lifecycle
from tasks.stack.embedded.home import Home
from tests.chain.conftest import Chain, mlops
from tests.chain.endpoint import kinds, served
from tests.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

NAME = "diabetes_progression"
# A shell that runs the tests in its background ignores Ctrl-C, and so would what they start.
LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def first(chain: Chain) -> dict:
    """The first run: few trials, through the command line."""
    done = mlops("run", NAME, "--set", "trials=12", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_first_model_is_promoted_and_served(chain: Chain, first: dict) -> None:
    assert first["state"] == "success"
    assert first["verdict"] == "promote"
    assert tracking.alias_version(NAME, tracking.CHAMPION) == first["version"]
    assert served(NAME) == first["version"]
    expected = ["decision", "intent", "moved", "deployed"]
    until(lambda: kinds(NAME) == expected, 60, "the deployment is on record")
    model = tracking.client().get_model_version(NAME, str(first["version"]))
    assert model.tags[tracking.STAGE] == "Production"
    run = tracking.client().get_run(first["run"])
    assert run.info.status == "FINISHED"
    assert run.data.tags[tracking.VERDICT] == "promote"


def test_the_children_are_the_trials(first: dict) -> None:
    children = tracking.client().search_runs(
        [tracking.experiment(NAME)], f"tags.`{tracking.PARENT}` = '{first['run']}'"
    )
    assert sorted(int(r.data.tags[tracking.TRIAL]) for r in children) == list(range(12))
    for child in children:
        assert child.info.status == "FINISHED"
        assert {"training_rmse", "val_rmse", "duration_s"} <= set(child.data.metrics)
        assert "estimator" in child.data.params


def test_predict_from_a_file_and_from_standard_input(first: dict, tmp_path) -> None:
    body = {"age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4,
            "s5": 4.8598, "s6": 87}  # fmt: skip
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([body, body]))
    answer = json.loads(mlops("predict", NAME, str(rows), "--json").stdout)
    table = ",".join(body) + "\n" + ",".join(map(str, body.values())) + "\n"
    again = json.loads(mlops("predict", NAME, "-", "--json", stdin=table).stdout)
    assert 25 < answer["predictions"][0] < 346  # the range of the target
    assert answer["predictions"] == pytest.approx(again["predictions"] * 2, rel=1e-9)


def test_wrong_requests_get_4xx(first: dict) -> None:
    url = f"{settings().gateway_url}/models/{NAME}/invocations"
    for body in ({"dataframe_records": [{"age": 1}]}, {"nonsense": 1}, [1, 2]):
        answer = httpx.post(url, json=body)
        assert 400 <= answer.status_code < 500, answer.text
        assert set(answer.json()) == {"error_code", "message"}


def test_a_new_file_is_trained_as_soon_as_airflow_has_read_it(chain: Chain) -> None:
    folder = settings().pipelines
    (folder / "newcomer.yaml").write_text((folder / f"{NAME}.yaml").read_text())
    done = mlops("run", "newcomer", "--set", "trials=2", "--set", "slots=1", "--json")
    assert done.returncode == 0, done.stderr
    assert chain.finish("newcomer", json.loads(done.stdout)["run_id"]) == "success"


def test_dags_are_read_again_when_asked_for_though_asked_twice(chain: Chain, first: dict) -> None:
    def read_at() -> str:
        return str(chain.airflow.get(f"/dags/train__{NAME}")["last_parsed_time"])

    for _ in range(2):  # by their turn, the second reading comes a minute after the first
        before = read_at()
        chain.airflow.read_again("train")
        chain.airflow.read_again("train")
        until(lambda before=before: read_at() != before, 50, "the DAGs are read")
    chain.airflow.read_again("no_such_kind")


def test_unchanged_data_ends_early_and_keeps_the_champion(chain: Chain, first: dict) -> None:
    run = chain.train(NAME, trials=12)
    assert chain.finish(NAME, run) == "success"
    states = chain.tasks(NAME, run)
    assert states["prepare"] == "success"
    assert {states[t] for t in ("search", "select", "evaluate", "gate", "build", "promote")} == {
        "skipped"
    }
    unchanged = chain.airflow.xcom(f"train__{NAME}", run, "prepare", "unchanged")
    assert unchanged["version"] == first["version"]


def test_a_forced_equal_model_is_not_promoted(chain: Chain, first: dict) -> None:
    run = chain.train(NAME, trials=12, force=True)
    assert chain.finish(NAME, run) == "success"
    assert chain.tasks(NAME, run)["promote"] == "skipped"
    decision = chain.airflow.xcom(f"train__{NAME}", run, "gate")
    assert decision["verdict"] != "promote"
    assert tracking.alias_version(NAME, tracking.CHAMPION) == first["version"]
    stage = tracking.client().get_model_version(NAME, str(decision["version"])).tags["stage"]
    assert stage in ("None", "Archived")


def test_dry_run_promotes_whatever_the_verdict_and_rollback_goes_back(
    chain: Chain, first: dict
) -> None:
    run = chain.train(NAME, trials=6, seed=7, gate_mode="dry_run", force=True)
    assert chain.finish(NAME, run) == "success"
    second = chain.airflow.xcom(f"train__{NAME}", run, "promote")["version"]
    assert tracking.alias_version(NAME, tracking.CHAMPION) == second
    until(lambda: served(NAME) == second, 60, "the second version is served")
    back = mlops("rollback", NAME, "--reason", "the test wants the first one back")
    assert back.returncode == 0, back.stderr
    until(lambda: served(NAME) == first["version"], 90, "the first version is served again")
    entries = json.loads(mlops("history", NAME, "--json").stdout)
    assert "the test wants the first one back" in {entry["reason"] for entry in entries}


def test_status_says_it_all_and_no_secret(chain: Chain, first: dict) -> None:
    done = mlops("status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert set(status["services"]) == {"postgres", "store", "mlflow", "airflow", "gateway"}
    for service in status["services"].values():
        assert service["state"] == "running"
        assert service["url"]
        assert service["pid"]
    endpoint = status["endpoints"][NAME]
    assert endpoint["state"] == "running"
    assert endpoint["version"] == first["version"]
    for secret in (settings().airflow_password, settings().aws_secret_access_key):
        assert secret is not None
        assert secret.get_secret_value() not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "diabetes_progresion"), "diabetes_progression"),
        (("run", NAME, "--set", "trails=4"), "trials"),
        (("run", NAME, "--set", "trials=0"), "trials"),
        (("leaderboard", "nonesuch"), "nonesuch"),
        (("predict", NAME, "/no/such/file.csv"), "/no/such/file.csv"),
        (("rollback", NAME, "--to", "999", "--reason", "x"), "999"),
        (("logs", "mlflo"), "mlflow"),
    ],
)
def test_mistakes_are_named_with_exit_code_2(
    chain: Chain, words: tuple[str, ...], message: str
) -> None:
    done = mlops(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


BAD = {
    "unknown key": "nonsense",
    "wrong checksum": "sha256",
    "missing column": "z",
    "one value": "y",
}
"""Mistakes, and a word from the reason that the failure gives."""


def bad_file(folder: Path, trouble: str) -> str:
    """Write a pipeline file with a mistake in the file or its data; returns its name."""
    name = "bad_" + trouble.replace(" ", "_")
    source = '{uri: "file://rows.csv"}'
    extra, columns = "", "{x: {}, y: {}}"
    if trouble == "unknown key":
        extra = "nonsense: 1\n"
    elif trouble == "wrong checksum":
        source = f'{{uri: "file://rows.csv", sha256: "{"0" * 64}"}}'
    elif trouble == "missing column":
        columns = "{x: {}, y: {}, z: {}}"
    elif trouble == "one value":
        source = '{uri: "file://flat.csv"}'
    (folder / f"{name}.yaml").write_text(
        f"description: bad\nowner: tests\ndata:\n  sources: [{source}]\n  target: y\n"
        f"  task: regression\n  columns: {columns}\n"
        f"search: {{trials: 1, space: {{estimator: linear}}}}\nmetric: rmse\n{extra}"
    )
    return name


@pytest.fixture(scope="module")
def bad_runs(chain: Chain) -> dict[str, tuple[str, str]]:
    """Runs of all bad files, started together: mistake -> pipeline name and DAG run id."""
    folder = settings().pipelines
    (folder / "rows.csv").write_text("x,y\n" + "\n".join(f"{i},{i % 7}" for i in range(100)))
    (folder / "flat.csv").write_text("x,y\n" + "\n".join(f"{i},1" for i in range(100)))
    names = {trouble: bad_file(folder, trouble) for trouble in BAD}
    return {trouble: (name, chain.train(name)) for trouble, name in names.items()}


@pytest.mark.parametrize("trouble", BAD)
def test_bad_input_fails_in_prepare_without_a_second_try(
    chain: Chain, bad_runs: dict[str, tuple[str, str]], trouble: str
) -> None:
    name, run = bad_runs[trouble]
    assert chain.finish(name, run, timeout=120) == "failed"
    (prepare,) = [t for t in chain.airflow.tasks(f"train__{name}", run) if t.task == "prepare"]
    assert prepare.state == "failed"
    assert prepare.try_number == 1
    (reason,) = chain.airflow.log_tail(f"train__{name}", run, prepare)
    assert BAD[trouble] in reason
    assert tracking.find_run(name, tracking.NAME, name) is None


def test_a_search_in_which_all_trials_fail_fails_the_run_and_closes_it(chain: Chain) -> None:
    text = (settings().pipelines / "steady.yaml").read_text()
    for healthy in ("{uniformint: [1, 20]}", "{loguniform: [log(0.005), log(0.3)]}"):
        text = text.replace(healthy, "-1")
    (settings().pipelines / "hopeless.yaml").write_text(text)
    run = chain.train("hopeless", trials=3, slots=1)
    assert chain.finish("hopeless", run) == "failed"
    (select,) = [t for t in chain.airflow.tasks("train__hopeless", run) if t.task == "select"]
    log = "\n".join(chain.airflow.log_tail("train__hopeless", run, select))
    assert "None of the 3 trials finished" in log
    parent = tracking.client().get_run(chain.parent("hopeless", run))
    assert parent.info.status == "FAILED"
    children = tracking.client().search_runs(
        [parent.info.experiment_id], f"tags.`{tracking.PARENT}` = '{parent.info.run_id}'"
    )
    assert {child.info.status for child in children} == {"FAILED"}
    assert all("error" in child.data.tags for child in children)


def test_links_lead_to_run_version_and_endpoint(chain: Chain, first: dict) -> None:
    path = f"/dags/train__{NAME}/dagRuns/{first['run_id']}/taskInstances/promote/links"
    links = chain.airflow.get(path)["extra_links"]
    assert links["MLflow run"].endswith(first["run"])
    assert links["Model version"].endswith(f"/versions/{first['version']}")
    assert links["Endpoint"].endswith(f"/models/{NAME}/version")


def test_a_second_demo_keeps_the_version_and_predicts(chain: Chain, first: dict) -> None:
    shown = mlops("demo", "--set", "trials=4", "--set", "force=true")
    assert shown.returncode == 0, shown.stderr
    for part in ("leaderboard", "decision", "endpoint", "curl -s", "predictions", "Airflow"):
        assert part in shown.stdout
    again = mlops("demo", "--set", "trials=12")  # the same inputs as the champion's
    assert again.returncode == 0, again.stderr
    assert "stays champion" in again.stdout
    command = again.stdout[again.stdout.index("curl -s") :].partition("where everything")[0]
    repeated = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=30
    )
    assert json.loads(repeated.stdout)["predictions"]


def test_ctrl_c_in_a_demo_stops_its_run_and_leaves_the_stack(chain: Chain, first: dict) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", LISTENING, str(REPOSITORY / "mlops"), "demo", "--set", "force=true"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: chain.airflow.active_run(f"train__{NAME}"), 60, "the demo's run is there")
        run = chain.airflow.active_run(f"train__{NAME}")
        assert run is not None
        until(lambda: chain.tasks(NAME, run)["search"] == "running", 60, "it searches")
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
    assert demo.returncode == 130, output
    chain.finish(NAME, run)
    assert chain.tasks(NAME, run)["search"] == "failed"
    assert tracking.client().get_run(chain.parent(NAME, run)).info.status == "FAILED"
    assert mlops("status").returncode == 0


def test_down_leaves_no_process_and_up_serves_the_same_version_again(
    chain: Chain, first: dict
) -> None:
    before = served(NAME)
    assert before is not None
    ours = leftovers.find(Home(chain.home))
    assert lifecycle.down(report=lambda _: None)
    _, alive = psutil.wait_procs(ours, timeout=0)
    assert not alive
    lifecycle.start(report=lambda _: None)
    until(lambda: served(NAME) == before, 120, "the champion is served again")
