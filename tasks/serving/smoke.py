"""The smoke test: the logged example must get the logged prediction, bad requests a 4xx."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx

from tasks.base.errors import RunFailedError
from tasks.serving.model_files import Card, read_card
from tasks.serving.targets.deployment import Deployment

TOLERANCE = 1e-9
"""Relative, for floats: the server's libraries may sum in a different order than in training. The
`tolerance` of a model's smoke test takes precedence."""
TIMEOUT_S = 30.0


def check(deployment: Deployment, model: Path) -> None:
    """Test running servers against the model's files.

    Raises:
        RunFailedError: The test failed; it lists everything that is wrong.
    """
    card = read_card(model)
    problems = [
        problem for address in deployment.addresses for problem in _check(deployment, address, card)
    ]
    if problems:
        raise RunFailedError(
            f"{deployment.name} version {deployment.version} failed the smoke test.",
            why="\n".join(dict.fromkeys(problems)),
        )


def _check(deployment: Deployment, address: str, card: Card) -> list[str]:
    with httpx.Client(base_url=f"http://{address}", timeout=TIMEOUT_S, trust_env=False) as client:
        try:
            return [
                *_alive(client),
                *(_identity(client, deployment, card) if deployment.builder == "mlops" else ()),
                *_predictions(client, card),
                *_refusals(client, card),
            ]
        except httpx.HTTPError as err:
            return [f"It does not answer: {err!r}."]
        except ValueError as err:
            return [f"Its answer does not follow MLflow's protocol: {err}"]


def _alive(client: httpx.Client) -> list[str]:
    answer = client.get("/ping")
    return [] if answer.is_success else [f"/ping must get 200. Got {answer.status_code} instead."]


def _identity(client: httpx.Client, deployment: Deployment, card: Card) -> list[str]:
    expected = {"name": deployment.name, "version": deployment.version, "run_id": card.run_id}
    answer = client.get("/version")
    identity = _object(answer) if answer.is_success else {}
    return [
        f"/version must have {key} {value!r}. Got {identity.get(key)!r} instead."
        for key, value in expected.items()
        if identity.get(key) != value
    ]


def _predictions(client: httpx.Client, card: Card) -> list[str]:
    if card.smoke_test is None:
        return ["The model was logged without metadata 'smoke_test': inputs and predictions."]
    answer = client.post("/invocations", json={"dataframe_split": card.smoke_test["inputs"]})
    if not answer.is_success:
        return [f"The logged example got status {answer.status_code}: {answer.text}"]
    expected, predictions = card.smoke_test["predictions"], _object(answer).get("predictions")
    if not same(predictions, expected, card.smoke_test.get("tolerance", TOLERANCE)):
        return [f"The logged example must give {expected}. Got {predictions} instead."]
    return []


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object in an answer; raises `ValueError` if it is something else."""
    content = answer.json()
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004 - not the type of an argument
            f"{answer.url.path} must answer with an object. Got {content!r} instead."
        )
    return content


def _refusals(client: httpx.Client, card: Card) -> list[str]:
    if card.smoke_test is None:
        return []
    inputs = card.smoke_test["inputs"]
    row = dict(zip(inputs["columns"], inputs["data"][0], strict=True))
    bad: dict[str, dict[str, Any]] = {}
    if card.required:
        name = card.required[0]
        bad[f"without {name!r}"] = {key: row[key] for key in row if key != name}
    if card.numeric:
        bad[f"with text for {card.numeric[0]!r}"] = {**row, card.numeric[0]: "text"}
    problems = []
    for what, record in bad.items():
        status = client.post("/invocations", json={"dataframe_records": [record]}).status_code
        if not 400 <= status < 500:
            problems.append(f"A request {what} must get a 4xx. Got {status} instead.")
    return problems


def same(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether predictions are equal: labels exactly, floats within the tolerance."""
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(same(a, b, tolerance) for a, b in zip(actual, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(actual, expected, rel_tol=tolerance, abs_tol=1e-12)
    return bool(actual == expected)
