"""Files that llama.cpp refuses, and children that die, hang or are left alone."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.child_process import ChildProcess
from pytest_aprqa.conversion.child_protocol import Frame
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines import llamacpp_engine
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed
from pytest_aprqa.engines.llamacpp_engine import LlamaCppEngine, load_gguf
from tests.engines.gguf_models import says, write_gguf

WORD = 256
SHORT = GenerationRequest(prompt="Hi", max_tokens=2)
LONG = GenerationRequest(prompt="Hi", max_tokens=30000, timeout_s=30)
"""Seconds of work for the babbling model, so that whatever befalls the child befalls it amid it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "babbler.gguf"
    return write_gguf(path, context=32768, change=says({WORD: 50.0}))


@pytest.fixture
def engine(whole: Path) -> Any:
    engine = load_gguf(whole, threads=1)
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
                if isinstance(what, signal.Signals):
                    os.kill(child.pid, what)
                else:
                    monkeypatch.setattr(ChildProcess, "_exchange", _raiser(monkeypatch, what))
            return frame

        monkeypatch.setattr(ChildProcess, "receive", disturbed)

    return arm


def _raiser(monkeypatch: pytest.MonkeyPatch, what: type[BaseException]) -> Any:
    exchange = ChildProcess._exchange

    def interrupted(*_args: object) -> None:
        monkeypatch.setattr(ChildProcess, "_exchange", exchange)
        raise what

    return interrupted


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_killed_amid_a_generation_is_a_crash_and_replaced(
    engine: LlamaCppEngine, amid: Any, killer: signal.Signals
) -> None:
    first = engine.child_pid
    amid(killer)
    with pytest.raises(EngineCrashed) as caught:
        engine.generate(LONG)
    assert caught.value.error == f"llama.cpp died of {killer.name}"
    assert _gone(first)
    assert engine.generate(SHORT).token_ids == (WORD, WORD)
    assert engine.child_pid != first


def test_a_child_that_died_unseen_is_a_crash_of_the_next_request(engine: LlamaCppEngine) -> None:
    os.kill(engine.child_pid, signal.SIGKILL)
    with pytest.raises(EngineCrashed, match=r"llama\.cpp died of SIGKILL"):
        engine.tokenize("Hi", special=True)
    assert engine.tokenize("Hi", special=True)


