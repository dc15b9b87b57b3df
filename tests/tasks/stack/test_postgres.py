"""Who may connect to what, and how."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import psutil
import psycopg2
import pytest

from tasks.base.settings import Settings
from tasks.stack import roles
from tasks.stack.embedded import ports, postgres
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import Supervisor

DATABASES = (*roles.ROLES, "postgres", "template1")
ELSEWHERE = [(role, other) for role in roles.ROLES for other in DATABASES if role != other]


@pytest.fixture
def home(database: Settings) -> Home:
    return Home(database.home)


@pytest.fixture
def port(home: Home) -> int:
    return ports.load(home).postgres


@pytest.fixture(autouse=True)
def no_password_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


def query(dsn: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_role_reaches_its_own_database(home: Home, port: int, role: str) -> None:
    who = query(postgres.dsn(home, port, role), "SELECT current_user, current_database()")
    assert who == [(role, role)]


def test_a_database_whose_owner_was_not_set_yet_gets_it(home: Home, port: int) -> None:
    superuser = postgres.dsn(home, port, postgres.SUPERUSER, "postgres")
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'airflow'"
    connection = psycopg2.connect(superuser)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("ALTER DATABASE airflow OWNER TO CURRENT_USER")
        postgres.create_roles(home, port)
        cursor.execute(owner)
        assert cursor.fetchone() == ("airflow",)
    connection.close()


@pytest.mark.parametrize(("role", "other"), ELSEWHERE)
def test_a_role_is_refused_elsewhere(home: Home, port: int, role: str, other: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        query(postgres.dsn(home, port, role, other), "SELECT 1")


@pytest.mark.parametrize("role", [*roles.ROLES, postgres.SUPERUSER])
@pytest.mark.parametrize("password", ["", "wrong", "postgres"])
def test_a_password_is_asked_on_the_host_and_on_the_socket(
    home: Home, port: int, role: str, password: str
) -> None:
    for host in ("127.0.0.1", str(postgres.socket_folder(home))):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            query(f"host={host} port={port} user={role} password='{password}'", "SELECT 1")


def test_the_right_password_is_taken_on_the_socket(home: Home, port: int) -> None:
    folder = postgres.socket_folder(home)
    dsn = postgres.dsn(home, port, "mlops").replace("host=127.0.0.1", f"host={folder}")
    assert query(dsn, "SELECT inet_server_addr()") == [(None,)]


def test_no_role_of_ours_is_more_than_a_role(home: Home, port: int) -> None:
    sql = (
        "SELECT rolname FROM pg_roles WHERE rolcanlogin"
        " AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)"
    )
    assert query(postgres.dsn(home, port, postgres.SUPERUSER), sql) == [("postgres",)]


def test_mlops_does_not_own_its_database(home: Home, port: int) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(postgres.dsn(home, port, "mlops"), "CREATE TABLE mine (a int)")


def test_it_listens_on_this_machine_only(home: Home, port: int) -> None:
    pid = Supervisor(home).programs()["postgres"].pid
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]


def test_no_secret_is_on_a_command_line(home: Home) -> None:
    lines = [
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    ]
    secrets = vars(home.secrets).values()
    assert not [secret for secret in secrets if any(secret in line for line in lines)]


def test_password_files_are_private(home: Home) -> None:
    paths = [home.pgpass(role) for role in (*roles.ROLES, postgres.SUPERUSER)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
def test_as_root_it_runs_as_a_user_that_cannot_enter_the_state_folder(home: Home) -> None:
    process = psutil.Process(Supervisor(home).programs()["postgres"].pid)
    assert process.username() == postgres.SYSTEM_USER
    assert process.uids().real == pwd.getpwnam(postgres.SYSTEM_USER).pw_uid
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    data = (home.postgres / "data").resolve()
    assert not data.is_relative_to(home.root.resolve())
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


@pytest.fixture
def lock_file(tmp_path: Path) -> tuple[Home, Path]:
    """The lock file of a data folder in which no server runs."""
    other = Home(tmp_path)
    (other.postgres / "data").mkdir(parents=True)
    return other, other.postgres / "data" / "postmaster.pid"


def test_the_lock_of_a_killed_server_is_removed_once_its_pid_is_anothers(
    lock_file: tuple[Home, Path],
) -> None:
    folder, lock = lock_file
    lock.write_text(f"{os.getpid()}\n/data\n")
    postgres.forget_killed(folder)
    assert not lock.exists()


def test_the_lock_of_a_running_server_stays(home: Home, lock_file: tuple[Home, Path]) -> None:
    folder, lock = lock_file
    lock.write_text(f"{Supervisor(home).programs()['postgres'].pid}\n/data\n")
    postgres.forget_killed(folder)
    assert lock.exists()


def test_a_connection_string_is_right_for_any_path(tmp_path: Path) -> None:
    from psycopg2.extensions import parse_dsn

    home = Home(tmp_path / "it's a \\ path")
    assert parse_dsn(postgres.dsn(home, 1, "mlops"))["passfile"] == str(home.pgpass("mlops"))
