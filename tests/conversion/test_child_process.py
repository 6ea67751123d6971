"""Children of ours: what they say arrives whole, and what becomes of them is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.conversion import child_process
from pytest_aprqa.conversion.child_process import (
    KEPT_BYTES,
    ChildDied,
    ChildProcess,
    ChildSilent,
    innermost,
)
from pytest_aprqa.conversion.child_protocol import Frame, FrameBuffer, packed

HOME = Path(child_process.__file__).parents[2]
MODULE = """
import os, signal, sys, time
from pytest_aprqa.conversion.child_protocol import open_channel

def wait_for_ever():
    signal.pause()

channel = open_channel()
while (frame := channel.receive()) is not None:
    do = frame.message["do"]
    if do == "echo":
        channel.send(frame.message, frame.blob)
    elif do == "print":
        print("to output")
        os.write(2, b"to error\\n" * frame.message["times"])
        channel.send({})
    elif do == "exit":
        sys.stdout.flush()
        print("farewell", file=sys.stderr)
        sys.exit(7)
    elif do == "close":
        os.closerange(3, 50)
        os.close(1)
        signal.pause()
    elif do == "signal":
        os.kill(os.getpid(), frame.message["number"])
    elif do == "hang":
        wait_for_ever()
    elif do == "raise":
        raise MemoryError("no room for 3 GiB")
    elif do == "terminate":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\\n")
        os.abort()
    elif do == "environment":
        channel.send({"value": os.environ.get("APRQA_TEST_THREADS")})
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "aprqa_test_child.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{HOME}")
    process = ChildProcess("aprqa_test_child")
    yield process
    process.close()


def test_messages_and_bytes_come_back(child: ChildProcess) -> None:
    message = {"do": "echo", "text": "\ud800 é\n", "numbers": [1, 2.5, None]}
    for blob in (b"", b"\0\xff\n", os.urandom(3_000_000)):  # more than a pipe holds
        child.send(message, blob)
        assert child.receive(60) == Frame(message, blob)


def test_two_messages_at_once_are_answered_in_order(child: ChildProcess) -> None:
    child.send({"do": "echo", "n": 1})
    child.send({"do": "echo", "n": 2})
    assert [child.receive(60).message["n"] for _ in range(2)] == [1, 2]


def test_what_it_prints_is_no_message_and_is_kept(child: ChildProcess) -> None:
    child.send({"do": "print", "times": 100_000})
    assert child.receive(60) == Frame({})
    child.send({"do": "exit"})
    with pytest.raises(ChildDied) as caught:
        child.receive(60)
    assert caught.value.how == "ended with status 7"
    assert caught.value.said.startswith("to error\n") or "to error\nto error" in caught.value.said
    assert caught.value.said.endswith("farewell")
    assert KEPT_BYTES - 100 < len(caught.value.said) <= KEPT_BYTES


@pytest.mark.parametrize(
    "name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGKILL", "SIGTERM"]
)
def test_the_signal_that_ended_it_is_named(child: ChildProcess, name: str) -> None:
    child.send({"do": "signal", "number": int(signal.Signals[name])})
    with pytest.raises(ChildDied, match=f"^died of {name}$"):
        child.receive(60)
    assert not child.alive


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"])
def test_a_signal_of_native_code_leaves_its_stack(child: ChildProcess, name: str) -> None:
    child.send({"do": "print", "times": 2})
    child.receive(60)
    child.send({"do": "signal", "number": int(signal.Signals[name])})
    with pytest.raises(ChildDied) as caught:
        child.receive(60)
    assert "Fatal Python error: " in caught.value.said
    assert "aprqa_test_child.py" in caught.value.said
    assert caught.value.last_words == "to error"
    assert not caught.value.out_of_memory


def test_a_kill_by_the_kernel_is_told_only_with_evidence(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = {"do": "signal", "number": int(signal.SIGKILL)}
    monkeypatch.setattr(child_process, "oom_kills", lambda: (4, 2))
    other = ChildProcess("aprqa_test_child")
    other.send(kill)
    with pytest.raises(ChildDied, match=r"^died of SIGKILL$") as caught:
        other.receive(60)
    assert not caught.value.out_of_memory
    other = ChildProcess("aprqa_test_child")
    monkeypatch.setattr(child_process, "oom_kills", lambda: (5, 3))
    other.send(kill)
    with pytest.raises(ChildDied) as caught:
        other.receive(60)
    likely = "died of SIGKILL; the kernel's out-of-memory killer is the likely cause"
    assert caught.value.how == likely
    assert caught.value.out_of_memory
    child.send({"do": "signal", "number": int(signal.SIGTERM)})  # no kill of the kernel's
    with pytest.raises(ChildDied, match=r"^died of SIGTERM$"):
        child.receive(60)


@pytest.mark.parametrize(
    ("do", "how", "words"),
    [
        ("raise", "ended with status 1; it ran out of memory", "MemoryError: no room for 3 GiB"),
        ("terminate", "died of SIGABRT; it ran out of memory", "'std::bad_alloc'"),
    ],
)
def test_want_of_memory_is_told(child: ChildProcess, do: str, how: str, words: str) -> None:
    child.send({"do": do})
    with pytest.raises(ChildDied) as caught:
        child.receive(60)
    assert caught.value.how == how
    assert caught.value.out_of_memory
    assert caught.value.last_words.endswith(words)


def test_a_signal_without_a_name(child: ChildProcess) -> None:
    child.send({"do": "signal", "number": signal.SIGRTMIN + 5})
    with pytest.raises(ChildDied, match=rf"^died of signal {signal.SIGRTMIN + 5}$"):
        child.receive(60)


def test_silence_is_told_and_ends_it(child: ChildProcess) -> None:
    child.send({"do": "hang"})
    with pytest.raises(ChildSilent, match=r"^no answer within 0\.2 s$"):
        child.receive(0.2)
    assert not child.alive
    with pytest.raises(ChildDied, match=r"^is closed$"):
        child.receive(1)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_silent_child_says_where_it_is(child: ChildProcess, stopped: bool) -> None:
    child.send({"do": "print", "times": 1})
    child.receive(60)
    child.send({"do": "hang"})
    if stopped:
        os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildSilent) as caught:
        child.receive(0.3)
    assert caught.value.said.splitlines()[-1] == "to error"
    assert caught.value.diagnosis == caught.value.where
    assert "aprqa_test_child.py" in caught.value.where
    if not stopped:
        assert "in wait_for_ever" in innermost(caught.value.where, 1)
    assert not child.alive
    assert _is_gone(child.pid)


