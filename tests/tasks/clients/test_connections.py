from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tasks.base.errors import UserError
from tasks.clients.connections import find

KINDS = frozenset({"postgres", "postgresql"})
URI = "postgresql://ada:p%40ss%2Fw%23rd@db.example:5433/sales?sslmode=require"


AIRFLOW = """
import json
from airflow.sdk import Connection
uri = {uri!r}
connection = Connection(conn_id="x", uri=uri)
nested = Connection(conn_id="x", conn_type="aws", extra='{{"a": {{"b": 1}}, "region_name": "r"}}')
print(json.dumps([connection.to_dict(), connection.as_json(), nested.get_uri()]))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """The fields that Airflow reads in the URI, then a JSON text and a URI that it writes."""
    printed = subprocess.run(
        [sys.executable, "-c", AIRFLOW.format(uri=URI)],
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    fields, text, uri = json.loads(printed.splitlines()[-1])
    return fields, text, uri


def test_connections_are_read_as_airflow_writes_them(
    airflow: tuple[dict[str, Any], str, str],
) -> None:
    fields, text, nested = airflow
    for connection in (find("x", KINDS, lambda _: URI), find("x", KINDS, lambda _: text)):
        assert connection.password is not None
        assert connection.password.get_secret_value() == fields["password"] == "p@ss/w#rd"
        assert connection.extra == fields["extra"] == {"sslmode": "require"}
        for name, key in (("host", "host"), ("port", "port"), ("login", "login")):
            assert getattr(connection, name) == fields[key]
        assert connection.database == fields["schema"] == "sales"
    connection = find("x", frozenset({"aws"}), lambda _: nested)
    assert connection.extra == {"a": {"b": 1}, "region_name": "r"}


def test_extra_may_be_text_within_json() -> None:
    text = json.dumps({"conn_type": "postgres", "host": "h", "extra": '{"sslmode": "prefer"}'})
    connection = find("x", KINDS, lambda _: text)
    assert (connection.host, connection.option("sslmode"), connection.option("none")) == (
        "h",
        "prefer",
        None,
    )


def test_the_environment_holds_connections_by_airflows_convention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MY_SALES", URI)
    assert find("my_sales", KINDS).host == "db.example"
    with pytest.raises(UserError, match="There is no connection 'other'") as err:
        find("other", KINDS)
    assert "AIRFLOW_CONN_OTHER" in err.value.fix


def test_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be of type postgres or postgresql\. Got 'mysql'"):
        find("x", KINDS, lambda _: "mysql://h/d")
    assert find("x", KINDS, lambda _: "generic://h/d").database == "d"


@pytest.mark.parametrize(
    "text",
    ["secret", '{"password": "secret"', "postgres://u:secret@h:port/d", '{"extra": "secret"}'],
)
def test_what_cannot_be_read_is_not_shown(text: str) -> None:
    with pytest.raises(UserError, match="The connection 'x' cannot be read") as err:
        find("x", KINDS, lambda _: text)
    assert "secret" not in str(err.value)
    assert err.value.__cause__ is None
    assert err.value.__suppress_context__


def test_a_connection_does_not_show_its_secrets() -> None:
    connection = find("x", KINDS, lambda _: URI.replace("sslmode=require", "token=hidden"))
    assert "p@ss" not in repr(connection)
    assert "hidden" not in repr(connection)
