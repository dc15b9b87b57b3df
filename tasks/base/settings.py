"""Every setting of the project, read once from the environment and the stack's `env` file.

No other module reads settings from `os.environ` (the stack's `child` only passes it on). The
embedded stack writes `.mlops/env` (mode 600). Environment variables override the file, so you can
use your own PostgreSQL, S3 store or MLflow.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

STORE_ADDRESSES = {"MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"}
STORE_KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
REPOSITORY = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Where the servers are and how to reach them."""

    model_config = SettingsConfigDict(
        env_prefix="MLOPS_",
        env_ignore_empty=True,  # Compose passes unset variables as empty ones
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    home: Path = Field(REPOSITORY / ".mlops", description="the state folder")
    pipelines: Path = Field(REPOSITORY / "pipelines", description="the folder of pipeline files")

    database: str = Field("", description="libpq connection string of the `mlops` database")
    tracking_uri: str = Field("", validation_alias="MLFLOW_TRACKING_URI")
    s3_endpoint: str | None = Field(
        None, validation_alias=AliasChoices(*sorted(STORE_ADDRESSES, reverse=True))
    )
    aws_access_key_id: str | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_region: str = Field("us-east-1", validation_alias="AWS_DEFAULT_REGION")
    data_bucket: str = Field("data", description="bucket of snapshots, source copies and reports")
    source_map: dict[str, str] = Field(
        {}, description="JSON: a source's address -> the local file to read instead"
    )

    stack: Literal["embedded", "compose"] = Field("embedded", description="who starts the servers")
    target: Literal["process", "docker"] = Field("process", description="what runs model servers")

    airflow_url: str = Field("", description="base URL of Airflow's api-server")
    airflow_page: str = Field(
        default_factory=lambda given: given["airflow_url"], description="Airflow's URL for browsers"
    )
    tracking_page: str = Field(
        default_factory=lambda given: given["tracking_uri"], description="MLflow's URL for browsers"
    )
    airflow_user: str = "admin"
    airflow_password: SecretStr = SecretStr("")
    gateway_url: str = Field("", description="the gateway's base URL for clients")
    gateway_internal: str = Field(
        default_factory=lambda given: given["gateway_url"],
        description="the gateway's base URL for tasks",
    )
    gateway_listen: str = Field("", description="the address that the gateway listens on")
    gateway_folder: Path = Field(Path(), description="folder of the gateway's routes and upstreams")
    gateway_plain: str = Field("", description="a second address, for tasks: no HTTPS, no pages")
    bind: str = Field("127.0.0.1", description="the host address that publishes the gateway")
    domain: str = Field("", description="the gateway's public name, which turns on HTTPS")
    tls: Literal["acme", "internal"] = Field("acme", description="who signs the certificate")
    mlflow_password: SecretStr = Field(SecretStr(""), description="password of MLflow's admin")
    mlflow_login: bool = Field(False, description="whether MLflow asks for a login")
    published: dict[str, str] = Field(
        {}, description="JSON: service of the compose stack -> its address on the host"
    )

    project_run: str = Field(
        "", validation_alias="MLFLOW_RUN_ID", description="the run that `mlflow run` has made"
    )

    log_days: float = Field(30, gt=0, description="how many days task logs are kept")
    git_commit: str = Field("", description="the code's commit, where git is not available")

    docker_host: str | None = Field(None, validation_alias="DOCKER_HOST")
    docker_network: str = Field(
        "", description="the network of model containers; empty: ports on 127.0.0.1"
    )
    compose_project: str = Field("mlops", description="Compose project of the model containers")
    image_prefix: str = Field("mlops", description="repository of the models' images")
    base_image: str = Field("python:3.11-slim", description="base of the models' images")


def connection_variable(name: str) -> str:
    """The environment variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{name.upper()}"


def airflow_connection(name: str) -> str | None:
    """An Airflow connection, as a URI or JSON, from the environment."""
    return os.environ.get(connection_variable(name))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    home = Path(os.environ.get("MLOPS_HOME", REPOSITORY / ".mlops"))
    stack_env = dotenv_values(home / "env")
    keys: dict[str, Any] = {}
    if not STORE_ADDRESSES & os.environ.keys():
        # Without an address, keys in the user's shell belong to another store than the stack's.
        keys = {name: stack_env[name] for name in STORE_KEYS & stack_env.keys()}
    secrets = os.environ.get("MLOPS_SECRETS")
    return Settings(_env_file=home / "env", _secrets_dir=secrets, **keys)
