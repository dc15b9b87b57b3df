"""The only holder of the Docker socket: passes on what deploying our models needs.

    python3 filter.py            # serve; runs as process 1 too, since it handles SIGTERM
    python3 filter.py health     # exit with 0 if the filter and the engine behind it answer

Ours are images and containers with the label `mlops.project=FILTER_PROJECT`. Whatever is not in the
tables of policy.py is denied: endpoints, their options, the fields of a container, their values.
An allowed request is not passed on as received. It is written anew from what was checked: one
request per connection, names replaced by the ids they stood for, JSON without unchecked fields. So
the engine cannot read a request differently than the filter did. A denial is one line in the log
and a 403 answer that states what was asked and what is allowed.

Environment, with defaults:
    FILTER_PROJECT         required: the project in the label
    FILTER_NETWORK         required: the only network that containers may join
    FILTER_SOCKET          /var/run/docker.sock
    FILTER_LISTEN          :2375
    FILTER_PREFIX          mlops: images are tagged PREFIX/NAME:TAG
    FILTER_BASES           python:3.11-slim: images to build from, separated by spaces
    FILTER_MAX_CPUS        2: per container, and per build
    FILTER_MAX_MEMORY      2g: per container, and per build
    FILTER_MAX_PIDS        512: per container
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
    Settings,
    create_rule,
    endpoint_table,
    label_table,
    read_settings,
    tag_rule,
)
from rules import Denied, Refusal, mapping, parse_json
from wire import IDLE_S, PIECE, Body, ClientGoneError, Request, answer, read_head, read_query

ENGINE_S = 60
GRACE_S = 0.2
"""How long the engine has to hang up after an answer that the client knows to be complete."""
MAX_JSON, MAX_CONTEXT = 1 << 18, 1 << 34
MAX_CLIENTS, MAX_BUILDS = 128, 2

log = logging.getLogger("filter")
Feed = Callable[[asyncio.StreamWriter], Awaitable[None]]


class EngineGoneError(Refusal):
    """The engine does not answer, or hung up."""

    def __init__(self, reason: object) -> None:
        super().__init__(502, f"docker filter: the engine does not answer: {reason}")


@dataclass(frozen=True)
class Client:
    """Both ends of a client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Engine:
    """The engine behind its socket; it may restart, because each request opens a connection."""

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection and close it at the end."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as err:
            raise EngineGoneError(err) from err
        try:
            yield reader, writer
        finally:
            writer.close()

    async def get(self, path: str) -> Any:
        """Return the JSON at a path; raises Refusal with the engine's own message."""
        async with self.connected() as (reader, writer):
            writer.write(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode("ascii"))
            try:
                async with asyncio.timeout(ENGINE_S):
                    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            except (TimeoutError, ConnectionError) as err:
                raise EngineGoneError(err) from err
        try:
            status, content = int(head.split()[1]), json.loads(body)
        except (ValueError, IndexError) as err:
            raise EngineGoneError("it hung up, or is not an engine") from err
        if status != HTTPStatus.OK:
            raise Refusal(status, str(content["message"]))
        return content

    async def relay(
        self, head: str, client: Client, body: bytes = b"", feed: Feed | None = None
    ) -> int:
        """Send a request and stream its answer to the client; returns the answer's status."""
        async with self.connected() as (reader, writer):
            writer.write(f"{head}Host: docker\r\nConnection: close\r\n\r\n".encode("ascii") + body)
            if feed:
                with suppress(ConnectionError):  # the engine answers before it has read everything
                    await feed(writer)
            forwarding = asyncio.create_task(_forward(reader, client.writer))
            hangup = asyncio.create_task(_hangup(client.reader))
            await asyncio.wait({forwarding, hangup}, return_when=asyncio.FIRST_COMPLETED)
            hangup.cancel()
            await asyncio.wait({forwarding}, timeout=GRACE_S)
            if not forwarding.done():
                forwarding.cancel()
                raise ClientGoneError
            return forwarding.result()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
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


async def _hangup(reader: asyncio.StreamReader) -> None:
    """Return when the client hangs up; what it sends until then never reaches the engine."""
    with suppress(ConnectionError):
        while await reader.read(PIECE):
            pass


