"""The gateway under its own name: HTTPS only, with a certificate from Caddy's own authority."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.serving.gateway import caddy
from tasks.stack.embedded import ports
from tests.waiting import until

NAME = "localhost"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> caddy.Site:
    page = tmp_path_factory.mktemp("page")
    (page / "index.html").write_text("the start page")
    return caddy.Site(
        listen=f"127.0.0.1:{ports.unused()}",
        plain=f"127.0.0.1:{ports.unused()}",
        domain=NAME,
        tls="internal",
        page=page,
        airflow="",
        mlflow="127.0.0.1:1",
        mlflow_open=False,
    )


@pytest.fixture(scope="module")
def trusted(site: caddy.Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    """A running gateway; the context trusts its authority."""
    folder = tmp_path_factory.mktemp("https")
    (folder / "caddy.json").write_text(json.dumps(caddy.configuration(site, {"one": folder})))
    program = Path(sysconfig.get_path("scripts")) / "caddy"
    env = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    server = subprocess.Popen(
        [program, "run", "--config", folder / "caddy.json"], env=env, stderr=subprocess.DEVNULL
    )
    root = folder / "caddy/pki/authorities/local/root.crt"

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(root))

    def answers() -> bool:
        try:  # the authority comes before the certificate
            return root.exists() and httpx.get(f"{url(site)}/", verify=trust()).is_success
        except httpx.TransportError:
            return False

    try:
        until(answers, 30, "the gateway answers")
        yield trust()
    finally:
        server.terminate()
        server.wait(20)


def url(site: caddy.Site, scheme: str = "https") -> str:
    return f"{scheme}://{NAME}:{site.listen.rpartition(':')[2]}"


def test_the_certificate_is_the_names(site: caddy.Site, trusted: ssl.SSLContext) -> None:
    assert httpx.get(f"{url(site)}/", verify=trusted).text == "the start page"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url(site)}/")  # by default nobody trusts the authority
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{site.listen}/", verify=trusted)  # another name has no certificate


def test_plain_http_is_redirected_to_https(site: caddy.Site, trusted: ssl.SSLContext) -> None:
    answer = httpx.get(f"{url(site, 'http')}/airflow/x")
    assert answer.is_redirect
    assert answer.headers["location"] == f"{url(site)}/airflow/x"


def test_tasks_reach_the_models_alone_without_https(
    site: caddy.Site, trusted: ssl.SSLContext
) -> None:
    assert httpx.get(f"http://{site.plain}/health").json() == {"status": "ok"}
    assert httpx.get(f"http://{site.plain}/models/one/ping", timeout=20).status_code == 503
    for path in ("/", "/mlflow/", "/airflow/"):
        assert httpx.get(f"http://{site.plain}{path}").status_code == 404


def test_mlflow_without_a_login_is_not_open_under_a_name(
    site: caddy.Site, trusted: ssl.SSLContext
) -> None:
    answer = httpx.get(f"{url(site)}/mlflow/", verify=trusted)
    assert answer.status_code == 403
    assert "MLOPS_MLFLOW_LOGIN=on" in answer.text
    opened = caddy.configuration(replace(site, mlflow_open=True), {})
    assert "MLOPS_MLFLOW_LOGIN" not in json.dumps(opened)