def test_a_child_that_cannot_say_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aprqa_deaf.py").write_text(
        "import os, signal, sys\nprint('here', file=sys.stderr, flush=True)\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\nprint('deaf', flush=True)\n"
        "signal.pause()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{HOME}")
    monkeypatch.setattr(child_process, "WHERE_S", 0.2)
    other = ChildProcess("aprqa_deaf")
    with pytest.raises(ChildSilent) as caught:
        other.receive(1.0)
    assert caught.value.where == ""
    assert caught.value.diagnosis == caught.value.said == "here"
    assert _is_gone(other.pid)


def test_the_main_threads_innermost_frames_in_one_line() -> None:
    stacks = (
        'Thread 0x00007f01 (most recent call first):\n  File "a.py", line 1 in waits\n\n'
        'Thread 0x00007f02 (most recent call first):\n  File "b.py", line 2 in inner\n'
        '  File "b.py", line 3 in outer\n  File "b.py", line 4 in main\n'
    )
    assert innermost(stacks, 2) == 'File "b.py", line 2 in inner < File "b.py", line 3 in outer'
    assert innermost("no stack\nat all") == ""


def test_the_environment_of_the_caller_comes_first(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> Any:
        other = ChildProcess("aprqa_test_child", environment={"APRQA_TEST_THREADS": "1"})
        other.send({"do": "environment"})
        value = other.receive(60).message["value"]
        other.close()
        return value

    assert seen() == "1"
    monkeypatch.setenv("APRQA_TEST_THREADS", "7")
    assert seen() == "7"


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_child_that_hangs_up_is_not_waited_for(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "DYING_S", 0.1)
    child.send({"do": "close"})
    with pytest.raises(ChildDied, match=r"^closed its output and went on$"):
        child.receive(60)
    assert not child.alive


def test_no_time_at_all_is_not_for_ever(child: ChildProcess) -> None:
    child.send({"do": "hang"})
    with pytest.raises(ChildSilent, match=r"^no answer within 0 s$"):
        child.receive(0)


def test_an_endless_limit_is_one(child: ChildProcess) -> None:
    child.send({"do": "echo"})
    assert child.receive(float("inf")).message == {"do": "echo"}


def test_it_has_a_session_of_its_own_and_writes_no_core(child: ChildProcess) -> None:
    child.send({"do": "echo"})
    child.receive(60)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    limits = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core file size"))
    assert core[4] == "0"


def test_closing_twice_is_fine_and_leaves_no_process(child: ChildProcess) -> None:
    child.close()
    child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_forked_copy_of_the_parent_does_not_end_it(child: ChildProcess) -> None:
    child.send({"do": "echo"})
    child.receive(60)
    child_process._end(child._process, owner=-1)  # as the copy would
    assert child._process.poll() is None
    child._process.kill()
    child._process.wait()


def test_a_child_of_a_thread_outlives_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel would end it with the thread that started it.
    (tmp_path / "aprqa_test_child.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{HOME}")
    started: list[ChildProcess] = []
    thread = threading.Thread(target=lambda: started.append(ChildProcess("aprqa_test_child")))
    thread.start()
    thread.join()
    started[0].send({"do": "echo"})
    assert started[0].receive(60).message == {"do": "echo"}
    started[0].close()


def test_a_file_of_the_current_directory_is_no_library(
    tmp_path: Path, child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(folder)
    other = ChildProcess("aprqa_test_child")
    other.send({"do": "echo"})
    assert other.receive(60).message == {"do": "echo"}
    other.close()


def test_a_child_whose_parent_died_first_ends(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['', '1']\n"  # a parent that it does not have
        "from pytest_aprqa.conversion.child_protocol import open_channel\n"
        "open_channel(); print('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3), st.binary()),
        max_size=4,
    ),
    st.integers(1, 40),
)
def test_frames_are_found_however_they_are_cut(
    sent: list[tuple[dict[str, int], bytes]], step: int
) -> None:
    data = b"".join(packed(message, blob) for message, blob in sent)
    buffer, found = FrameBuffer(), []
    for start in range(0, len(data), step):
        buffer.feed(data[start : start + step])
        while (frame := buffer.take()) is not None:
            found.append((frame.message, frame.blob))
    assert found == sent
    assert buffer.take() is None
