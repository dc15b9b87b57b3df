"""The callables of the DAGs, where they do more than pass a reference on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks.base.settings import REPOSITORY
from tasks.clients.connections import find

CONNECTION = """
import json, sys
sys.path.insert(0, {dags!r})
import steps
print(json.dumps([steps.connection("sales"), steps.connection("nobody")]))
"""


def test_connections_come_from_airflow_and_a_missing_one_is_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONNECTION.format(dags=str(REPOSITORY / "dags"))],
        env=os.environ
        | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW_CONN_SALES": "postgres://ada:p%40ss@db:5433/sales?sslmode=require",
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    text, missing = json.loads(done.stdout.splitlines()[-1])
    assert missing is None
    sales = find("sales", frozenset({"postgres"}), lambda _: text)
    assert (sales.host, sales.port, sales.login, sales.database) == ("db", 5433, "ada", "sales")
    assert sales.password is not None
    assert sales.password.get_secret_value() == "p@ss"
    assert sales.option("sslmode") == "require"
