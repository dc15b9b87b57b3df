"""The protocol with real models, compared with MLflow's own server where that is correct."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.models import fitting
from tasks.serving.server import app
from tasks.serving.server.scorer import Scorer
from tests.tasks.models.test_fitting import pipeline
from tests.tasks.serving import examples
from tests.tasks.serving.examples import ROW, ROWS, parquet

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
NAMES = list(ROW)
LINE = list(ROW.values())
SPLIT = {"dataframe_split": {"columns": NAMES, "data": [LINE]}}
TYPED = {"integer": 1, "long": 2, "boolean": True, "string": "a", "double": 0.5}
LIMIT = 100_000


def client(folder: Path) -> TestClient:
    application = app.create(Scorer.load(folder), folder.name, 7, max_body=LIMIT)
    return TestClient(application, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def ours(ridge: Path) -> TestClient:
    return client(ridge)


@pytest.fixture(scope="module")
def theirs(ridge: Path) -> TestClient:
    application = scoring_server.init(mlflow.pyfunc.load_model(str(ridge)))
    return TestClient(application, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def types(typed: Path) -> TestClient:
    return client(typed)


def post(to: TestClient, body: Any, content_type: str | None = JSON) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": content_type} if content_type else {}
    return to.post("/invocations", content=content, headers=headers)


def message(answer: Any) -> str:
    assert set(answer.json()) == {"error_code", "message"}
    return str(answer.json()["message"])


TAKEN = {
    "split": (SPLIT, JSON),
    "split with an index": (
        {"dataframe_split": {**SPLIT["dataframe_split"], "index": [9]}},
        JSON,
    ),
    "columns in another order": ({"dataframe_records": [dict(reversed(ROW.items()))]}, JSON),
    "an extra column": ({"dataframe_records": [{**ROW, "x": "y"}]}, JSON),
    "numbers as text": ({"dataframe_records": [{k: str(v) for k, v in ROW.items()}]}, JSON),
    "inputs as records": ({"inputs": [ROW, ROW]}, JSON),
    "instances as records": ({"instances": [ROW, ROW]}, JSON),
    "inputs as columns": ({"inputs": {k: [v, v] for k, v in ROW.items()}}, JSON),
    "inputs as single values": ({"inputs": ROW}, JSON),
    "params and other keys": ({**SPLIT, "params": {"a": 1}, "other": 2}, JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(SPLIT).encode(), JSON),
    "UTF-16": (json.dumps(SPLIT).encode("utf-16"), JSON),
    "a charset": (SPLIT, "application/json; charset=UTF-8"),
    "CSV": (ROWS.head(3).to_csv(index=False).encode(), CSV),
    "CSV with an index": (ROWS.head(3).to_csv().encode(), CSV),
    "CSV with an index without a name": (ROWS.head(3).to_csv(index_label=False).encode(), CSV),
    "Parquet": (parquet(ROWS.head(3)), PARQUET),
}


@pytest.mark.parametrize("case", TAKEN)
def test_answers_what_mlflow_answers(case: str, ours: TestClient, theirs: TestClient) -> None:
    body, kind = TAKEN[case]
    expected = post(theirs, body, kind)
    assert expected.status_code == 200
    answer = post(ours, body, kind)
    assert (answer.status_code, answer.json()) == (200, expected.json())


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("split", "Application/JSON"),
        ("split", 'application/json; charset="utf-8"'),
        ("split", "application/json; charset=UTF8"),
        ("split", "application/json;odata=verbose; charset=utf-8"),
        ("split", "application/json ;"),
        ("CSV", "Text/CSV; header=present"),
        ("Parquet", "application/x-parquet"),
        ("Parquet", "Application/VND.apache.Parquet"),
    ],
)
def test_any_spelling_of_a_media_type_is_read(
    kind: str, content_type: str, ours: TestClient
) -> None:
    body, plain = TAKEN[kind]
    answer = post(ours, body, content_type)
    assert (answer.status_code, answer.json()) == (200, post(ours, body, plain).json())


@pytest.mark.parametrize("path", ["/", "/ping", "/health", "/version", "/status"])
def test_head_is_answered_as_get_without_a_body(path: str, ours: TestClient) -> None:
    answer, head = ours.get(path), ours.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "zstd"])
def test_a_compressed_body_is_read(encoding: str, ours: TestClient) -> None:
    content = compressed(encoding, json.dumps(SPLIT).encode())
    answer = ours.post("/invocations", content=content, headers=headers(encoding))
    assert (answer.status_code, answer.json()) == (200, post(ours, SPLIT).json())


def test_two_members_of_gzip_are_one_body(ours: TestClient) -> None:
    body = json.dumps(SPLIT).encode()
    content = gzip.compress(body[:20]) + gzip.compress(body[20:])
    answer = ours.post("/invocations", content=content, headers=headers("gzip"))
    assert answer.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_is_bounded_after_inflating(encoding: str, ridge: Path) -> None:
    small = TestClient(app.create(Scorer.load(ridge), "small", 1, max_body=10_000))
    bomb = compressed(encoding, b" " * 50_000_000)
    assert len(bomb) < 100_000
    answer = small.post("/invocations", content=bomb[:10_000], headers=headers(encoding))
    assert answer.status_code == 413, answer.text
    assert "larger than 10000 bytes" in message(answer)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["not compressed", "cut"])
def test_a_damaged_body_is_refused(encoding: str, damage: str, ours: TestClient) -> None:
    body = json.dumps(SPLIT).encode()
    content = body if damage == "not compressed" else compressed(encoding, body)[:-9]
    answer = ours.post("/invocations", content=content, headers=headers(encoding))
    assert answer.status_code == 400, answer.text
    assert encoding in message(answer)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "nonsense"])
def test_another_encoding_is_named(encoding: str, ours: TestClient) -> None:
    answer = ours.post("/invocations", content=b"x", headers=headers(encoding))
    assert answer.status_code == 415
    assert "gzip" in message(answer)
    assert answer.headers["accept-encoding"] == "gzip, zstd"


def headers(encoding: str) -> dict[str, str]:
    return {"content-type": JSON, "content-encoding": encoding}


def compressed(encoding: str, body: bytes) -> bytes:
    if encoding == "zstd":
        return bytes(pa.compress(body, codec="zstd", asbytes=True))
    return gzip.compress(body)


def test_a_slash_at_the_end_leads_nowhere_else(ours: TestClient) -> None:
    before = ours.get("/status/").json()["requests"]
    answer = ours.post("/invocations/", json=SPLIT, follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, post(ours, SPLIT).json())
    assert ours.get("/status").json()["requests"] == before + 2


REFUSED = {
    "no content type": (SPLIT, None, 415, "Content-Type"),
    "another media type": (b"<a/>", "text/xml", 415, "Content-Type"),
    "another charset": (SPLIT, "application/json; charset=latin-1", 415, "UTF-8"),
    "a quoted other charset": (SPLIT, 'application/json; charset="latin-1"', 415, "UTF-8"),
    "half a media type": (SPLIT, "json", 415, "Content-Type"),
    "not JSON": (b"{", JSON, 400, "not valid JSON"),
    "a number of 5,000 digits": (b"1" * 5000, JSON, 400, "not valid JSON"),
    "no object": ([ROW], JSON, 400, "exactly one of"),
    "two formats": ({**SPLIT, "inputs": ROW}, JSON, 400, "exactly one of"),
    "deep nesting": (b'{"inputs":' + b"[" * 40_000, JSON, 400, "nested too deeply"),
    "less deep nesting": (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", JSON, 400, "columns"),
    "params that are no object": ({**SPLIT, "params": [1]}, JSON, 400, "params"),
    "a missing column": ({"dataframe_records": [{"age": 1}]}, JSON, 400, "no column 'sex'"),
    "a matrix": ({"inputs": [LINE]}, JSON, 400, "name the model's columns"),
    "a short row": (
        {"dataframe_split": {"columns": NAMES, "data": [LINE, LINE[1:]]}},
        *(JSON, 400, "Row 1 has 9 values"),
    ),
    "a short record": ({"dataframe_records": [ROW, {"age": 1}]}, JSON, 400, "Row 1 has no value"),
    "a short line": (b"age,sex\n1\n", CSV, 400, "Row 0 has 1 values"),
    "an index too long": (
        {"dataframe_split": {"columns": NAMES, "data": [LINE], "index": [1, 2]}},
        *(JSON, 400, "'index'"),
    ),
    "columns of several lengths": (
        {"inputs": {**{k: [v, v] for k, v in ROW.items()}, "age": 1}},
        *(JSON, 400, "same length"),
    ),
    "a column twice": (
        {"dataframe_split": {"columns": [*NAMES, "age"], "data": [[*LINE, 1]]}},
        *(JSON, 400, "more than once"),
    ),
    "no rows": ({"dataframe_split": {"columns": NAMES, "data": []}}, JSON, 400, "no rows"),
    "no records": ({"dataframe_records": []}, JSON, 400, "no rows"),
    "only a header": (b"age,sex\n", CSV, 400, "no rows"),
    "a null for a model that takes none": (
        {"dataframe_records": [{**ROW, "bmi": None}]},
        *(JSON, 400, "not accept missing values: 'bmi'"),
    ),
    "an infinite number": (
        json.dumps({"dataframe_records": [{**ROW, "bmi": float("inf")}]}).encode(),
        *(JSON, 400, "not accept infinite values: 'bmi'"),
    ),
    "not CSV": (b"\xff\xfe\x00", CSV, 400, "not valid CSV"),
    "not Parquet": (b"PAR1", PARQUET, 400, "not a valid Parquet"),
    "no rows in Parquet": (parquet(ROWS.head(0)), PARQUET, 400, "no rows"),
    "too large": (b" " * (LIMIT + 1), JSON, 413, "larger than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, ours: TestClient) -> None:
    body, kind, status, words = REFUSED[case]
    answer = post(ours, body, kind)
    assert answer.status_code == status
    assert words in message(answer)


def test_body_without_a_length_is_bounded_too(ours: TestClient) -> None:
    chunks = (b" " * 1000 for _ in range(LIMIT // 1000 + 1))
    answer = ours.post("/invocations", content=chunks, headers={"content-type": JSON})
    assert answer.status_code == 413


@pytest.mark.parametrize("body", ["json", "csv", "parquet", "inputs"])
def test_no_answer_repeats_the_input(body: str, ours: TestClient) -> None:
    secret = ROWS.head(1).astype(object).assign(bmi="top-secret")
    content = {
        "json": (json.dumps({"dataframe_records": secret.to_dict("records")}).encode(), JSON),
        "inputs": (json.dumps({"inputs": secret.to_dict("records")}).encode(), JSON),
        "csv": (secret.to_csv(index=False).encode(), CSV),
        "parquet": (parquet(secret), PARQUET),
    }[body]
    answer = post(ours, *content)
    assert answer.status_code == 400
    assert "bmi" in message(answer)
    assert "secret" not in answer.text


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A classifier's folder, and the classifier."""
    folder, high = tmp_path_factory.mktemp("classifier") / "model", examples.TARGET > 150
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, high.map(str))
    signature = infer_signature(ROWS, model.predict(ROWS))
    mlflow.sklearn.save_model(model, folder, serialization_format="skops", signature=signature)
    return folder, model


