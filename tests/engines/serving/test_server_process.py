"""Servers as processes: how they fail, what is told of it, and that nothing of them remains."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.engines.serving import server_process
from pytest_aprqa.engines.serving.served import Served
from pytest_aprqa.engines.serving.server_process import ServerProcess, start_server
from tests.engines.serving.client import until

MODULE = """
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pytest_aprqa.conversion.child_protocol import open_channel
from pytest_aprqa.engines.serving.parent_watch import end_with_parent

channel = open_channel()
do = channel.receive().message["do"]
end_with_parent(channel)
print("began", do, file=sys.stderr, flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if do in ("serve", "deaf") else 503)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

if do == "silent":
    signal.pause()
if do == "segfault":
    os.kill(os.getpid(), signal.SIGSEGV)
if do == "exit":
    sys.exit(3)
if do == "refuse":
    channel.send({"error": "LoadFailed", "text": "the weights do not fit"})
    sys.exit()
if do == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = HTTPServer(("127.0.0.1", 0), Handler)
port = server.server_port
channel.send({"url": f"http://127.0.0.1:{port}", "told": {"engine": "fake"}})
if do == "die":
    os._exit(4)
server.serve_forever()
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "aprqa_test_server.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    begun: list[ServerProcess] = []

    def go(do: str) -> ServerProcess:
        settings = {"do": do, "path": "model.x", "model_name": "tiny"}
        begun.append(ServerProcess("aprqa_test_server", settings))
        return begun[-1]

    yield go
    for server in begun:
        server.close()


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def refused(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_a_server_that_is_ready(start: Any) -> None:
    server: ServerProcess = start("serve")
    served: Served = server
    assert served.ours
    assert server.model_name == "tiny"
    with pytest.raises(AprqaError, match="no address yet; call wait_ready"):
        _ = server.url
    seconds = server.wait_ready(60)
    assert 0 < seconds < 60
    assert server.wait_ready(60) >= seconds
    assert server.alive
    assert server.url.startswith("http://127.0.0.1:")
    assert server.describe() == {"engine": "fake"}
    assert server.headers() == {}
    assert (server.memory_bytes() or 0) > 1_000_000
    assert server.log_tail().startswith("began serve")
    assert os.getsid(server.pid) == server.pid  # Ctrl-C does not reach it


def test_it_ends_of_sigterm(start: Any) -> None:
    server = start("serve")
    server.wait_ready(60)
    stopped = server.stop(60)
    assert (stopped.how, stopped.clean) == ("died of SIGTERM", True)
    assert 0 <= stopped.seconds < 60
    assert server.stop(60) is stopped
    assert not server.alive
    assert server.memory_bytes() is None
    assert refused(server.url)


def test_one_that_does_not_end_is_killed(start: Any) -> None:
    server = start("deaf")
    server.wait_ready(60)
    stopped = server.stop(0.2)
    assert (stopped.how, stopped.clean) == ("was killed after 0.2 s", False)
    assert gone(server.pid)


def test_one_that_had_died_was_not_stopped(start: Any) -> None:
    server = start("serve")
    server.wait_ready(60)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive)
    stopped = server.stop(60)
    assert (stopped.how, stopped.clean) == ("died of SIGKILL before it was asked to", False)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("segfault", "model.x: the server died of SIGSEGV while it loaded the model"),
        ("exit", "model.x: the server ended with status 3 while it loaded the model"),
        ("die", "model.x: the server ended with status 4 before it was healthy"),
        ("refuse", "the weights do not fit"),
    ],
)
def test_one_that_fails_is_told_with_its_log(start: Any, do: str, message: str) -> None:
    server = start(do)
    with pytest.raises(LoadFailed) as caught:
        server.wait_ready(60)
    assert str(caught.value).startswith(f"{message}; its log ends: began {do}")
    assert not server.alive
    assert gone(server.pid)


@pytest.mark.parametrize("do", ["silent", "unhealthy"])
def test_one_that_never_becomes_healthy_is_killed(start: Any, do: str) -> None:
    server = start(do)
    until(lambda: "began" in server.log_tail())
    with pytest.raises(LoadFailed) as caught:
        server.wait_ready(0.5)
    expected = "model.x: the server was not healthy after 0.5 s and was killed; its log ends: began"
    assert str(caught.value).startswith(expected)
    assert gone(server.pid)


