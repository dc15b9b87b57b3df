"""Every setting of the project, read once from the environment and the stack's `env` file.

No other module reads settings from `os.environ` (the stack's `child` only passes it on). The
embedded stack writes `.mlops/env` (mode 600); a real environment variable of the same name wins
over the file, so any PostgreSQL, S3 or MLflow can take the place of ours.
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
        env_ignore_empty=True,  # as Compose hands on what is not set
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    home: Path = Field(REPOSITORY / ".mlops", description="the state folder")
    pipelines: Path = Field(REPOSITORY / "pipelines", description="folder of the pipeline files")

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
        {}, description="JSON: a source's address -> the local file to read in its place"
    )

    stack: Literal["embedded", "compose"] = Field("embedded", description="who starts the servers")
    target: Literal["process", "docker"] = Field("process", description="what a model's server is")

    airflow_url: str = Field("", description="base URL of Airflow's api-server")
    airflow_page: str = Field(
        default_factory=lambda given: given["airflow_url"], description="as a browser reaches it"
    )
    tracking_page: str = Field(
        default_factory=lambda given: given["tracking_uri"], description="as a browser reaches it"
    )
    airflow_user: str = "admin"
    airflow_password: SecretStr = SecretStr("")
    gateway_url: str = Field("", description="base URL of the gateway, as clients see it")
    gateway_internal: str = Field(
        default_factory=lambda given: given["gateway_url"], description="as tasks reach it"
    )
    gateway_listen: str = Field("", description="address on which the gateway listens")
    gateway_folder: Path = Field(Path(), description="folder of the gateway's routes and upstreams")
    gateway_plain: str = Field("", description="one more address for tasks, without HTTPS or pages")
    bind: str = Field("127.0.0.1", description="address on which it is published")
    domain: str = Field("", description="the gateway's public name; with one it speaks HTTPS")
    tls: Literal["acme", "internal"] = Field("acme", description="who signs its certificate")
    mlflow_password: SecretStr = Field(SecretStr(""), description="of MLflow's user admin")
    mlflow_login: bool = Field(False, description="whether MLflow asks who is there")
    published: dict[str, str] = Field(
        {}, description="JSON: service -> its address on the host, of the compose stack"
    )

    project_run: str = Field(
        "", validation_alias="MLFLOW_RUN_ID", description="the run of a call of `mlflow run`"
    )

    log_days: float = Field(30, gt=0, description="how long logs of tasks are kept")
    git_commit: str = Field("", description="of the code, where no git is to ask")

    docker_host: str | None = Field(None, validation_alias="DOCKER_HOST")
    docker_network: str = Field("", description="the models' network; none: ports on 127.0.0.1")
    compose_project: str = Field("mlops", description="project whose containers the models' are")
    image_prefix: str = Field("mlops", description="repository of the models' images")
    base_image: str = Field("python:3.11-slim", description="what the models' images are built on")


def connection_variable(name: str) -> str:
    """Name of the variable that holds an Airflow connection, by Airflow's convention."""
    return f"AIRFLOW_CONN_{name.upper()}"


def airflow_connection(name: str) -> str | None:
    """An Airflow connection, its URI or JSON, from the environment."""
    return os.environ.get(connection_variable(name))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    home = Path(os.environ.get("MLOPS_HOME", REPOSITORY / ".mlops"))
    ours = dotenv_values(home / "env")
    keys: dict[str, Any] = {}
    if not STORE_ADDRESSES & os.environ.keys():
        # Keys in a user's shell are for another store than the one in our file.
        keys = {name: ours[name] for name in STORE_KEYS & ours.keys()}
    secrets = os.environ.get("MLOPS_SECRETS")
    return Settings(_env_file=home / "env", _secrets_dir=secrets, **keys)
