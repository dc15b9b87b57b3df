"""The compose stack as its command line sees it: from a container, by asking the servers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from tasks.base.errors import UnavailableError
from tasks.base.settings import settings
from tasks.stack import health
from tasks.stack.embedded.services import SERVICES
from tasks.stack.service import Service

_TIMEOUT_S = 3.0


def status() -> dict[str, Service]:
    """Every service, asked at once; `pid` is None, for it says nothing outside its container."""
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        pending = {name: pool.submit(check) for name, check in _checks().items()}
        states = {name: future.result() for name, future in pending.items()}
    urls = addresses()
    return {name: Service(urls[name], states[name], None) for name in SERVICES}


def addresses() -> dict[str, str]:
    """Where each service is, for whoever sits at the host."""
    ours = settings()
    return {
        "postgres": f"postgresql://{ours.published['postgres']}",
        "store": ours.published["store"],
        "mlflow": ours.tracking_page,
        "airflow": ours.airflow_page,
        "gateway": ours.gateway_url,
    }


def variables() -> dict[str, str]:
    """What `tasks.base.settings` reads, as a script on the host needs it.

    Raises:
        UnavailableError: The secrets are not made yet.
    """
    ours = settings()
    if not ours.aws_secret_access_key:
        raise UnavailableError("There is no stack yet.", fix="docker compose up -d --wait")
    where = ours.published
    password = quote(_database_password(), safe="")
    login = {
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": ours.mlflow_password.get_secret_value(),
    }
    return {
        "MLOPS_DATABASE": f"postgresql://mlops:{password}@{where['postgres']}/mlops",
        "MLFLOW_TRACKING_URI": where["mlflow"],
        **(login if ours.mlflow_login else {}),
        "MLFLOW_S3_ENDPOINT_URL": where["store"],
        "AWS_ACCESS_KEY_ID": ours.aws_access_key_id or "",
        "AWS_SECRET_ACCESS_KEY": ours.aws_secret_access_key.get_secret_value(),
        "AWS_DEFAULT_REGION": ours.aws_region,
        "MLOPS_AIRFLOW_URL": where["airflow"],
        "MLOPS_AIRFLOW_USER": ours.airflow_user,
        "MLOPS_AIRFLOW_PASSWORD": ours.airflow_password.get_secret_value(),
        "MLOPS_GATEWAY_URL": ours.gateway_url,
    }


def _checks() -> dict[str, Callable[[], str]]:
    ours = settings()
    api, mlflow = urlsplit(ours.airflow_url), urlsplit(ours.tracking_uri)
    gateway, store = urlsplit(ours.gateway_internal), urlsplit(ours.s3_endpoint or "")
    database = urlsplit(ours.database)

    def whole(host: str, port: int) -> bool:
        return health.all_parts(health.airflow(port, host=host))

    return {
        "postgres": lambda: _state(database.hostname, health.postgres(ours.database)),
        "store": lambda: _state(store.hostname, _refuses(ours.s3_endpoint or "")),
        "mlflow": lambda: _state(
            mlflow.hostname, health.mlflow(mlflow.port or 80, host=mlflow.hostname or "")
        ),
        "airflow": lambda: _state(api.hostname, whole(api.hostname or "", api.port or 80)),
        "gateway": lambda: _state(
            gateway.hostname, health.gateway(gateway.port or 80, host=gateway.hostname or "")
        ),
    }


def _state(host: str | None, healthy: bool) -> str:
    """A service that was stopped has no name in the network."""
    if healthy:
        return "running"
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "stopped"
    return "failed"


def _refuses(url: str) -> bool:
    """Whether the store refuses a request that is not signed, as it must."""
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)


def _database_password() -> str:
    """The password of the role `mlops`, from the password file that the settings name."""
    from psycopg2.extensions import parse_dsn

    lines = Path(parse_dsn(settings().database)["passfile"]).read_text().splitlines()
    known = dict(line.split(":", 4)[3:] for line in lines)
    return known["mlops"]