@pytest.mark.parametrize("case", TAKEN)
def test_probabilities_stand_beside_the_labels(case: str, classifier: tuple[Path, Any]) -> None:
    folder, model = classifier
    scorer = Scorer.load(folder, probabilities=True)

    answer = post(TestClient(app.create(scorer, "risk", 1)), *TAKEN[case]).json()

    plain = post(client(folder), *TAKEN[case]).json()
    rows = len(plain["predictions"])
    expected = model.predict_proba(ROWS.head(3) if rows == 3 else ROWS.iloc[[0] * rows])
    assert answer["predictions"] == plain["predictions"]
    assert answer["classes"] == ["False", "True"]
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-12)


def test_a_model_without_probabilities_cannot_be_asked_for_them(ridge: Path) -> None:
    with pytest.raises(SystemExit, match=r"no probabilities: set serving\.probabilities to false"):
        Scorer.load(ridge, probabilities=True)


def test_missing_values_for_a_model_that_takes_them(forest: Path) -> None:
    answer = post(client(forest), {"dataframe_records": [{**ROW, "bmi": None}]})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("integer", 2**31),
        ("integer", -(2**31) - 1),
        ("integer", 1.5),
        ("integer", None),
        ("integer", "x"),
        ("long", 2**63),
        ("long", 1.5),
        ("long", None),
        ("boolean", None),
        ("boolean", "false"),
        ("boolean", 2),
        ("string", 5),
        ("double", 10**400),
        ("double", {"a": 1}),
    ],
)
def test_values_that_mlflow_would_change(column: str, value: Any, types: TestClient) -> None:
    row = {**TYPED, column: value}
    for body in (
        {"dataframe_records": [TYPED, row]},
        {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
        {"inputs": {name: [single] for name, single in row.items()}},
        {"inputs": row},
    ):
        answer = post(types, body)
        assert answer.status_code == 400
        assert f"'{column}'" in message(answer)


def test_null_in_a_parquet_column_that_cannot_have_one(types: TestClient) -> None:
    import pandas as pd

    rows = pd.DataFrame([{**TYPED}, {**TYPED, "boolean": None}])
    rows["integer"] = rows["integer"].astype("int32")
    answer = post(types, parquet(rows), PARQUET)
    assert answer.status_code == 400
    assert "'boolean'" in message(answer)


@pytest.mark.parametrize("value", [0, 2**31 - 1, -(2**31), 3.0, "12"])
def test_whole_numbers_arrive_as_sent(value: Any, types: TestClient) -> None:
    answer = post(types, {"dataframe_records": [{**TYPED, "integer": value}]})
    assert answer.json()["predictions"][0]["integer"] == int(value)


def test_prediction_that_is_not_finite(types: TestClient) -> None:
    answer = post(types, {"dataframe_records": [{**TYPED, "double": None}]})
    assert answer.status_code == 400
    assert "not a finite number" in message(answer)


@pytest.mark.parametrize(("head", "index"), [("", ""), ("", "7,"), (",", "7,")])
def test_true_and_false_of_csv_are_numbers_where_the_model_takes_those(
    head: str, index: str, types: TestClient
) -> None:
    """Our boolean columns are doubles, because values may be missing."""
    lines = [f"{head}{','.join(TYPED)}", f'{index}1,2,true,"t",TRUE', f'{index}1,2,false,"a\nb",f']
    first, second = post(types, "\n".join(lines).encode(), CSV).json()["predictions"]
    assert (first["boolean"], first["string"], first["double"]) == (True, "t", 1.0)
    assert (second["boolean"], second["string"], second["double"]) == (False, "a\nb", 0.0)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
cells = st.text(alphabet='abt1.,"\n\r e-', max_size=30)
tables = st.fixed_dictionaries(dict.fromkeys(TYPED, anything))


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances"]),
    anything
    | tables
    | st.lists(tables, max_size=3)
    | st.fixed_dictionaries({"columns": anything, "data": anything, "index": anything}),
)
def test_no_json_makes_the_server_fail(types: TestClient, form: str, value: Any) -> None:
    answer = post(types, {form: value})
    assert answer.status_code in (200, 400), answer.text


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.text() | cells.map(lambda rows: ",".join(TYPED) + "\n" + rows))
def test_no_csv_makes_the_server_fail(types: TestClient, text: str) -> None:
    answer = post(types, text.encode("utf-8", "surrogatepass"), CSV)
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_ping(path: str, ours: TestClient) -> None:
    assert ours.get(path).status_code == 200