def test_a_hang_amid_a_generation_is_a_timeout(
    engine: LlamaCppEngine, amid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.generate(SHORT)
    first = engine.child_pid
    monkeypatch.setattr(llamacpp_engine, "GRACE_S", 0.2)
    amid(signal.SIGSTOP)
    answer = engine.generate(GenerationRequest(prompt="Hi", max_tokens=30000, timeout_s=0.1))
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert (answer.text, answer.token_ids, answer.ttft_s) == ("", (), None)
    assert answer.rendered_prompt == "Hi"
    assert answer.prompt_tokens == len(answer.prompt_token_ids) == 1
    assert 0.3 <= answer.total_s < 5
    assert answer.peak_memory_bytes > 2**23
    assert _gone(first)
    assert engine.generate(SHORT).token_ids == (WORD, WORD)


def test_a_hang_before_a_generation_is_a_crash(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp_engine, "PROMPT_TIMEOUT_S", 0.2)
    first = engine.child_pid
    os.kill(first, signal.SIGSTOP)
    # More than a pipe holds: a child that does not read must not hold up the writer either.
    with pytest.raises(EngineCrashed) as caught:
        engine.generate(GenerationRequest(prompt="x" * 300_000))
    assert caught.value.error == "llama.cpp hangs: no answer within 0.2 s; it was killed"
    assert _gone(first)
    monkeypatch.undo()
    assert engine.generate(SHORT).token_ids == (WORD, WORD)


def test_a_template_without_end_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    engine = load_gguf(write_gguf(tmp_path / "m.gguf", template=loop), threads=1)
    monkeypatch.setattr(llamacpp_engine, "PROMPT_TIMEOUT_S", 0.3)
    with pytest.raises(EngineCrashed, match=r"llama\.cpp hangs: no answer within 0\.3 s"):
        engine.generate(GenerationRequest(messages=(Message("user", "x"),)))
    engine.close()


def test_an_interrupt_ends_the_child_and_leaves_no_stale_answer(
    engine: LlamaCppEngine, amid: Any
) -> None:
    first = engine.child_pid
    amid(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(LONG)
    assert _gone(first)
    assert engine.generate(SHORT).completion_tokens == 2


def test_a_model_that_is_gone_when_the_child_is_replaced(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "moved.gguf"
    path.write_bytes(whole.read_bytes())
    engine = load_gguf(path, threads=1)
    path.unlink()
    os.kill(engine.child_pid, signal.SIGKILL)
    with pytest.raises(EngineCrashed, match=r"died of SIGKILL"):
        engine.generate(SHORT)
    with pytest.raises(EngineCrashed, match=r"llama\.cpp does not start again: .*moved\.gguf"):
        engine.generate(SHORT)
    engine.close()


def test_closing_leaves_no_process(whole: Path) -> None:
    engine = load_gguf(whole, threads=1)
    pid = engine.child_pid
    assert not _gone(pid)
    engine.close()
    assert _gone(pid)  # a zombie would still be there


def test_an_engine_that_is_forgotten_takes_its_child_along(whole: Path) -> None:
    engine = load_gguf(whole, threads=1)
    pid = engine.child_pid
    del engine
    gc.collect()
    assert _gone(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pidfd and prctl are Linux's")
@pytest.mark.parametrize("busy", [False, True])
def test_the_child_dies_with_its_parent_however_it_dies(whole: Path, busy: bool) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from pytest_aprqa.engines.llamacpp_engine import load_gguf\n"
        "from pytest_aprqa.domain.completion import GenerationRequest\n"
        "engine = load_gguf(Path(sys.argv[1]), threads=1)\n"
        "print(engine.child_pid, flush=True)\n"
        "ask = GenerationRequest(prompt='Hi', max_tokens=30000)\n"
        "engine.generate(ask) if sys.argv[2] == 'True' else sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(whole), str(busy)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert not select.select([child], [], [], 0)[0]
            parent.kill()
            assert select.select([child], [], [], 20)[0]
        finally:
            os.close(child)


def test_nothing_is_printed(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = load_gguf(whole, threads=1)
    engine.generate(SHORT)
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"nosuch\.gguf: the file does not exist; expected a GGUF"):
        load_gguf(tmp_path / "nosuch.gguf")


def _refused(path: Path) -> str:
    with pytest.raises(LoadFailed) as caught:
        load_gguf(path, threads=1)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("once upon a time " * 9)
    assert "expected magic" in _refused(path)


@pytest.mark.parametrize("kept", [3, 40, 9000, 4_000_000])
def test_a_truncated_file(whole: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole.read_bytes()[:kept])
    assert "llama.cpp does not load it: " in _refused(path)
    if kept == 4_000_000:
        assert "data is not within the file bounds, model is corrupted" in _refused(path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        del tensors["blk.1.ffn_up.weight"]

    path = write_gguf(tmp_path / "m.gguf", change=change)
    assert "missing tensor 'blk.1.ffn_up.weight'" in _refused(path)


def test_a_misshapen_tensor_is_named(tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        tensors["blk.1.ffn_up.weight"] = tensors["blk.1.ffn_up.weight"][:256]

    path = write_gguf(tmp_path / "m.gguf", change=change)
    assert "tensor 'blk.1.ffn_up.weight' has wrong shape" in _refused(path)


def test_a_tensor_type_that_is_none(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    name = data.index(b"token_embd.weight") + len(b"token_embd.weight")
    kind = name + 4 + 2 * 8  # after the number of dimensions and the two themselves
    assert data[kind : kind + 4] == bytes(4)  # F32
    data[kind] = 250
    path = tmp_path / "type.gguf"
    path.write_bytes(data)
    assert "token_embd.weight' has invalid ggml type 250" in _refused(path)


def test_a_child_that_ends_while_it_loads(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp_engine, "MODULE", "pytest_aprqa.nosuch")
    told = _refused(whole)
    assert "llama.cpp ended with status 1: " in told
    assert told.endswith("No module named pytest_aprqa.nosuch while it loaded the model")


def test_bindings_that_are_missing(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An empty cyllama that is found before the installed one.
    fake = whole.parent / "shadow"
    (fake / "cyllama").mkdir(parents=True)
    (fake / "cyllama" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(fake))
    with pytest.raises(EngineUnavailable, match=r"ModuleNotFoundError: .*cyllama\.llama"):
        load_gguf(whole, threads=1)


def test_an_invalid_request_leaves_the_child_alone(engine: LlamaCppEngine) -> None:
    pid = engine.child_pid
    with pytest.raises(InvalidRequest, match=r"more than the model's context of 32768"):
        engine.generate(GenerationRequest(prompt="Hi", max_tokens=32768))
    assert engine.generate(SHORT).token_ids == (WORD, WORD)
    assert engine.child_pid == pid
