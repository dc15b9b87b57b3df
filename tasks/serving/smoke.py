"""The smoke test: the logged example must give the logged prediction, and bad requests a 4xx."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx

from tasks.base.errors import RunFailedError
from tasks.serving.model_files import Card, read_card
from tasks.serving.targets.deployment import Deployment

TOLERANCE = 1e-9
"""Relative, of floats: the server's libraries may sum in another order than the training's. A model
may have another, as `tolerance` of its smoke test."""
TIMEOUT_S = 30.0


def check(deployment: Deployment, model: Path) -> None:
    """Test running servers against the model's files.

    Raises:
        RunFailedError: With everything that is wrong.
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
            return [f"It answers otherwise than MLflow's protocol says: {err}"]


def _alive(client: httpx.Client) -> list[str]:
    answer = client.get("/ping")
    return [] if answer.is_success else [f"/ping must get 200. Got {answer.status_code} instead."]


def _identity(client: httpx.Client, deployment: Deployment, card: Card) -> list[str]:
    expected = {
        "name": deployment.name,
        "version": deployment.version,
        "run_id": card.run_id,
    }
    answer = client.get("/version")
    found = _object(answer) if answer.is_success else {}
    return [
        f"/version must say {key} {value!r}. Got {found.get(key)!r} instead."
        for key, value in expected.items()
        if found.get(key) != value
    ]


def _predictions(client: httpx.Client, card: Card) -> list[str]:
    if card.smoke_test is None:
        return ["The model was logged without metadata 'smoke_test': inputs and predictions."]
    answer = client.post("/invocations", json={"dataframe_split": card.smoke_test["inputs"]})
    if not answer.is_success:
        return [f"The logged example got status {answer.status_code}: {answer.text}"]
    expected, found = card.smoke_test["predictions"], _object(answer).get("predictions")
    if not same(found, expected, card.smoke_test.get("tolerance", TOLERANCE)):
        return [f"The logged example must give {expected}. Got {found} instead."]
    return []


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object in an answer; raises `ValueError` when there is none."""
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004 - of the answer, not of an argument
            f"{answer.url.path} must answer with an object. Got {found!r} instead."
        )
    return found


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
    for what, wrong in bad.items():
        status = client.post("/invocations", json={"dataframe_records": [wrong]}).status_code
        if not 400 <= status < 500:
            problems.append(f"A request {what} must get a 4xx. Got {status} instead.")
    return problems


def same(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether predictions are equal: labels exactly, floats within the tolerance."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(same(a, b, tolerance) for a, b in zip(found, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=tolerance, abs_tol=1e-12)
    return bool(found == expected)