class Filter:
    """The service."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._engine = settings, Engine(settings.socket)
        self._endpoints, self._create_rule = endpoint_table(settings), create_rule(settings)
        self._tag, self._label = tag_rule(settings), mapping(label_table(settings))
        self._clients = 0
        self._creating, self._building = asyncio.Lock(), asyncio.Semaphore(MAX_BUILDS)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection: one request, one answer."""
        target, client = "-", Client(reader, writer)
        peer = (writer.get_extra_info("peername") or "-")[0]
        self._clients += 1
        try:
            self._admit()
            request = await read_head(reader)
            target = f"{request.method} {request.path[:200]}"
            status = await self._answer(request, client)
            level = logging.DEBUG if request.path.endswith("/_ping") else logging.INFO
            log.log(level, "ALLOW %s %s: %s", peer, target, status)
        except Refusal as err:
            kind = "DENY" if err.status in {400, 403, 408, 413, 431} else "FAIL"
            log.warning("%s %s %s: %s", kind, peer, target, err.message)
            await answer(reader, writer, err.status, {"message": err.message})
        except (ClientGoneError, ConnectionError, TimeoutError):
            log.info("GONE %s %s", peer, target)
        finally:
            self._clients -= 1
            writer.close()

    def _admit(self) -> None:
        if self._clients > MAX_CLIENTS:
            raise Refusal(503, f"docker filter: more than {MAX_CLIENTS} connections")

    async def _answer(self, request: Request, client: Client) -> int:
        endpoint, version, names = self._find(request)
        options = endpoint.options("option", read_query(request.query))
        limits = {"create": MAX_JSON, "build": MAX_CONTEXT}
        body = Body(client.reader, request.headers, limits.get(endpoint.kind, MAX_JSON))
        if endpoint.kind == "build":
            return await self._build(version, options, request, body, client)
        if endpoint.kind == "create":
            return await self._create(version, options, body, client)
        if body:
            raise Denied("body", "some", "none")
        path = version + endpoint.path.format(**await self._resolve(names, request.method))
        target = f"{path}?{urlencode(options)}"
        if endpoint.kind == "list":
            return await self._list(target, client)
        head = f"{request.method} {target} HTTP/1.1\r\nContent-Length: 0\r\n"
        return await self._engine.relay(head, client)

    def _find(self, request: Request) -> tuple[Endpoint, str, dict[str, str]]:
        path = request.path.replace("%40", "@")  # docker-py quotes the @ of a digest
        match = re.fullmatch(r"(/v1\.[0-9]{2})?(/[A-Za-z0-9_.:@/-]*)", path)
        for endpoint in self._endpoints if match and ".." not in path else ():
            names = endpoint.match(request.method, match[2])  # type: ignore[index]
            if names is not None:
                return endpoint, match[1] or "", names  # type: ignore[index]
        known = ", ".join(f"{endpoint.methods} {endpoint.path}" for endpoint in self._endpoints)
        raise Denied("endpoint", f"{request.method} {request.path}", known)

    async def _resolve(self, names: dict[str, str], method: str) -> dict[str, str]:
        """Replace names by full ids; denies what is not ours.

        An image is deleted by its name if the request names it: other images may share its id.
        """
        if name := names.get("container"):
            container = await self._engine.get(f"/containers/{name}/json")
            if not self._settings.owns(container["Config"]["Labels"]):
                allowed = f"those labelled {PROJECT}={self._settings.project}"
                raise Denied("container", name, allowed)
            return {"container": container["Id"]}
        if name := names.get("image"):
            image = await self._image(name, readable=method == "GET")
            tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
            by_name = method == "DELETE" and tagged in (image["RepoTags"] or [])
            return {"image": tagged if by_name else image["Id"]}
        return {}

    async def _image(self, name: str, *, readable: bool = False) -> Any:
        """Inspect one of our images, or a base if it is only to be read."""
        image = await self._engine.get(f"/images/{quote(name, safe='/:@')}/json")
        names = [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
        ours = self._settings.owns_image(image["Config"]["Labels"], names)
        if not ours and not (readable and name in self._settings.bases):
            label = f"{PROJECT}={self._settings.project}"
            allowed = f"those labelled {label} and named {self._settings.prefix}/… only"
            raise Denied("image", name, allowed)
        return image

    async def _list(self, target: str, client: Client) -> int:
        items = await self._engine.get(target)
        ours = [item for item in items if self._settings.owns(item["Labels"])]
        if target.partition("?")[0].endswith("/images/json"):
            owns = self._settings.owns_image
            ours = [item for item in ours if owns(item["Labels"], item["RepoTags"] or [])]
        await answer(client.reader, client.writer, HTTPStatus.OK, ours)
        return HTTPStatus.OK

    async def _create(self, version: str, options: Any, body: Body, client: Client) -> int:
        container = self._create_rule("", parse_json(await body.whole()))
        image = await self._image(container["Image"])
        if image["Config"].get("Volumes"):
            allowed = "an image without VOLUME, whose data nothing bounds"
            raise Denied("Image", container["Image"], allowed)
        container["Image"] = image["Id"]  # the tag may move before the engine reads it
        container["Labels"] = self._blank_labels(image["Config"]["Labels"]) | container["Labels"]
        content = json.dumps(container).encode("ascii")
        head = (
            f"POST {version}/containers/create?{urlencode(options)} HTTP/1.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        async with self._creating:  # or two at once could both take the last place
            await self._check_count()
            return await self._engine.relay(head, client, content)

    def _blank_labels(self, labels: dict[str, str] | None) -> dict[str, str]:
        """Empty the image's labels that its container would inherit but may not carry."""
        blank = {}
        for key, value in (labels or {}).items():
            try:
                self._label("Labels", {key: value})
            except Denied:
                blank[key] = ""
        return blank

    async def _check_count(self) -> None:
        project = self._settings.project
        filters = {"label": [f"{PROJECT}={project}", f"{COMPOSE}project={project}"]}
        query = urlencode({"all": "1", "filters": json.dumps(filters)})
        count = len(await self._engine.get(f"/containers/json?{query}"))
        if count >= self._settings.containers:
            raise Denied("containers", count + 1, f"{self._settings.containers} at a time")

    async def _build(
        self, version: str, options: Any, request: Request, body: Body, client: Client
    ) -> int:
        for tag in options["t"]:
            await self._check_tag(tag)
        labels = json.loads(options.get("labels", "{}")) | {PROJECT: self._settings.project}
        arguments = json.loads(options.get("buildargs", "{}"))
        query = urlencode(options | {"labels": json.dumps(labels)}, doseq=True)
        head = (
            f"POST {version}/build?{query} HTTP/1.1\r\n"
            "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n"
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

            name = options.get("dockerfile", "Dockerfile")
            last, dockerfile = await copy_context(body, name, send)
            for source in sources(dockerfile, arguments):
                await self._check_source(source)
            await send(last)
            writer.write(b"0\r\n\r\n")
            await writer.drain()

        async with self._building:
            return await self._engine.relay(head, client, feed=feed)

    async def _check_tag(self, tag: str) -> None:
        """A tag must be free or ours, because building moves it off the image that has it."""
        try:
            await self._image(tag)
        except Denied:
            raise
        except Refusal as err:
            if err.status != HTTPStatus.NOT_FOUND:
                raise

    async def _check_source(self, source: str) -> None:
        """Only bases may be absent: the engine pulls an absent image from a registry."""
        if source in self._settings.bases:
            return
        if not re.fullmatch(REFERENCE, source):
            raise Denied("Dockerfile", source, "the name of an image")
        self._tag("Dockerfile FROM (or one of FILTER_BASES)", source)
        await self._image(source)


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    host, _, port = settings.listen.rpartition(":")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    serve = Filter(settings).serve
    server = await asyncio.start_server(serve, host or None, int(port), limit=PIECE)
    log.info("listening on %s for %s", settings.listen, settings)
    await stopped.wait()
    server.close()


def health(settings: Settings) -> bool:
    """Whether the service and its engine answer."""
    host, _, port = settings.listen.rpartition(":")
    connection = http.client.HTTPConnection(host or "127.0.0.1", int(port), timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    configured = read_settings(os.environ)
    if sys.argv[1:] == ["health"]:
        sys.exit(not health(configured))
    asyncio.run(main(configured))
