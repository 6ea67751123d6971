"""Start a server for one model in a process of its own, watch it, measure it and end it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_process import child_command, child_environment, how_it_ended
from pytest_aprqa.conversion.child_protocol import FrameBuffer, packed
from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.engines.serving.http_server import GRACE_S
from pytest_aprqa.engines.serving.served import Stopped

if TYPE_CHECKING:
    from pathlib import Path

TRANSFORMERS_CHILD = "pytest_aprqa.engines.serving.server_child"
LLAMA_CHILD = "pytest_aprqa.engines.serving.llama_server_child"
TAIL_BYTES, TAIL_LINES = 16_384, 40
"""How much of the log's end is told."""
_POLL_S = 0.02
_PROBE_S = 5.0
_KNOWN = {kind.__name__: kind for kind in (LoadFailed, EngineUnavailable)}


def start_server(
    path: Path,
    format_: Format,
    *,
    backend: Backend,
    threads: int | None,
    model_name: str,
    grace_s: float = GRACE_S,
) -> ServerProcess:
    """Start the server for a model's format and give it back while it loads.

    llama.cpp's own server serves GGUF on the CPU; ours, over transformers, everything else. It
    listens on a free port of 127.0.0.1. After SIGTERM a running request has `grace_s` to end.
    """
    llama = format_ is Format.GGUF and backend is Backend.CPU
    settings = {
        "path": str(path),
        "format": format_.value,
        "backend": backend.value,
        "threads": threads,
        "model_name": model_name,
        "grace_s": grace_s,
    }
    return ServerProcess(LLAMA_CHILD if llama else TRANSFORMERS_CHILD, settings)


class ServerProcess:
    """One model behind a server that was started here; fulfils `Served`.

    The process has a session of its own, so that Ctrl-C reaches only the parent, and ends with the
    parent. Its log is a file without a name, so that nothing is left of it whatever happens.
    """

    ours = True

    def __init__(self, module: str, settings: dict[str, Any]) -> None:
        """`settings` is the one frame that the child's module is given."""
        self._settings = settings
        self._began = time.monotonic()
        self._url = ""
        self._ready = False
        self._told: dict[str, str] = {}
        self._stopped: Stopped | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            child_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            start_new_session=True,
            env=child_environment(),
        )
        self._end = weakref.finalize(self, _end, self._process, self._log, os.getpid())
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which `wait_ready` tells
            self._process.stdin.write(packed(settings))

    @property
    def url(self) -> str:
        """The server's root, such as `http://127.0.0.1:40001`; known when it is ready.

        Raises:
            AprqaError: it is not ready.
        """
        if not self._url:
            raise AprqaError("the server has no address yet; call wait_ready() first")
        return self._url

    @property
    def model_name(self) -> str:
        """What requests name the model."""
        return str(self._settings["model_name"])

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._end.alive and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has been healthy once; it may have died since."""
        return self._ready

    @property
    def stopped(self) -> bool:
        """Whether it was told to end, by `stop` or `close`."""
        return self._stopped is not None or not self._end.alive

    def headers(self) -> dict[str, str]:
        """None: the server has no key, and listens on loopback only."""
        return {}

    def describe(self) -> dict[str, str]:
        """What runs, for the evidence: engine, versions, device; known when it is ready."""
        return dict(self._told)

    def memory_bytes(self) -> int | None:
        """Resident memory of the process now; None when it has gone."""
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.alive else None
        except psutil.Error:
            return None

    def log_tail(self) -> str:
        """The last lines that the process wrote."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        data = os.pread(self._log.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
        lines: deque[str] = deque(data.decode("utf-8", "replace").splitlines(), TAIL_LINES)
        return "\n".join(lines)

    def wait_ready(self, timeout_s: float) -> float:
        """Seconds from the start until the health probe was answered with 200.

        Raises:
            LoadFailed: the process died or refused the model, or was not healthy in time; it has
                been killed then.
            EngineUnavailable: this machine lacks what the model needs: a device, memory, a library.
        """
        deadline = self._began + timeout_s
        try:
            if not self._url:
                message = self._first_frame(deadline, timeout_s)
                if "error" in message:
                    raise _KNOWN[message["error"]](self._with_log(message["text"]))
                self._told = {str(key): str(value) for key, value in message["told"].items()}
                self._url = str(message["url"])
            while not self._is_healthy():
                self._require_running("before it was healthy")
                if time.monotonic() > deadline:
                    raise LoadFailed(self._late(timeout_s))
                time.sleep(_POLL_S)
        except BaseException:
            self.close()
            raise
        self._ready = True
        return time.monotonic() - self._began

    def stop(self, limit_s: float) -> Stopped:
        """SIGTERM, then SIGKILL at the limit; a server that has ended before is told as such."""
        if self._stopped is not None:
            return self._stopped
        began = time.monotonic()
        gone = self._process.poll() is not None
        if not gone:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            how, clean = f"was killed after {limit_s:g} s", False
        else:
            how, clean = how_it_ended(status), status in (0, -signal.SIGTERM) and not gone
        if gone:
            how += " before it was asked to"
        self._stopped = Stopped(time.monotonic() - began, how, clean)
        return self._stopped

    def close(self) -> None:
        """Kill the process, whatever it does, and wait until it is gone. Closing twice is fine."""
        self._end()

    def _first_frame(self, deadline: float, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, frames = self._process.stdout.fileno(), FrameBuffer()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while (frame := frames.take()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise LoadFailed(self._late(timeout_s))
                if data := os.read(descriptor, 65_536):
                    frames.feed(data)
                else:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(_PROBE_S)
                    self._require_running("while it loaded the model")
        return frame.message

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=_PROBE_S) as answer:
                return int(answer.status) == 200 and bool(json.load(answer))
        except (OSError, ValueError):
            return False

    def _require_running(self, when: str) -> None:
        if (status := self._process.poll()) is not None:
            how = how_it_ended(status)
            raise LoadFailed(self._with_log(f"{self._path}: the server {how} {when}"))

    def _late(self, timeout_s: float) -> str:
        return self._with_log(
            f"{self._path}: the server was not healthy after {timeout_s:g} s and was killed"
        )

    def _with_log(self, text: str) -> str:
        said = self.log_tail().strip()
        return one_line(f"{text}; its log ends: {said}" if said else text, limit=2000)

    @property
    def _path(self) -> str:
        return str(self._settings["path"])


def _end(process: subprocess.Popen[bytes], log: Any, owner: int) -> None:
    """Kill the process, take its status, close pipes and log; a forked copy only closes."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    log.close()
