"""Servers of the tests, as the gates see them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_aprqa.engines.serving.served import Stopped
from tests import openai_server
from tests.openai_server import MODEL, Server

START_S = 30.0


class InProcess:
    """A scripted server in threads of this process; its memory is what the test says."""

    model_name = MODEL
    ours = True

    def __init__(self, server: Server, *, per_request: int = 0) -> None:
        self.server = server
        self.per_request = per_request
        self.sent: dict[str, str] = {}

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def alive(self) -> bool:
        return self.server.alive

    def headers(self) -> dict[str, str]:
        return self.sent

    def memory_bytes(self) -> int | None:
        return 200 * 2**20 + self.per_request * self.server.state.requests

    def describe(self) -> dict[str, str]:
        return {"engine": "scripted 1", "device": "cpu"}

    def log_tail(self) -> str:
        return "the log's last line"

    def stop(self, limit_s: float) -> Stopped:
        raise AssertionError("only a server of its own process is stopped")


class NotOurs(InProcess):
    """The same server as somebody else's."""

    ours = False

    def memory_bytes(self) -> int | None:
        return None


class OwnProcess(InProcess):
    """A scripted server in a process of its own."""

    def __init__(self, *faults: str) -> None:
        script = Path(openai_server.__file__)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script), *faults],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self._url = self.process.stdout.readline().strip()
        self.sent = {}

    @property
    def url(self) -> str:
        return self._url

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self, limit_s: float) -> Stopped:
        started = time.perf_counter()
        self.process.terminate()
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return Stopped(limit_s, f"was killed after {limit_s:g} s", clean=False)
        seconds = time.perf_counter() - started
        return Stopped(seconds, f"ended with status {status}", clean=status == 0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Starter = Callable[..., InProcess]


@pytest.fixture
def serve() -> Iterator[Starter]:
    """Starts a server with faults; all are ended with the test."""
    with ExitStack() as stack:

        def start(
            *faults: str, kind: type[InProcess] = InProcess, per_request: int = 0
        ) -> InProcess:
            if kind is OwnProcess:
                own = OwnProcess(*faults)
                stack.callback(own.close)
                return own
            server = Server(*faults)
            server.start()
            stack.callback(server.close)
            return kind(server, per_request=per_request)

        yield start
