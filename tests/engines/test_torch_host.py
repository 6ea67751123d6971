"""The child that torch runs in: killed, hanging, interrupted, left alone; the next one goes on."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.conversion.child_process import ChildProcess
from pytest_aprqa.conversion.child_protocol import Frame
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines import hosted_engine, torch_host
from pytest_aprqa.engines.engine import EngineCrashed, LoadFailed
from pytest_aprqa.engines.hosted_engine import HostedEngine, load
from pytest_aprqa.engines.torch_host import prefetch, shutdown
from tests.engines.conftest import END_OF_TEXT

HOME = Path(torch_host.__file__).parents[2]
SHORT = GenerationRequest(prompt="Hi", max_tokens=2)
LONG = GenerationRequest(prompt="Hi", max_tokens=1900)
HANG = GenerationRequest(prompt="hang", max_tokens=2, timeout_s=0.2)
FAULTY = """
import os, sys, time
from pytest_aprqa.engines import torch_child, transformers_engine
from pytest_aprqa.engines.transformers_engine import TransformersEngine

def wait_for_ever():
    while True:
        time.sleep(0.05)

def generate(self, request, as_it_is=TransformersEngine.generate):
    if request.prompt == "hang":
        wait_for_ever()
    if request.prompt == "memory":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
        os.abort()
    if request.prompt == "python memory":
        raise MemoryError("no room")
    if request.prompt == "cuda":
        raise RuntimeError("CUDA error: device-side assert triggered")
    return as_it_is(self, request)

def generate_batch(self, requests, began):
    began(0.1)
    wait_for_ever()

def load(path, as_it_is=transformers_engine.load, **settings):
    if path.name == "hangs":
        wait_for_ever()
    if path.name == "dies":
        os.write(2, b"a layer is broken\\n")
        os.abort()
    if path.name == "fills memory":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
        os.abort()
    return as_it_is(path, **settings)

TransformersEngine.generate = generate
TransformersEngine.generate_batch = generate_batch
transformers_engine.load = load
torch_child.main()
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host's children hang, crash and run out of memory where the test asks for it."""
    (tmp_path / "aprqa_faulty.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{HOME}")
    monkeypatch.setattr(torch_host, "MODULE", "aprqa_faulty")
    shutdown()
    yield
    shutdown()


