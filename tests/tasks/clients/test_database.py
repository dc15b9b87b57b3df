"""Advisory locks."""

from __future__ import annotations

import pytest

from tasks.base.errors import UnavailableError
from tasks.clients.database import locked

pytestmark = pytest.mark.usefixtures("database")


def test_a_lock_that_somebody_holds_is_not_waited_for_without_end() -> None:
    with (
        locked("promote/wine"),
        pytest.raises(UnavailableError, match="busy with promote/wine"),
        locked("promote/wine", wait_s=0.2),
    ):
        pass


def test_the_limit_is_for_the_lock_alone() -> None:
    with locked("promote/wine") as connection, connection.cursor() as cursor:
        cursor.execute("show lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_a_lock_goes_with_its_connection() -> None:
    with locked("promote/wine"):
        pass
    with locked("promote/wine", wait_s=0.2):
        pass
