"""`aprqa serve` as a person runs it: in the foreground, ended by Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.engines.serving.client import Client

LIMIT_S = 120.0


@contextmanager
def served(*arguments: str, place: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command and what it says when it is ready."""
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "pytest_aprqa.cli", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().rstrip("\n") for _ in range(2)]
            assert all(lines), (place / "log").read_text()
            yield process, lines
        finally:
            process.kill()


def address(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    began = time.monotonic()
    process.send_signal(number)
    status = process.wait(LIMIT_S)
    assert time.monotonic() - began < 30
    return status


def test_a_directory_is_served_until_ctrl_c(tmp_path: Path) -> None:
    with served("embedded/aprqa-tiny", "--port", "0", place=tmp_path) as (process, lines):
        assert lines[0].startswith("embedded/aprqa-tiny at http://127.0.0.1:")
        assert "(transformers " in lines[0]
        client = Client(address(lines[0]))
        curl = shlex.split(lines[1])
        assert curl[:2] == ["curl", f"{address(lines[0])}/v1/chat/completions"]
        answer = client.send("POST", "/v1/chat/completions", curl[-1].encode())
        assert answer.json["choices"][0]["message"]["content"] == "4"
        assert client.complete("a", max_tokens=-1).status == 400
        assert ended(process, signal.SIGINT) == 0
    log = (tmp_path / "log").read_text()
    first, second = log.splitlines()
    assert first.startswith("POST /v1/chat/completions 200 ")
    assert second.startswith("POST /v1/completions 400 ")


def test_a_gguf_file_is_served_by_llama_cpp_until_sigterm(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    assert run("convert", "embedded/aprqa-tiny", path).status == 0
    with served(str(path), "--port", "0", "--name", "mine", place=tmp_path) as (process, lines):
        assert lines[0].startswith("mine at http://127.0.0.1:")
        assert "(llama.cpp server (xllamacpp " in lines[0]
        client = Client(address(lines[0]))
        assert client.complete("2+2=", temperature=0).json["choices"][0]["text"] == "4"
        assert ended(process, signal.SIGTERM) == 0
    log = (tmp_path / "log").read_text()
    assert "answered: 6 tokens with the prompt, " in log
    assert "stopped unexpectedly" not in log


def test_a_quiet_server_logs_no_request(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.apr"
    assert run("convert", "embedded/aprqa-tiny", path).status == 0
    with served(str(path), "--port", "0", "--quiet", place=tmp_path) as (process, lines):
        assert "(transformers 5" in lines[0]
        assert " over apr, cpu)" in lines[0]
        assert Client(address(lines[0])).complete("2+2=").status == 200
        assert ended(process, signal.SIGHUP) == 0
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("name", ["embedded/aprqa-tiny", "tiny.gguf"])
def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(
    run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith(".gguf"):
        Path(name).write_bytes(b"GGUF")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("serve", name, "--port", str(port))
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err == (
        f"aprqa: cannot serve on 127.0.0.1 port {port}: Address already in use; "
        "give another with --port (0: any free one)\n"
    )


def test_a_model_that_does_not_load_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    before = len(list(Path("/proc/self/fd").iterdir()))
    ran = run("serve", path, "--port", "0")
    assert ran.status == 1
    assert ran.err.startswith(f"aprqa: {path}: ")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x"], "argument --port: 'x': expected a number from 0 to 65535"),
        (["--port", "70000"], "argument --port: '70000': expected a number from 0 to 65535"),
        (["--host", "no such host"], "aprqa: no such host: "),
        (["--backend", "tpu"], "argument --backend: "),
    ],
)
def test_wrong_usage_is_told(run: Run, arguments: list[str], message: str) -> None:
    ran = run("serve", "embedded/aprqa-tiny", *arguments)
    assert ran.status == 2
    assert message in ran.err


def test_one_file_of_weights_is_no_model(run: Run) -> None:
    from pytest_aprqa.formats.hub import resolve_model

    weights = resolve_model("embedded/aprqa-tiny").directory / "model.safetensors"
    ran = run("serve", os.fspath(weights))
    assert ran.status == 2
    assert "expected the directory that holds it" in ran.err
