"""A PostgreSQL query as a source, on a real server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import Settings
from tasks.clients import store
from tasks.data.reading import pieces
from tasks.data.sources import Fetched, fetch
from tasks.pipeline.schema import Source
from tasks.prepare.gather import Gathering
from tasks.stack.embedded import postgres
from tasks.stack.embedded.home import Home

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def server(database: Settings) -> dict[str, str]:
    """The login of our role, with the password from its file."""
    given = parse_dsn(database.database)
    lines = (line.split(":") for line in Path(given["passfile"]).read_text().splitlines())
    password = next(line[4] for line in lines if line[3] == given["user"])
    return {**given, "password": password}


@pytest.fixture(scope="module")
def orders(database: Settings, server: dict[str, str]) -> Iterator[str]:
    """A table that our role owns and may write."""
    superuser = postgres.dsn(Home(database.home), int(server["port"]), postgres.SUPERUSER, "mlops")
    name = f"orders_{uuid4().hex[:8]}"
    with closing(psycopg2.connect(superuser)) as session, session, session.cursor() as cursor:
        cursor.execute(
            f"create table {name} (id int, price double precision, paid boolean, kind text,"
            " at timestamptz);"
            f"grant all on {name} to {server['user']};"
            f"insert into {name} values"
            " (1, 0.1, true, '007', '2026-01-01 02:00+02'), (2, null, false, '', null),"
            " (3, 1e300, null, 'NA', '2026-01-02 00:00+00'),"
            " (4, 2, true, null, '2026-01-03 00:00:00.5+00')"
        )
    yield name
    with closing(psycopg2.connect(superuser)) as session, session, session.cursor() as cursor:
        cursor.execute(f"drop table {name}")


def uri(server: dict[str, str], **other: Any) -> str:
    given = {**server, **other}
    return (
        f"postgres://{given['user']}:{quote(given['password'], safe='')}@{given['host']}:"
        f"{given['port']}/{given['dbname']}"
    )


def queried(folder: Path, query: str, connection: str | None, **source: Any) -> Fetched:
    entry = Source.model_validate(
        {"uri": "postgresql://", "connection": "sales", "query": query, **source}
    )
    return fetch(entry, folder / uuid4().hex, lambda _: connection)


def test_rows_come_with_their_types_and_nulls(
    tmp_path: Path, server: dict[str, str], orders: str, make_pipeline: Any
) -> None:
    fetched = queried(tmp_path, f"select * from {orders} order by id -- all\n;", uri(server))
    columns = {
        "id": {"type": "integer"},
        "price": {"nullable": True},
        "paid": {"type": "boolean", "nullable": True},
        "kind": {"type": "category", "nullable": True},
        "at": {"type": "datetime", "nullable": True},
    }
    pipeline = make_pipeline({"columns": columns, "target": "id", "sources": [fetched.source]})
    gathering = Gathering(pipeline)
    gathering.add(pieces(fetched, pipeline.data))
    gathering.check()
    assert len(gathering.bad_rows.numbers) == 0
    table = gathering.table()
    np.testing.assert_array_equal(table["price"], [0.1, np.nan, 1e300, 2])
    np.testing.assert_array_equal(table["paid"], [1, 0, np.nan, 1])
    # An empty text and the text NA are no nulls.
    assert table["kind"].astype("str").fillna("null").tolist() == ["007", "", "NA", "null"]
    assert table["at"].dt.strftime("%d %H:%M:%S.%f").fillna("null").tolist() == [
        "01 00:00:00.000000",
        "null",
        "02 00:00:00.000000",
        "03 00:00:00.500000",
    ]


def test_the_same_rows_are_the_same_file(
    tmp_path: Path, server: dict[str, str], orders: str
) -> None:
    first, second = (
        queried(tmp_path, f"select id, at from {orders} order by id", uri(server)).files[0]
        for _ in range(2)
    )
    assert first == second


def test_the_uri_may_name_another_database(tmp_path: Path, server: dict[str, str]) -> None:
    wrong = uri(server, dbname="nowhere")
    query = "select current_database() as name"
    fetched = queried(tmp_path, query, wrong, uri=f"postgresql://{server['dbname']}")
    assert fetched.paths[0].read_text() == f"name\n{server['dbname']}\n"


@pytest.mark.parametrize(
    "query",
    [
        "insert into {} values (9) returning id",
        "delete from {} returning id",
        "with gone as (delete from {} returning id) select * from gone",
        "select id from {} for update",
        "select 1) to stdout; commit; delete from {}; copy (select 1",
    ],
)
def test_a_query_that_writes_is_refused(
    tmp_path: Path, server: dict[str, str], orders: str, query: str
) -> None:
    with pytest.raises(UserError, match="on the connection 'sales' must only read") as err:
        queried(tmp_path, query.format(orders), uri(server))
    assert "read-only transaction" in err.value.why
    rows = queried(tmp_path, f"select count(*) as n from {orders}", uri(server))
    assert rows.paths[0].read_text() == "n\n4\n"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select * from nobody", 'relation "nobody" does not exist'),
        ("drop table nobody", "syntax error"),
        ("select 1 / 0", "division by zero"),
        ("select * from pg_authid", "permission denied"),
    ],
)
def test_a_query_with_a_mistake(
    tmp_path: Path, server: dict[str, str], query: str, why: str
) -> None:
    with pytest.raises(UserError, match="The query on the connection 'sales' failed") as err:
        queried(tmp_path, query, uri(server))
    assert why in err.value.why
    assert "query" in err.value.fix


def test_a_wrong_connection(tmp_path: Path, server: dict[str, str]) -> None:
    with pytest.raises(UserError, match="There is no connection 'sales'"):
        queried(tmp_path, "select 1", None)
    for wrong in ({"password": "secret"}, {"dbname": "nowhere"}, {"user": "nobody"}):
        with pytest.raises(UserError, match="PostgreSQL refused the connection 'sales'") as err:
            queried(tmp_path, "select 1", uri(server, **wrong))
        assert "secret" not in str(err.value)


def test_an_outage_uses_the_copy_of_the_same_query(
    tmp_path: Path, server: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        away = uri(server, port=taken.getsockname()[1])
        query = f"select '{uuid4().hex}' as x"
        with pytest.raises(UnavailableError, match="does not answer on the connection 'sales'"):
            queried(tmp_path, query, away)
        before = queried(tmp_path, query, uri(server))
        with caplog.at_level(logging.WARNING):
            after = queried(tmp_path, query, away)
        assert after.paths[0].read_bytes() == before.paths[0].read_bytes()
        assert "Using the copy of" in caplog.text
        kept = b"".join(map(store.get_bytes, store.keys(store.data_uri("sources/by-uri/"))))
        assert server["password"].encode() not in kept + caplog.text.encode()
        with pytest.raises(UnavailableError):
            queried(tmp_path, f"{query}, 1 as y", away)


def test_a_query_that_takes_too_long_may_pass(
    tmp_path: Path, server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.data.query.LIMIT", 0.05)
    with pytest.raises(UnavailableError, match=r"took longer than 0\.05 s"):
        queried(tmp_path, "select pg_sleep(60)", uri(server))
