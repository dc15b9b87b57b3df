"""Each user of the object store and each role of PostgreSQL is refused everywhere else."""

from __future__ import annotations

from collections.abc import Callable

import boto3
import psycopg2
import psycopg2.errors
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.compose.conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

BUCKETS = ("mlflow", "data", "captures")
ROLES = ("airflow", "mlflow", "mlops")
MAY = {
    "mlflow": {"mlflow": {"list", "get", "put", "delete"}},
    "tasks": {
        "data": {"list", "get", "put", "delete"},
        "captures": {"list", "get", "put", "delete"},
    },
    "serving": {"captures": {"put"}},
}


@pytest.fixture(scope="module")
def secrets(project: Project) -> dict[str, str]:
    return project.secrets()


def store(project: Project, user: str, secret: str) -> boto3.client:
    return boto3.client(
        "s3",
        endpoint_url=project.url("STORE"),
        aws_access_key_id=user,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


def allowed(call: Callable[..., object], **words: object) -> bool:
    """Whether the store carries out a call; anything but a plain refusal is an error."""
    try:
        call(**words)
    except ClientError as err:
        refused = err.response
    else:
        return True
    assert refused["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert refused["Error"].get("Code") in ("AccessDenied", "403")
    return False


@pytest.mark.parametrize("user", MAY)
@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_user_of_the_store_may_do_just_this(
    project: Project, secrets: dict[str, str], user: str, bucket: str
) -> None:
    root = store(project, "root", secrets["minio_root"])
    root.put_object(Bucket=bucket, Key="test/there", Body=b"x")
    client = store(project, user, secrets[f"s3_{user}"])
    place = {"Bucket": bucket, "Key": "test/there"}
    done = {
        "put": allowed(client.put_object, Bucket=bucket, Key=f"test/{user}", Body=b"x"),
        "get": allowed(client.get_object, **place),
        "list": allowed(client.list_objects_v2, Bucket=bucket),
        "delete": allowed(client.delete_object, **place),
    }
    assert {name for name, ok in done.items() if ok} == MAY[user].get(bucket, set())


@pytest.mark.parametrize("user", MAY)
def test_no_user_may_touch_buckets_or_policies(
    project: Project, secrets: dict[str, str], user: str
) -> None:
    client = store(project, user, secrets[f"s3_{user}"])
    assert not allowed(client.create_bucket, Bucket=f"of-{user}")
    for bucket in BUCKETS:
        assert not allowed(client.delete_bucket, Bucket=bucket)
        assert not allowed(client.put_bucket_policy, Bucket=bucket, Policy="{}")
        assert not allowed(client.get_bucket_policy, Bucket=bucket)


def test_a_wrong_secret_and_none_are_refused(project: Project) -> None:
    for user, secret in (("tasks", "wrong-but-long-enough"), ("nobody", "x" * 32)):
        with pytest.raises(ClientError) as refused:
            store(project, user, secret).list_objects_v2(Bucket="data")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def connect(
    project: Project, role: str, password: str, database: str
) -> psycopg2.extensions.connection:
    return psycopg2.connect(
        host="127.0.0.1",
        port=project.env["MLOPS_POSTGRES_PORT"],
        user=role,
        password=password,
        dbname=database,
        connect_timeout=10,
    )


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_its_own_database_only(
    project: Project, secrets: dict[str, str], role: str
) -> None:
    password = secrets[f"postgres_{role}"]
    connect(project, role, password, role).close()
    for other in (*(name for name in ROLES if name != role), "postgres", "template1"):
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            connect(project, role, password, other)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(project, role, "wrong", role)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_more_than_use_its_database(
    project: Project, secrets: dict[str, str], role: str
) -> None:
    connection = connect(project, role, secrets[f"postgres_{role}"], role)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in (
            "CREATE ROLE another", "CREATE DATABASE another", "ALTER ROLE postgres PASSWORD 'x'",
            "COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('PG_VERSION')",
            "SET ROLE postgres",
        ):  # fmt: skip
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
    connection.close()


def test_the_ledger_can_be_written_and_read_and_no_more(
    project: Project, secrets: dict[str, str]
) -> None:
    connection = connect(project, "mlops", secrets["postgres_mlops"], "mlops")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger (pipeline, kind, actor, reason, key) "
            "VALUES ('none', 'refused', 'test', 'a test', 'test_users')"
        )
        cursor.execute("SELECT reason FROM ledger WHERE key = 'test_users'")
        assert cursor.fetchone() == ("a test",)
        for statement in (
            "UPDATE ledger SET reason = 'another'", "DELETE FROM ledger", "TRUNCATE ledger",
            "DROP TABLE ledger", "ALTER TABLE ledger DISABLE TRIGGER ALL", "CREATE TABLE x ()",
        ):  # fmt: skip
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
    connection.close()
