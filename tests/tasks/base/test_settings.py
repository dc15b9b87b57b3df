"""The sources of settings and their precedence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.base.settings import settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder whose `env` file names a store."""
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "env").write_text(
        "MLFLOW_TRACKING_URI='http://127.0.0.1:1'\nMLFLOW_S3_ENDPOINT_URL='http://127.0.0.1:2'\n"
        "AWS_ACCESS_KEY_ID='ours'\nAWS_SECRET_ACCESS_KEY='secret'\n"
    )
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_the_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:3")
    assert settings().tracking_uri == "http://127.0.0.1:3"


def test_keys_in_the_shell_do_not_go_to_our_store(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody's")
    assert settings().aws_access_key_id == "ours"


def test_a_store_named_in_the_environment_comes_with_its_keys(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:4")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    assert settings().aws_access_key_id == "theirs"


def test_no_secret_is_shown(home: Path) -> None:
    assert "secret'" not in repr(settings())
