"""Servers for tests: one over a scripted engine in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_aprqa.engines.serving.app import make_app
from pytest_aprqa.engines.serving.http_server import bound_socket, make_server, url_of
from pytest_aprqa.engines.serving.worker import Worker
from tests.engines.serving.client import Client
from tests.engines.serving.scripted import ScriptedEngine


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """These tests talk to servers on loopback."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server over a scripted engine."""

    engine: ScriptedEngine
    worker: Worker
    client: Client
    server: Any
    thread: threading.Thread


@pytest.fixture
def scripted() -> Iterator[Running]:
    """A server of the test's own."""
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A server for many tests, none of which ends or blocks it."""
    with running() as found:
        yield found


@contextmanager
def running() -> Iterator[Running]:
    engine = ScriptedEngine()
    worker = Worker(engine, capacity=3)
    bound = bound_socket("127.0.0.1", 0)
    client = Client(url_of(bound))
    ready = threading.Event()
    server = make_server(make_app(worker, "tiny"), 0.2, ready.set)
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield Running(engine, worker, client, server, thread)
    engine.close()
    server.should_exit = True
    thread.join(60)
    assert worker.close(60)
    assert not thread.is_alive()
