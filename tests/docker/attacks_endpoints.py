"""Attacks by endpoints: those the filter does not know, and known ones on what is not ours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urlencode

from tests.docker.filtering import archive, http
from tests.docker.world import Attack, World, call


def secret(world: World) -> str:
    return world.secret


def victims_name(world: World) -> str:
    return world.victim


def foreign_image(world: World) -> str:
    return world.foreign_image


EXEC = {"Cmd": ["cat", "/etc/hostname"], "AttachStdout": True}
FILE = archive({"x": "y"})
DENIED_ONLY = """
POST /containers/x/unpause POST /containers/x/resize   POST /containers/x/copy
GET /containers/x/changes  GET /containers/x/export    GET /containers/x/attach/ws
PUT /containers/x/archive  HEAD /containers/x/archive  GET /containers/x
POST /containers/prune     DELETE /containers/x/json   GET /containers//json
POST /exec/x/start         GET /exec/x/json            GET /auth
POST /images/load          GET /images/get             GET /images/search
POST /images/x/push        GET /images/x/get           POST /images/prune
POST /build/prune          POST /build/cancel          PUT /build
GET /events                GET /plugins                POST /plugins/pull
GET /swarm                 GET /nodes                  GET /services
GET /tasks                 GET /secrets                GET /configs
GET /system/df             POST /system/prune          POST /auth
POST /networks/prune       POST /volumes/prune         DELETE /networks/x
DELETE /volumes/x          POST /services/create       POST /secrets/create
POST /configs/create       POST /session               POST /grpc
POST /swarm/init           POST /swarm/join            GET /distribution/python/json
OPTIONS /containers/json   TRACE /_ping                POST /_ping
GET /_PING                 GET /containers/%78/json    GET /containers/-x/json
"""
"""Not sent to the bare engine: by themselves they do no visible harm, or they would harm others."""

UNKNOWN = (
    Attack("restart", call("POST", "/containers/{victim}/restart?t=0")),
    Attack("pause", call("POST", "/containers/{victim}/pause")),
    Attack("rename", call("POST", "/containers/{victim}/rename?name={marker}-x")),
    Attack("update", call("POST", "/containers/{victim}/update", {"PidsLimit": 9})),
    Attack("top", call("GET", "/containers/{victim}/top"), lambda _: "python3"),
    Attack("attach", call("POST", "/containers/{victim}/attach?logs=1&stdout=1"), secret),
    Attack("exec", call("POST", "/containers/{victim}/exec", EXEC)),
    Attack("exec in our own", call("POST", "/containers/{own}/exec", {**EXEC, "Privileged": True})),
    Attack("update our own", call("POST", "/containers/{own}/update", {"PidsLimit": -1})),
    Attack("rename our own", call("POST", "/containers/{own}/rename?name={marker}-postgres")),
    Attack(
        "copy out",
        call("GET", "/containers/{victim}/archive?path=/etc/hostname"),
        lambda _: "hostname",
    ),
    Attack("commit", call("POST", "/commit?container={victim}&repo={marker}/stolen", {})),
    Attack(
        "commit our own",
        call("POST", "/commit?container={own}&repo={marker}-foreign/app&tag=1", {}),
    ),
    Attack("info", call("GET", "/info"), lambda _: "DockerRootDir"),
    Attack("networks", call("GET", "/networks"), lambda w: w.other),
    Attack(
        "named network", lambda w: http("POST", "/networks/create", {"Name": f"{w.marker}-net"})
    ),
    Attack("connect", lambda w: http("POST", f"/networks/{w.other}/connect", {"Container": w.own})),
    Attack(
        "disconnect",
        lambda w: http("POST", f"/networks/{w.other}/disconnect", {"Container": w.victim}),
    ),
    Attack("volumes of all", call("GET", "/volumes"), lambda _: "Volumes"),
    Attack(
        "volume",
        lambda w: http(
            "POST",
            "/volumes/create",
            {
                "Name": f"{w.marker}-v",
                "DriverOpts": {"type": "none", "o": "bind", "device": "/"},
            },
        ),
    ),
    Attack("history", call("GET", "/images/{image}/history"), secret),
    Attack("import", call("POST", "/images/create?fromSrc=-&repo={marker}/imported", FILE)),
    Attack(
        "import from a URL", call("POST", "/images/create?fromSrc={url}&repo={marker}/imported")
    ),
    Attack("pull", call("POST", "/images/create?fromImage=localhost:1/x&tag=1"), real=False),
    Attack(
        "tag a foreign image as ours",
        call("POST", "/images/{image}/tag?repo={marker}/stolen&tag=1"),
    ),
    Attack(
        "tag ours as a foreign image",
        call("POST", "/images/{marker}/own:1/tag?repo={marker}-foreign/app&tag=1"),
    ),
    Attack(
        "out of the images", call("GET", "/images/x/../../containers/{victim}/json"), real=False
    ),
    *(
        Attack(f"{method} {path}", call(method, path), real=False)
        for method, path in re.findall(r"(\S+) (\S+)", DENIED_ONLY)
    ),
)

KNOWN = (
    Attack("stop", call("POST", "/containers/{victim}/stop?t=0")),
    Attack("stop by id", call("POST", "/containers/{id}/stop?t=0")),
    Attack("stop by the start of its id", call("POST", "/containers/{short}/stop?t=0")),
    Attack("kill", call("POST", "/v1.41/containers/{victim}/kill")),
    Attack("kill by an old version", call("POST", "/v1.24/containers/{victim}/kill")),
    Attack("remove", call("DELETE", "/containers/{victim}?force=1")),
    Attack("remove by the start of its id", call("DELETE", "/containers/{short}?force=1")),
    Attack("inspect", call("GET", "/containers/{victim}/json"), secret),
    Attack("inspect by the start of its id", call("GET", "/containers/{short}/json"), secret),
    Attack("logs", call("GET", "/containers/{victim}/logs?stdout=1"), secret),
    Attack(
        "stats",
        call("GET", "/containers/{victim}/stats?stream=0&one-shot=1"),
        lambda _: "memory_stats",
    ),
    Attack("wait", call("POST", "/containers/{victim}/wait?condition=not-running"), real=False),
    Attack("list", call("GET", "/containers/json?all=1"), victims_name, served=True),
    Attack(
        "list with size",
        call("GET", "/v1.41/containers/json?all=1&size=1"),
        victims_name,
        served=True,
    ),
    Attack(
        "list by name",
        call("GET", "/containers/json?filters=%7B%22name%22:[%22{victim}%22]%7D"),
        victims_name,
        served=True,
    ),
    Attack("list images", call("GET", "/images/json"), foreign_image, served=True),
    Attack(
        "list images by name",
        lambda w: http(
            "GET",
            "/images/json?"
            + urlencode(
                {"filters": json.dumps({"reference": [w.foreign_image], "label": {"x": False}})}
            ),
        ),
        foreign_image,
        real=False,
        served=True,
    ),
    Attack("inspect an image", call("GET", "/images/{image}/json"), secret),
    Attack("inspect an image by id", call("GET", "/images/{image_id}/json"), secret),
    Attack("remove an image", call("DELETE", "/images/{image}?force=1")),
    Attack("remove an image by id", call("DELETE", "/images/{image_id}?force=1"), real=False),
)

ENDPOINTS = (
    *(replace(attack, denial="endpoint") for attack in UNKNOWN),
    *KNOWN,
    Attack(
        "list all images",
        call("GET", "/images/json?all=1&digests=1"),
        foreign_image,
        denial="option.digests",
    ),
    Attack(
        "list around a victim",
        call("GET", "/containers/json?all=1&since={victim}"),
        real=False,
        denial="option.since",
    ),
    Attack(
        "checkpoint",
        call("POST", "/containers/{own}/start?checkpoint-dir=/etc&checkpoint=x"),
        real=False,
        denial="option.checkpoint-dir",
    ),
    Attack(
        "start with a body",
        call("POST", "/containers/{own}/start", {"Binds": ["/:/x"]}),
        real=False,
        denial="body",
    ),
)
