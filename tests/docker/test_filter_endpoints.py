"""The options of the filter's endpoints, without an engine.

The values here go beyond those that the attacks try.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.docker.filtering import FILTER  # noqa: F401 - puts the filter on the path

# isort: split
import policy
import rules

endpoints = policy.endpoint_table(policy.Settings("shop", "shop-models", prefix="shop"))


def checked(method: str, path: str, options: dict[str, Any]) -> Any:
    endpoint = next(known for known in endpoints if known.match(method, path) is not None)
    return endpoint.options("option", options)


@pytest.mark.parametrize(
    ("method", "path", "options", "denied"),
    [
        ("POST", "/containers/x/start", {"checkpoint": "c"}, "checkpoint"),
        ("POST", "/containers/x/stop", {"t": ["1", "2"]}, "t"),
        ("POST", "/containers/x/stop", {"t": "-1"}, "t"),
        ("POST", "/containers/x/stop", {"t": "\u0661"}, "t"),
        ("POST", "/containers/x/kill", {"signal": "KILL;x"}, "signal"),
        ("DELETE", "/containers/x", {"link": "1"}, "link"),
        ("DELETE", "/containers/x", {"force": ["1", "1"]}, "force"),
        ("GET", "/containers/json", {"before": "postgres"}, "before"),
        ("GET", "/containers/json", {"filters": '{"volume": ["x"]}'}, "filters.volume"),
        ("GET", "/containers/json", {"filters": '{"label!": ["x"]}'}, "filters.label!"),
        ("GET", "/containers/json", {"filters": '{"label": ["a"], "Label": ["b"]}'}, "JSON"),
        ("GET", "/images/json", {"filters": '{"before": ["postgres"]}'}, "filters.before"),
        ("POST", "/containers/create", {"name": "shopmodel-x"}, "name"),
        ("POST", "/build", {}, "t"),
        ("POST", "/build", {"t": "shop/x:1\n"}, "t"),
        ("POST", "/build", {"t": "shop/../postgres"}, "t"),
        ("POST", "/build", {"t": "shop/x@sha256:00"}, "t"),
        *(
            ("POST", "/build", {"t": "shop/x", name: value}, name)
            for name, value in {
                "securityopt": '["seccomp=unconfined"]',
                "session": "x",
                "outputs": '[{"Type": "local"}]',
                "version": "2",
                "squash": "1",
                "isolation": "process",
                "pull": "1",
                "target": "x",
                "platform": "linux/arm64",
                "shmsize": "1",
                "memswap": "-1",
                "cpuquota": "-1",
                "cpushares": "1024",
                "cpusetcpus": "0-1",
                "buildid": "x",
                "dockerfile": "../Dockerfile",
                "buildargs": '{"A": null}',
            }.items()
        ),
        ("POST", "/build", {"t": "shop/x", "dockerfile": ".."}, "dockerfile"),
        ("POST", "/build", {"t": "shop/x", "Remote": "https://example.org"}, "Remote"),
    ],
)
def test_options(method: str, path: str, options: dict[str, Any], denied: str) -> None:
    with pytest.raises(rules.Denied, match=rf"^docker filter: (option\.)?{re.escape(denied)}"):
        checked(method, path, options)


def test_a_build_is_always_bounded() -> None:
    options = {"t": "shop/x", "rm": "False", "memory": "0", "q": "False"}
    assert checked("POST", "/build", options) == {
        "t": ["shop/x"],
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "memory": str(2 << 30),
        "memswap": str(2 << 30),
        "cpuperiod": "100000",
        "cpuquota": "200000",
    }


@pytest.mark.parametrize("filters", [None, '{"label": ["a=b"]}', '{"label": {"a=b": true}}'])
def test_lists_are_narrowed(filters: str | None) -> None:
    options = checked("GET", "/images/json", {"filters": filters} if filters else {})
    assert json.loads(options["filters"])["label"] == [
        *(["a=b"] if filters else []),
        "mlops.project=shop",
    ]