@pytest.fixture(scope="module")
def endless(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model without end tokens: it answers until it has said what it may."""
    from safetensors.torch import load_file, save_file

    copy = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(model_directory, copy)
    tensors = dict(load_file(copy / "model.safetensors"))
    tensors["lm_head.weight"][END_OF_TEXT:].zero_()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.fixture
def engine(endless: Path) -> Iterator[HostedEngine]:
    engine = load(endless, backend=Backend.CPU, threads=1)
    yield engine
    engine.close()


@pytest.fixture
def amid(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sends the child a signal, or raises, once it has told that a generation began."""

    def arm(what: signal.Signals | type[BaseException]) -> None:
        receive = ChildProcess.receive
        armed = [True]

        def disturbed(child: ChildProcess, timeout_s: float | None) -> Frame:
            frame = receive(child, timeout_s)
            if "prompt_token_ids" in frame.message and armed:
                armed.clear()
                if not isinstance(what, signal.Signals):
                    raise what
                _wait_until_it_computes(child.pid)
                os.kill(child.pid, what)
            return frame

        monkeypatch.setattr(ChildProcess, "receive", disturbed)

    return arm


def _ticks(pid: int) -> int:
    """Processor time that a process has used, in hundredths of a second (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _wait_until_it_computes(pid: int) -> None:
    began, deadline = _ticks(pid), time.monotonic() + 20
    while _ticks(pid) < began + 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    "killer", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGKILL, signal.SIGTERM]
)
def test_a_child_killed_amid_a_generation_is_a_crash_and_replaced(
    engine: HostedEngine, endless: Path, amid: Any, killer: signal.Signals
) -> None:
    other = load(endless, backend=Backend.CPU, threads=1)
    expected = engine.generate(SHORT).token_ids
    first = engine.child_pid
    amid(killer)
    with pytest.raises(EngineCrashed) as caught:
        engine.generate(LONG)
    assert caught.value.error == f"transformers died of {killer.name}"
    if killer not in (signal.SIGKILL, signal.SIGTERM):
        assert "Fatal Python error: " in caught.value.traceback_tail
        assert "transformers_engine.py" in caught.value.traceback_tail
    assert _gone(first)
    assert other.generate(SHORT).token_ids == expected  # loaded again, each when it is asked
    assert engine.generate(SHORT).token_ids == expected
    assert other.child_pid == engine.child_pid != first
    other.close()


def test_a_child_that_died_unseen_is_a_crash_of_the_next_request(engine: HostedEngine) -> None:
    os.kill(engine.child_pid, signal.SIGKILL)
    with pytest.raises(EngineCrashed, match=r"^transformers died of SIGKILL$"):
        engine.tokenize("Hi", special=True)
    assert engine.tokenize("Hi", special=True)


def test_a_stopped_child_is_a_timeout_with_its_stack(
    engine: HostedEngine, amid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.generate(SHORT)
    first = engine.child_pid
    monkeypatch.setattr(hosted_engine, "GRACE_S", 0.2)
    amid(signal.SIGSTOP)
    answer = engine.generate(GenerationRequest(prompt="Hi", max_tokens=1900, timeout_s=0.1))
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert (answer.text, answer.token_ids, answer.ttft_s) == ("", (), None)
    assert answer.rendered_prompt == "Hi"
    assert answer.prompt_tokens == len(answer.prompt_token_ids) == 2
    assert 0.3 <= answer.total_s < 10
    assert answer.peak_memory_bytes > 2**26
    assert "most recent call first" in answer.diagnosis
    assert _gone(first)
    monkeypatch.undo()
    assert engine.generate(SHORT).completion_tokens == 2


def test_a_blocked_engine_says_where(
    faulty: None, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    monkeypatch.setattr(hosted_engine, "GRACE_S", 0.2)
    answer = engine.generate(HANG)
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert "in wait_for_ever" in answer.diagnosis
    with pytest.raises(EngineCrashed) as caught:
        engine.generate_batch([SHORT, SHORT])
    assert caught.value.error == "transformers hangs: no answer within 0.3 s; it was killed"
    assert "in wait_for_ever" in caught.value.traceback_tail
    assert engine.generate(SHORT).completion_tokens == 2
    engine.close()


def test_want_of_memory_is_told(faulty: None, model_directory: Path) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    first = engine.child_pid
    with pytest.raises(EngineCrashed, match=r"^out of memory: MemoryError: no room$"):
        engine.generate(GenerationRequest(prompt="python memory"))
    with pytest.raises(EngineCrashed) as caught:
        engine.generate(GenerationRequest(prompt="memory"))
    assert caught.value.error == "transformers died of SIGABRT; it ran out of memory"
    assert "std::bad_alloc" in caught.value.traceback_tail
    assert engine.generate(SHORT).completion_tokens == 2
    assert engine.child_pid != first
    engine.close()


def test_a_broken_device_needs_a_new_process(faulty: None, model_directory: Path) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    first = engine.child_pid
    with pytest.raises(EngineCrashed, match=r"CUDA error: device-side assert"):
        engine.generate(GenerationRequest(prompt="cuda"))
    assert _gone(first)
    assert engine.generate(SHORT).completion_tokens == 2
    engine.close()


def test_loads_that_hang_or_die(
    faulty: None, model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = load(model_directory, backend=Backend.CPU, threads=1)
    with pytest.raises(LoadFailed) as caught:
        load(tmp_path / "dies", backend=Backend.CPU)
    dead = "transformers died of SIGABRT: a layer is broken while it loaded the model"
    assert str(caught.value) == f"{tmp_path}/dies: {dead}"
    with pytest.raises(EngineUnavailable, match=r"SIGABRT; it ran out of memory: terminate called"):
        load(tmp_path / "fills memory", backend=Backend.CPU)
    healthy.generate(SHORT)
    monkeypatch.setattr(hosted_engine, "LOAD_TIMEOUT_S", 0.3)
    with pytest.raises(LoadFailed) as caught:
        load(tmp_path / "hangs", backend=Backend.CPU)
    told = str(caught.value)
    start = "hangs: transformers hangs: no answer within 0.3 s; it was killed while it loaded the"
    assert start in told
    assert "in wait_for_ever < File" in told
    assert "\n" not in told
    monkeypatch.undo()
    healthy.close()


def test_a_template_without_end_is_a_crash_with_its_stack(
    copied_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (copied_model / "chat_template.jinja").write_text(loop)
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    monkeypatch.setattr(hosted_engine, "PROMPT_TIMEOUT_S", 0.3)
    with pytest.raises(EngineCrashed, match=r"^transformers hangs: no answer within 0\.3 s") as e:
        engine.generate(GenerationRequest(messages=(Message("user", "x"),)))
    assert "<template>" in e.value.traceback_tail
    engine.close()


def test_an_interrupt_ends_the_child_and_leaves_no_stale_answer(
    engine: HostedEngine, amid: Any
) -> None:
    expected = engine.generate(SHORT).token_ids
    first = engine.child_pid
    amid(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(LONG)
    assert _gone(first)
    assert engine.generate(SHORT).token_ids == expected


def test_a_model_that_is_gone_when_the_child_is_replaced(copied_model: Path) -> None:
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    shutil.rmtree(copied_model)
    assert engine.generate(SHORT).completion_tokens == 2
    shutdown()
    with pytest.raises(
        EngineCrashed, match=r"transformers does not start again: .*no config\.json"
    ):
        engine.generate(SHORT)
    engine.close()


def test_prefetch_starts_it_and_shutdown_ends_it(
    model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in torch_host.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    shutdown()
    prefetch(threads=1)
    child = torch_host.torch_host().child
    assert child is not None
    prefetch(threads=2)
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    assert engine.child_pid == child.pid
    environment = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"MKL_NUM_THREADS=3" in environment  # the caller's
    shutdown()
    shutdown()
    assert _gone(child.pid)
    assert engine.generate(SHORT).completion_tokens == 2
    engine.close()
    shutdown()


def test_a_missing_library_makes_the_engine_unavailable(
    model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "transformers.py").write_text("raise ImportError('no transformers here')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{HOME}")
    shutdown()
    try:
        with pytest.raises(EngineUnavailable, match=r"ImportError: no transformers here"):
            load(model_directory, backend=Backend.CPU)
    finally:
        shutdown()


PARENT = """
import sys
from pathlib import Path
from pytest_aprqa.engines.hosted_engine import load
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.model import Backend
engine = load(Path(sys.argv[1]), backend=Backend.CPU, threads=1)
print(engine.child_pid, flush=True)
if sys.argv[2] == "busy":
    while True:
        engine.generate(GenerationRequest(prompt="Hi", max_tokens=1900))
if sys.argv[2] == "idle":
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pidfd and prctl are Linux's")
@pytest.mark.parametrize(
    ("doing", "killer"),
    [
        ("busy", signal.SIGKILL),
        ("idle", signal.SIGKILL),
        ("busy", signal.SIGINT),
        ("idle", signal.SIGINT),
        ("nothing", None),
    ],
)
def test_the_child_ends_with_its_parent_however_it_ends(
    model_directory: Path, doing: str, killer: signal.Signals | None
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(model_directory), doing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if killer is not None:
            child = os.pidfd_open(pid)
            try:
                assert not select.select([child], [], [], 0)[0]
                parent.send_signal(killer)
                assert select.select([child], [], [], 20)[0]
            finally:
                os.close(child)
        assert parent.wait(30) == {signal.SIGKILL: -9, signal.SIGINT: -2, None: 0}[killer]
    deadline = time.monotonic() + 20
    while not _gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