def test_version(ours: TestClient) -> None:
    answer = ours.get("/version")
    assert answer.json() == {
        "name": "ridge",
        "version": 7,
        "run_id": "",
        "mlflow": mlflow.__version__,
    }


def test_a_browser_sees_what_it_takes(ours: TestClient) -> None:
    description = ours.get("/").json()
    assert (description["name"], description["version"]) == ("ridge", 7)
    assert {column["name"] for column in description["columns"]} == set(examples.ROW)
    assert "POST invocations" in description["paths"]


@pytest.mark.parametrize("path", ["/ping", "/nothing", "/docs", "/openapi.json", "/invocations"])
def test_every_answer_names_the_version(path: str, ours: TestClient) -> None:
    answer = ours.get(path)
    assert answer.headers["x-model-version"] == "7"
    assert answer.status_code == {"/ping": 200, "/invocations": 405}.get(path, 404)


class Broken:
    """A scorer with an unforeseen error."""

    run_id = ""

    def answer(self, *_: object) -> str:
        raise RuntimeError("top-secret")


def test_an_unforeseen_error_shows_nothing() -> None:
    application = app.create(Broken(), "broken", 7)  # type: ignore[arg-type]
    answer = post(TestClient(application, raise_server_exceptions=False), SPLIT)
    assert (answer.status_code, answer.headers["x-model-version"]) == (500, "7")
    assert "secret" not in answer.text
    assert answer.json()["error_code"] == "INTERNAL_ERROR"


