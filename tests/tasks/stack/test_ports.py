"""Ports have defaults, move when taken, and stay then."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.stack.embedded import ports
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.ports import Ports


@pytest.fixture
def folder(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@contextmanager
def listener(address: str = "127.0.0.1") -> Iterator[int]:
    with socket.create_server((address, 0)) as server:
        yield int(server.getsockname()[1])


def free_ports() -> Ports:
    return Ports(*random.sample([port for port in range(20000, 20200) if ports.free(port)], 5))


def test_defaults() -> None:
    expected = {"gateway": 8000, "airflow": 8080, "mlflow": 5000, "store": 9000, "postgres": 5432}
    assert asdict(Ports()) == expected


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_moves_and_stays_where_it_moved(folder: Home, address: str) -> None:
    with listener(address) as taken:
        before = asdict(free_ports()) | {"mlflow": taken}
        ports.save(folder, Ports(**before))
        settled, moved = ports.settle(folder)
    assert moved == {"mlflow": taken}
    assert settled.mlflow != taken
    assert asdict(settled) == before | {"mlflow": settled.mlflow}
    assert ports.free(settled.mlflow)
    assert ports.settle(folder) == (settled, {})  # the old one is free again, and yet


def test_a_port_that_our_own_service_holds_is_kept(folder: Home) -> None:
    with listener() as own:
        ports.save(folder, Ports(**asdict(free_ports()) | {"store": own}))
        assert ports.settle(folder, frozenset({"store"}))[0].store == own


def test_two_services_that_were_given_one_port_get_two(folder: Home) -> None:
    first = asdict(free_ports())
    ports.save(folder, Ports(**first | {"postgres": first["gateway"]}))
    settled, moved = ports.settle(folder)
    assert moved == {"postgres": first["gateway"]}
    assert len(set(asdict(settled).values())) == 5


def test_two_services_never_move_to_one_port(folder: Home) -> None:
    with listener() as taken:
        ports.save(folder, Ports(**dict.fromkeys(asdict(Ports()), taken)))
        settled, _ = ports.settle(folder)
    assert len(set(asdict(settled).values())) == 5
