"""The filter's endpoints and their options, without an engine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.docker.filtering import HERE  # noqa: F401 - puts the filter on the path

# isort: split
import policy
import rules

endpoints = policy.endpoint_table(policy.Settings("shop", "shop-models", prefix="shop"))


def chosen(method: str, path: str) -> policy.Endpoint | None:
    return next((one for one in endpoints if one.match(method, path) is not None), None)


UNKNSETTINGS = """
POST /containers/x/attach  POST /containers/x/restart  POST /containers/x/pause
POST /containers/x/unpause POST /containers/x/rename   POST /containers/x/update
POST /containers/x/resize  POST /containers/x/exec     POST /containers/x/copy
GET /containers/x/top      GET /containers/x/changes   GET /containers/x/export
GET /containers/x/archive  PUT /containers/x/archive   HEAD /containers/x/archive
GET /containers/x/attach/ws  POST /containers/prune    GET /containers/x
POST /exec/x/start         GET /exec/x/json            POST /commit
POST /images/create        POST /images/load           GET /images/get
GET /images/search         POST /images/x/push         POST /images/x/tag
GET /images/x/get          GET /images/x/history       POST /images/prune
POST /build/prune          POST /build/cancel          GET /info
GET /events                GET /networks               GET /volumes
GET /plugins               GET /swarm                  GET /nodes
GET /services              GET /tasks                  GET /secrets
GET /configs               GET /system/df              GET /auth
POST /networks/create      POST /volumes/create        POST /services/create
POST /secrets/create       POST /configs/create        POST /auth
POST /session              POST /grpc                  POST /swarm/init
POST /system/prune         POST /networks/x/connect    POST /networks/x/disconnect
POST /networks/prune       POST /volumes/prune         DELETE /networks/x
DELETE /volumes/x          POST /plugins/pull          GET /distribution/x/json
OPTIONS /containers/json   TRACE /_ping                get /_ping
GET /_PING                 GET /Containers/json        GET /containers/json/
GET //containers/json      GET /containers//json       GET /containers/../info
POST /_ping                DELETE /containers/x/json   PUT /build
GET /containers/%78/json   GET /containers/x;y/json    GET /containers/-x/json
"""


@pytest.mark.parametrize(("method", "path"), re.findall(r"(\S+) (\S+)", UNKNSETTINGS))
def test_endpoints_that_are_not_there(method: str, path: str) -> None:
    assert chosen(method, path) is None


@pytest.mark.parametrize(
    ("method", "path", "options", "denied"),
    [
        ("POST", "/containers/x/start", {"checkpoint": "c"}, "checkpoint"),
        ("POST", "/containers/x/start", {"checkpoint-dir": "/etc"}, "checkpoint-dir"),
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
        ("POST", "/containers/create", {}, "name"),
        ("POST", "/containers/create", {"name": "postgres"}, "name"),
        ("POST", "/containers/create", {"name": "shopmodel-x"}, "name"),
        ("POST", "/containers/create", {"name": "shop-model-x", "platform": "linux/x"}, "platform"),
        ("POST", "/build", {}, "t"),
        ("POST", "/build", {"t": "postgres:17"}, "t"),
        ("POST", "/build", {"t": ["shop/x:1", "postgres:17"]}, "t"),
        ("POST", "/build", {"t": "shop/x:1\n"}, "t"),
        ("POST", "/build", {"t": "shop/../postgres"}, "t"),
        ("POST", "/build", {"t": "shop/x@sha256:00"}, "t"),
        *(
            ("POST", "/build", {"t": "shop/x", name: value}, name)
            for name, value in {
                "networkmode": "host",
                "remote": "https://example.org/x.git",
                "extrahosts": "postgres:10.0.0.1",
                "securityopt": '["seccomp=unconfined"]',
                "cachefrom": '["postgres:17"]',
                "cgroupparent": "/",
                "session": "x",
                "outputs": '[{"Type": "local"}]',
                "version": "2",
                "squash": "1",
                "isolation": "process",
                "ulimits": '[{"Name": "nproc", "Hard": -1}]',
                "pull": "1",
                "target": "x",
                "platform": "linux/arm64",
                "shmsize": "1",
                "memory": "-1",
                "memswap": "-1",
                "cpuquota": "-1",
                "cpushares": "1024",
                "cpusetcpus": "0-1",
                "buildid": "x",
                "dockerfile": "../Dockerfile",
                "labels": '{"com.docker.compose.project": "other"}',
                "buildargs": '{"A": null}',
            }.items()
        ),
        ("POST", "/build", {"t": "shop/x", "labels": '{"mlops.project": "other"}'}, "labels"),
        ("POST", "/build", {"t": "shop/x", "dockerfile": "a/Dockerfile"}, "dockerfile"),
        ("POST", "/build", {"t": "shop/x", "dockerfile": ".."}, "dockerfile"),
        ("POST", "/build", {"t": "shop/x", "Remote": "https://example.org"}, "Remote"),
    ],
)
def test_options(method: str, path: str, options: dict[str, Any], denied: str) -> None:
    endpoint = chosen(method, path)
    assert endpoint is not None
    with pytest.raises(rules.Denied, match=denied.replace("!", "\\!")):
        endpoint.options("option", options)


def test_a_build_is_always_bounded() -> None:
    endpoint = chosen("POST", "/build")
    assert endpoint is not None
    asked = endpoint.options("option", {"t": "shop/x", "rm": "False", "memory": "0", "q": "False"})
    assert asked == {
        "t": ["shop/x"],
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "memory": str(2 << 30),
        "memswap": str(2 << 30),
        "cpuperiod": "100000",
        "cpuquota": "200000",
    }


@pytest.mark.parametrize("given", [None, '{"label": ["a=b"]}', '{"label": {"a=b": true}}'])
def test_lists_are_narrowed(given: str | None) -> None:
    endpoint = chosen("GET", "/images/json")
    assert endpoint is not None
    asked = endpoint.options("option", {"filters": given} if given else {})
    assert json.loads(asked["filters"])["label"] == [
        *(["a=b"] if given else []),
        "mlops.project=shop",
    ]
