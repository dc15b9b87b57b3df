from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from tasks.base.errors import UnavailableError, UserError
from tasks.data import download
from tests.tasks.publisher import Answer, Publisher

BODY = b"a,y\n" + b"1,2\n" * 50_000
CUT = Answer(BODY[:100_000], promised=len(BODY))


def test_a_file_comes_whole(publisher: Publisher, tmp_path: Path) -> None:
    publisher.answers = [Answer(status=302, location="/there"), Answer(BODY)]
    download.download(f"{publisher.url}/x.csv", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert publisher.requests == 2


@pytest.mark.parametrize("trouble", [Answer(status=503), Answer(status=429), CUT])
def test_temporary_failures_are_retried(
    publisher: Publisher, tmp_path: Path, trouble: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.answers = [trouble, trouble, Answer(BODY)]
    with caplog.at_level(logging.WARNING):
        download.download(publisher.url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert caplog.text.count("Trying again") == 2


@pytest.mark.parametrize(
    ("trouble", "message"), [(Answer(status=500), "500 Internal"), (CUT, "peer closed|cut off")]
)
def test_permanent_failures_are_unavailable(
    publisher: Publisher, tmp_path: Path, trouble: Answer, message: str
) -> None:
    publisher.answers = [trouble]
    with pytest.raises(UnavailableError, match=message):
        download.download(publisher.url, tmp_path / "x")
    assert publisher.requests == 3


@pytest.mark.parametrize("status", [401, 404, 410])
def test_a_wrong_address_is_the_users_error_at_once(
    publisher: Publisher, tmp_path: Path, status: int
) -> None:
    publisher.answers = [Answer(status=status)]
    with pytest.raises(UserError, match=str(status)):
        download.download(publisher.url, tmp_path / "x")
    assert publisher.requests == 1


def test_an_unreachable_host_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", ())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x.csv"
        with pytest.raises(UnavailableError, match="could not be read"):
            download.download(url, tmp_path / "x")


def test_an_attempt_has_a_time_limit(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TOTAL", 0.0)
    publisher.answers = [Answer(BODY)]
    with pytest.raises(UnavailableError, match="took longer"):
        download.download(publisher.url, tmp_path / "x")
