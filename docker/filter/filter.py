"""The only holder of the Docker socket: passes on what deploying models needs, and on what is ours.

    python3 filter.py            # serve, as process 1 too: it heeds SIGTERM
    python3 filter.py health     # exit code 0 when it and the engine behind it answer

Ours are images and containers with the label `mlops.project=FILTER_PROJECT`. Whatever is not in the
tables of policy.py is denied: endpoints, their options, the fields of a container, their values.
What is allowed is not passed on as it came but written anew from what was checked: one request a
connection, names replaced by the ids they stood for, JSON without fields that nobody checked. So
the engine has nothing to read differently from how it was read here. A denial is a line in the log
and an answer 403 that says what was asked and what is allowed.

Environment, with defaults:
    FILTER_PROJECT         required: the project in the label
    FILTER_NETWORK         required: the one network of containers
    FILTER_SOCKET          /var/run/docker.sock
    FILTER_LISTEN          :2375
    FILTER_PREFIX          mlops: images are tagged PREFIX/NAME:TAG
    FILTER_BASES           python:3.11-slim: images to build from, separated by blanks
    FILTER_MAX_CPUS        2: of a container, and of a build
    FILTER_MAX_MEMORY      2g: of a container, and of a build
    FILTER_MAX_PIDS        512: of a container
    FILTER_MAX_CONTAINERS  32
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from contexts import copy_context, sources
from policy import (
    COMPOSE,
    PROJECT,
    REFERENCE,
    Endpoint,
    Own,
    create_rule,
    endpoint_table,
    label_table,
    own_of,
    tag_rule,
)
from rules import Denied, Refusal, pairs, parse_json
from wire import IDLE_S, PIECE, Body, ClientGoneError, Request, answer, read_head, read_query

ENGINE_S = 60
GRACE_S = 0.2
"""For the engine to hang up after an answer that the client knows to be whole."""
MAX_JSON, MAX_CONTEXT = 1 << 18, 1 << 34
MAX_CLIENTS, MAX_BUILDS = 128, 2

log = logging.getLogger("filter")
Feed = Callable[[asyncio.StreamWriter], Awaitable[None]]


class EngineGoneError(Refusal):
    """The engine does not answer, or hung up."""

    def __init__(self, why: object) -> None:
        super().__init__(502, f"docker filter: the engine does not answer: {why}")


@dataclass(frozen=True)
class Client:
    """Whoever asks."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Engine:
    """The engine behind its socket; a connection for each request, so that it may restart."""

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of its own."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as err:
            raise EngineGoneError(err) from err
        try:
            yield reader, writer
        finally:
            writer.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path; raises Refusal with the engine's own words."""
        async with self.connected() as (reader, writer):
            writer.write(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode("ascii"))
            try:
                async with asyncio.timeout(ENGINE_S):
                    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            except (TimeoutError, ConnectionError) as err:
                raise EngineGoneError(err) from err
        try:
            status, found = int(head.split()[1]), json.loads(body)
        except (ValueError, IndexError) as err:
            raise EngineGoneError("it hung up, or is none") from err
        if status != HTTPStatus.OK:
            raise Refusal(status, str(found["message"]))
        return found

    async def relay(
        self, head: str, client: Client, body: bytes = b"", feed: Feed | None = None
    ) -> int:
        """Send a request, and its answer to the client as it comes; returns its status."""
        async with self.connected() as (reader, writer):
            writer.write(f"{head}Host: docker\r\nConnection: close\r\n\r\n".encode("ascii") + body)
            if feed:
                with suppress(ConnectionError):  # the engine answers before it has read everything
                    await feed(writer)
            flow = asyncio.create_task(_flow(reader, client.writer))
            gone = asyncio.create_task(_hung_up(client.reader))
            await asyncio.wait({flow, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            await asyncio.wait({flow}, timeout=GRACE_S)
            if not flow.done():
                flow.cancel()
                raise ClientGoneError
            return flow.result()


async def _flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        first = piece = await reader.read(PIECE)
    except ConnectionError as err:
        raise EngineGoneError(err) from err
    if not first:
        raise EngineGoneError("it hung up")
    while piece:
        writer.write(piece)
        async with asyncio.timeout(IDLE_S):
            await writer.drain()
        piece = await reader.read(PIECE)
    return int(first.split(maxsplit=2)[1])


async def _hung_up(reader: asyncio.StreamReader) -> None:
    """Return when the client has; whatever it says meanwhile is not for the engine."""
    with suppress(ConnectionError):
        while await reader.read(PIECE):
            pass


class Filter:
    """The service."""

    def __init__(self, own: Own) -> None:
        self._own, self._engine = own, Engine(own.socket)
        self._endpoints, self._create_rule = endpoint_table(own), create_rule(own)
        self._tag, self._label = tag_rule(own), pairs(label_table(own))
        self._clients = 0
        self._creating, self._building = asyncio.Lock(), asyncio.Semaphore(MAX_BUILDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection: one request, one answer."""
        asked, client = "-", Client(reader, writer)
        who = (writer.get_extra_info("peername") or "-")[0]
        self._clients += 1
        try:
            self._admit()
            request = await read_head(reader)
            asked = f"{request.method} {request.path[:200]}"
            status = await self._answer(request, client)
            level = logging.DEBUG if request.path.endswith("/_ping") else logging.INFO
            log.log(level, "ALLOW %s %s: %s", who, asked, status)
        except Refusal as err:
            kind = "DENY" if err.status in {400, 403, 408, 413, 431} else "FAIL"
            log.warning("%s %s %s: %s", kind, who, asked, err.message)
            await answer(reader, writer, err.status, {"message": err.message})
        except (ClientGoneError, ConnectionError, TimeoutError):
            log.info("GONE %s %s", who, asked)
        finally:
            self._clients -= 1
            writer.close()

    def _admit(self) -> None:
        if self._clients > MAX_CLIENTS:
            raise Refusal(503, f"docker filter: more than {MAX_CLIENTS} connections")

    async def _answer(self, request: Request, client: Client) -> int:
        endpoint, version, names = self._find(request)
        asked = endpoint.options("option", read_query(request.query))
        limits = {"create": MAX_JSON, "build": MAX_CONTEXT}
        body = Body(client.reader, request.headers, limits.get(endpoint.kind, MAX_JSON))
        if endpoint.kind == "build":
            return await self._build(version, asked, request, body, client)
        if endpoint.kind == "create":
            return await self._create(version, asked, body, client)
        if body:
            raise Denied("body", "some", "none")
        target = version + endpoint.path.format(**await self._resolved(names, request.method))
        head = f"{request.method} {target}?{urlencode(asked)} HTTP/1.1\r\nContent-Length: 0\r\n"
        if endpoint.kind == "list":
            return await self._list(f"{target}?{urlencode(asked)}", client)
        return await self._engine.relay(head, client)

    def _find(self, request: Request) -> tuple[Endpoint, str, dict[str, str]]:
        path = request.path.replace("%40", "@")  # docker-py quotes the @ of a digest
        match = re.fullmatch(r"(/v1\.[0-9]{2})?(/[A-Za-z0-9_.:@/-]*)", path)
        for endpoint in self._endpoints if match and ".." not in path else ():
            names = endpoint.match(request.method, match[2])  # type: ignore[index]
            if names is not None:
                return endpoint, match[1] or "", names  # type: ignore[index]
        known = ", ".join(f"{one.methods} {one.path}" for one in self._endpoints)
        raise Denied("endpoint", f"{request.method} {request.path}", known)

    async def _resolved(self, names: dict[str, str], method: str) -> dict[str, str]:
        """The full id of what is named, once it is known to be ours.

        An image is deleted by its name where it was given one: others may share its id.
        """
        if container := names.get("container"):
            found = await self._engine.get(f"/containers/{container}/json")
            if not self._own.owns(found["Config"]["Labels"]):
                raise Denied(
                    "container", container, f"those labelled {PROJECT}={self._own.project}"
                )
            return {"container": found["Id"]}
        if image := names.get("image"):
            found = await self._image(image, readable=method == "GET")
            full = image if ":" in image.rpartition("/")[2] else f"{image}:latest"
            named = method == "DELETE" and full in (found["RepoTags"] or [])
            return {"image": full if named else found["Id"]}
        return {}

    async def _image(self, name: str, *, readable: bool = False) -> Any:
        """An image of ours; a base too, if it is only to be read."""
        found = await self._engine.get(f"/images/{quote(name, safe='/:@')}/json")
        names = [*(found["RepoTags"] or []), *(found["RepoDigests"] or [])]
        ours = self._own.owns_image(found["Config"]["Labels"], names)
        if not ours and not (readable and name in self._own.bases):
            allowed = (
                f"those labelled {PROJECT}={self._own.project} and named {self._own.prefix}/… only"
            )
            raise Denied("image", name, allowed)
        return found

    async def _list(self, target: str, client: Client) -> int:
        found = await self._engine.get(target)
        ours = [one for one in found if self._own.owns(one["Labels"])]
        if target.partition("?")[0].endswith("/images/json"):
            ours = [
                one for one in ours if self._own.owns_image(one["Labels"], one["RepoTags"] or [])
            ]
        await answer(client.reader, client.writer, HTTPStatus.OK, ours)
        return HTTPStatus.OK

    async def _create(self, version: str, asked: Any, body: Body, client: Client) -> int:
        wanted = self._create_rule("", parse_json(await body.whole()))
        image = await self._image(wanted["Image"])
        if image["Config"].get("Volumes"):
            raise Denied("Image", wanted["Image"], "one without VOLUME, whose data nothing bounds")
        wanted["Image"] = image["Id"]  # which no tag that moves meanwhile can change
        wanted["Labels"] = self._blanked(image["Config"]["Labels"]) | wanted["Labels"]
        content = json.dumps(wanted).encode("ascii")
        head = (
            f"POST {version}/containers/create?{urlencode(asked)} HTTP/1.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        async with self._creating:  # or two at once might both be the last one allowed
            await self._room_for_one()
            return await self._engine.relay(head, client, content)

    def _blanked(self, labels: dict[str, str] | None) -> dict[str, str]:
        """A container inherits its image's labels: those that it may not carry, emptied."""
        blank = {}
        for key, value in (labels or {}).items():
            try:
                self._label("Labels", {key: value})
            except Denied:
                blank[key] = ""
        return blank

    async def _room_for_one(self) -> None:
        wanted = {
            "label": [f"{PROJECT}={self._own.project}", f"{COMPOSE}project={self._own.project}"]
        }
        asked = urlencode({"all": "1", "filters": json.dumps(wanted)})
        count = len(await self._engine.get(f"/containers/json?{asked}"))
        if count >= self._own.containers:
            raise Denied("containers", count + 1, f"{self._own.containers} at a time")

    async def _build(
        self, version: str, asked: Any, request: Request, body: Body, client: Client
    ) -> int:
        for tag in asked["t"]:
            await self._not_foreign(tag)
        labels = json.loads(asked.get("labels", "{}")) | {PROJECT: self._own.project}
        arguments = json.loads(asked.get("buildargs", "{}"))
        head = (
            f"POST {version}/build?{urlencode(asked | {'labels': json.dumps(labels)}, doseq=True)} "
            "HTTP/1.1\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n"
        )
        if registries := request.headers.get("x-registry-config"):
            if not re.fullmatch(r"[A-Za-z0-9_=+/-]+", registries):
                raise Denied("X-Registry-Config", registries, "base64")
            head += f"X-Registry-Config: {registries}\r\n"

        async def feed(writer: asyncio.StreamWriter) -> None:
            async def send(piece: bytes) -> None:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
                async with asyncio.timeout(ENGINE_S):
                    await writer.drain()

            last, dockerfile = await copy_context(body, asked.get("dockerfile", "Dockerfile"), send)
            for source in sources(dockerfile, arguments):
                await self._buildable(source)
            await send(last)
            writer.write(b"0\r\n\r\n")
            await writer.drain()

        async with self._building:
            return await self._engine.relay(head, client, feed=feed)

    async def _not_foreign(self, tag: str) -> None:
        """A tag may be free or ours: it leaves the image that has it now."""
        try:
            await self._image(tag)
        except Denied:
            raise
        except Refusal as err:
            if err.status != HTTPStatus.NOT_FOUND:
                raise

    async def _buildable(self, source: str) -> None:
        """One absent would be pulled from a registry: of those, only the bases."""
        if source in self._own.bases:
            return
        if not re.fullmatch(REFERENCE, source):
            raise Denied("Dockerfile", source, "the name of an image")
        self._tag("Dockerfile FROM (or one of FILTER_BASES)", source)
        await self._image(source)


async def main(own: Own) -> None:
    """Serve until SIGTERM or SIGINT."""
    host, _, port = own.listen.rpartition(":")
    stopped = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    server = await asyncio.start_server(Filter(own).serve, host or None, int(port), limit=PIECE)
    log.info("listening on %s for %s", own.listen, own)
    await stopped.wait()
    server.close()


def health(own: Own) -> bool:
    """Whether the service and its engine answer."""
    host, _, port = own.listen.rpartition(":")
    connection = http.client.HTTPConnection(host or "127.0.0.1", int(port), timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    found = own_of(os.environ)
    if sys.argv[1:] == ["health"]:
        sys.exit(not health(found))
    asyncio.run(main(found))