def test_an_interrupt_while_waiting_ends_it(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start("silent")

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServerProcess, "_first_frame", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.wait_ready(60)
    assert gone(server.pid)


def test_closing_leaves_no_process_port_or_descriptor(start: Any) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    server = start("serve")
    server.wait_ready(60)
    server.close()
    server.close()
    assert gone(server.pid)
    assert refused(server.url)
    assert server.log_tail() == ""
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_one_that_is_forgotten_ends(tmp_path: Path, start: Any) -> None:
    server = ServerProcess("aprqa_test_server", {"do": "silent", "path": "", "model_name": ""})
    pid = server.pid
    del server
    gc.collect()
    assert gone(pid)


PARENT = """
import sys, threading, time
from pytest_aprqa.engines.serving.server_process import ServerProcess

def begin():
    global server
    server = ServerProcess("aprqa_test_server", {"do": "serve", "path": "", "model_name": ""})
    server.wait_ready(60)
    print(server.pid, server.url, flush=True)

if sys.argv[1] == "thread":
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
else:
    begin()
if sys.argv[1] == "ends":
    sys.exit(0)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["main", "thread", "ends"])
def test_it_ends_with_its_parent(start: Any, how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        if how != "ends":
            parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    until(lambda: gone(int(pid)))
    until(lambda: refused(url))


# From here on the servers that are meant to run.


def test_which_server_runs_what(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        server_process, "ServerProcess", lambda module, settings: begun.append((module, settings))
    )
    for format_, backend in (
        (Format.SAFETENSORS, Backend.CPU),
        (Format.APR, Backend.CPU),
        (Format.GGUF, Backend.CPU),
        (Format.GGUF, Backend.GPU),
    ):
        start_server(Path("m"), format_, backend=backend, threads=2, model_name="x")
    modules = [module.rpartition(".")[2] for module, _ in begun]
    assert modules == ["server_child", "server_child", "llama_server_child", "server_child"]
    assert begun[0][1] == {
        "path": "m",
        "format": "safetensors",
        "backend": "cpu",
        "threads": 2,
        "model_name": "x",
        "grace_s": 10.0,
    }


def failure(path: Path, format_: Format, backend: Backend = Backend.CPU) -> Exception:
    server = start_server(path, format_, backend=backend, threads=1, model_name="x")
    with pytest.raises((LoadFailed, EngineUnavailable)) as caught:
        server.wait_ready(120)
    assert gone(server.pid)
    return caught.value


def test_a_broken_safetensors_model_is_told(copied_model: Path) -> None:
    weights = copied_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    error = failure(copied_model, Format.SAFETENSORS)
    assert isinstance(error, LoadFailed)
    assert "SafetensorError" in str(error)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for format_ in (Format.APR, Format.GGUF):
        error = failure(tmp_path / f"no.{format_}", format_)
        assert isinstance(error, LoadFailed)
        assert f"no.{format_}: " in str(error)


def test_a_gguf_that_llama_cpp_refuses_is_told_with_its_log(tmp_path: Path) -> None:
    from tests.engines.gguf_models import write_gguf

    path = tmp_path / "m.gguf"
    write_gguf(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.0.attn_norm.weight", b"blk.0.attn_nork.weight", 1))
    error = failure(path, Format.GGUF)
    assert isinstance(error, LoadFailed)
    assert f"{path}: llama.cpp does not serve it" in str(error)
    assert "attn_norm" in str(error)


def test_what_is_missing_for_gguf_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such library')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    error = failure(tmp_path / "m.gguf", Format.GGUF)
    assert isinstance(error, EngineUnavailable)
    assert str(error) == (
        "llama.cpp's server is missing: no such library; install it with `pip install xllamacpp`"
    )


def test_a_device_that_is_missing_is_told(model_directory: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    error = failure(model_directory, Format.SAFETENSORS, Backend.GPU)
    assert isinstance(error, EngineUnavailable)
    assert str(error).startswith("no CUDA device: torch")
