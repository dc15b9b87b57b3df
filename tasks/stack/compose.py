"""The compose stack as its command line sees it: from a container, by asking the servers."""

from __future__ import annotations

import socket
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
    """Every service; `pid` is `None`, because it means nothing outside the container."""
    config = settings()
    urls = {
        "postgres": f"postgresql://{config.published['postgres']}",
        "store": config.published["store"],
        "mlflow": config.tracking_page,
        "airflow": config.airflow_page,
        "gateway": config.gateway_url,
    }
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        states = dict(zip(SERVICES, pool.map(_state, SERVICES), strict=True))
    return {name: Service(urls[name], states[name], None) for name in SERVICES}


def variables() -> dict[str, str]:
    """The variables that a script on the host needs for `tasks.base.settings`.

    Raises:
        UnavailableError: The stack has not made its secrets yet.
    """
    config = settings()
    if not config.aws_secret_access_key:
        raise UnavailableError("There is no stack yet.", fix="docker compose up -d --wait")
    published = config.published
    password = quote(_database_password(), safe="")
    login = {
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": config.mlflow_password.get_secret_value(),
    }
    return {
        "MLOPS_DATABASE": f"postgresql://mlops:{password}@{published['postgres']}/mlops",
        "MLFLOW_TRACKING_URI": published["mlflow"],
        **(login if config.mlflow_login else {}),
        "MLFLOW_S3_ENDPOINT_URL": published["store"],
        "AWS_ACCESS_KEY_ID": config.aws_access_key_id or "",
        "AWS_SECRET_ACCESS_KEY": config.aws_secret_access_key.get_secret_value(),
        "AWS_DEFAULT_REGION": config.aws_region,
        "MLOPS_AIRFLOW_URL": published["airflow"],
        "MLOPS_AIRFLOW_USER": config.airflow_user,
        "MLOPS_AIRFLOW_PASSWORD": config.airflow_password.get_secret_value(),
        "MLOPS_GATEWAY_URL": config.gateway_url,
    }


def _state(service: str) -> str:
    config = settings()
    url = {
        "postgres": config.database,
        "store": config.s3_endpoint or "",
        "mlflow": config.tracking_uri,
        "airflow": config.airflow_url,
        "gateway": config.gateway_internal,
    }[service]
    address = urlsplit(url)
    host = address.hostname or ""
    match service:
        case "postgres":
            healthy = health.postgres(url)
        case "store":
            healthy = _refuses_unsigned(url)
        case "airflow":
            healthy = health.all_parts(health.airflow(address.port or 80, host=host))
        case _:
            healthy = health.web(address.port or 80, host=host)
    if healthy:
        return "running"
    return "failed" if _resolves(host) else "stopped"


def _resolves(host: str) -> bool:
    """Whether the network knows the name; a stopped container has none."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _refuses_unsigned(url: str) -> bool:
    """Whether the store answers: it refuses an unsigned request."""
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN)


def _database_password() -> str:
    """The password of the role `mlops`, from the password file that the settings name."""
    from psycopg2.extensions import parse_dsn

    lines = Path(parse_dsn(settings().database)["passfile"]).read_text().splitlines()
    passwords = dict(line.split(":", 4)[3:] for line in lines)
    return passwords["mlops"]