def test_status_counts_requests(ridge: Path) -> None:
    fresh = client(ridge)
    post(fresh, SPLIT)
    post(fresh, {})
    fresh.get("/ping")
    assert fresh.get("/status").json() == {"version": 7, "inflight": 0, "requests": 2}


@pytest.mark.parametrize(("impute", "expected"), [("most_frequent", 9.0), ("none", 20.0)])
def test_a_null_category_is_answered_as_the_gate_scores_it(
    impute: str, expected: float, tmp_path: Path
) -> None:
    """By MLflow's server too: the model itself handles nulls."""
    config = pipeline({"c": "category", "x": "double"}, impute={"category": impute})
    rows = pd.DataFrame({"c": pd.Series(["a", "b", "b", "d", None], dtype="str"), "x": [0.1] * 5})
    truth = [1.0, 9.0, 9.0, 5.0, expected]
    fitted = fitting.build(config, {"estimator": "linear"}, 0, 1).fit(rows, truth)
    mlflow.sklearn.save_model(
        fitted,
        tmp_path / "model",
        serialization_format="skops",
        skops_trusted_types=fitting.trusted_types(fitted),
        signature=infer_signature(rows, fitted.predict(rows)),
    )
    theirs = scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model")))
    request = {"dataframe_records": [{"c": None, "x": 0.1}]}

    for server in (client(tmp_path / "model"), TestClient(theirs)):
        assert post(server, request).json()["predictions"] == [pytest.approx(expected)]
