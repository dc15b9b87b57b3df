"""The services of the stack and their programs: commands and variables."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tasks.base.errors import MlopsError
from tasks.base.settings import REPOSITORY, settings
from tasks.stack.embedded import postgres
from tasks.stack.embedded.home import Home, Secrets
from tasks.stack.embedded.ports import Ports
from tasks.stack.embedded.program import Program

BUCKETS = ("mlflow", "data", "captures")
ADMIN = "admin"
AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
CORE = ("postgres", "store", "mlflow", *AIRFLOW, "gateway")
"""The programs of the stack itself; the others are model servers."""
SERVICES = ("postgres", "store", "mlflow", "airflow", "gateway")
REGION = "us-east-1"


@dataclass(frozen=True)
class Stack:
    """A stack: its folder and its ports."""

    home: Home
    ports: Ports

    @property
    def secrets(self) -> Secrets:
        """The stack's secrets."""
        return self.home.secrets

    def url(self, service: str) -> str:
        """The address of a service, for its users."""
        if service == "postgres":
            return f"postgresql://127.0.0.1:{self.ports.postgres}"
        # Airflow can have only one base path, and behind the gateway it is this prefix.
        prefix = "/airflow" if service == "airflow" else ""
        return f"http://127.0.0.1:{getattr(self.ports, service)}{prefix}"

    def variables(self) -> dict[str, str]:
        """The variables of the `env` file, which `tasks.base.settings` reads."""
        return {
            "MLOPS_DATABASE": postgres.dsn(self.home, self.ports.postgres, "mlops"),
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "MLFLOW_S3_ENDPOINT_URL": self.url("store"),
            "AWS_ACCESS_KEY_ID": self.secrets.s3_key,
            "AWS_SECRET_ACCESS_KEY": self.secrets.s3_secret,
            "AWS_DEFAULT_REGION": REGION,
            "MLOPS_AIRFLOW_URL": self.url("airflow"),
            "MLOPS_AIRFLOW_USER": ADMIN,
            "MLOPS_AIRFLOW_PASSWORD": self.secrets.airflow_admin,
            "MLOPS_GATEWAY_URL": self.url("gateway"),
            "MLOPS_GATEWAY_FOLDER": str(self.home.gateway),
        }


def store(stack: Stack) -> Program:
    """An S3 server over a folder."""
    command = (
        *(_executable("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{stack.ports.store}"),
        *("--vfs-cache-mode", "off", str(stack.home.store)),
    )
    env = {
        # Quoted like a CSV field: otherwise the comma would split it in two.
        "RCLONE_AUTH_KEY": f'"{stack.secrets.s3_key},{stack.secrets.s3_secret}"',
        "RCLONE_CONFIG": "",
        "RCLONE_CACHE_DIR": str(stack.home.root / "cache" / "rclone"),
    }
    return Program("store", command, env, stack.home.root, stop_wait_s=6)


def mlflow(stack: Stack) -> Program:
    """The tracking server and registry, which passes artifacts on to the store."""
    command = (
        *(sys.executable, "-P", str(REPOSITORY / "docker" / "mlflow" / "serve.py")),
        *("--host", "127.0.0.1", "--port", str(stack.ports.mlflow), "--workers", "1"),
        *("--artifacts-destination", "s3://mlflow"),
    )
    variables = stack.variables()
    env = {
        "PYTHONUNBUFFERED": "1",
        **{name: variables[name] for name in variables if name.startswith("AWS_")},
        "MLFLOW_S3_ENDPOINT_URL": variables["MLFLOW_S3_ENDPOINT_URL"],
        "MLFLOW_BACKEND_STORE_URI": database_url(stack, "mlflow"),
        # 1 process and 0.22 GB instead of 10 and 2.06
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLOPS_MLFLOW_LOGIN": "off",
        "PGPASSFILE": str(stack.home.pgpass("mlflow")),
    }
    return Program("mlflow", command, env, stack.home.root, stop_wait_s=6)


def gateway(stack: Stack) -> Program:
    """The gateway: writes its routes, then becomes Caddy."""
    folder = stack.home.gateway
    command = (
        *(sys.executable, "-P", "-m", "tasks.serving.gateway"),
        *(_executable("caddy"), "run", "--config", str(folder / "caddy.json"), "--watch"),
    )
    env = {
        # All that it reads: variables of the shell that called `up` may name another stack.
        "MLOPS_HOME": str(stack.home.root),
        "MLOPS_GATEWAY_FOLDER": str(folder),
        "MLOPS_AIRFLOW_URL": stack.url("airflow"),
        "MLFLOW_TRACKING_URI": stack.url("mlflow"),
        "MLOPS_PIPELINES": str(settings().pipelines.absolute()),
        "PYTHONPATH": str(REPOSITORY),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    return Program("gateway", command, env, stack.home.root, stop_wait_s=8)


def database_url(stack: Stack, role: str) -> str:
    """An SQLAlchemy URL without the password, which is in PGPASSFILE.

    It names the driver because the default of SQLAlchemy 2.1 is psycopg 3.
    """
    return f"postgresql+psycopg2://{role}@127.0.0.1:{stack.ports.postgres}/{role}"


def _executable(name: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise MlopsError(
            f"The program '{name}' is not installed.",
            why=f"{path} does not exist.",
            fix="Run the launcher `./mlops`, which installs requirements.txt.",
        )
    return str(path)
