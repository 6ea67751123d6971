from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pytest_aprqa.engines.tool_process import KEPT_BYTES, run_tool

PYTHON = sys.executable
LINGER = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
"""
PARENT = """
import sys
from pytest_aprqa.engines.tool_process import run_tool
code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); "
run_tool([sys.executable, "-c", code + "time.sleep(600)", sys.argv[1]], timeout_s=600)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [PYTHON, "-c", code, *arguments]


def expect_gone(pid: int) -> None:
    """The process ends within ten seconds; a zombie has ended."""
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline, f"{pid} is still running"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(path: Path) -> int:
    """The number that a child writes into the file."""
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} was never written"
        time.sleep(0.02)
    return int(path.read_text())


def test_what_a_program_says_and_how_it_ends() -> None:
    code = "import sys; print(sys.stdin.read()[::-1]); print('e', file=sys.stderr); sys.exit(3)"
    ended = run_tool(python(code), given="abc\u00e9", timeout_s=60)
    assert (ended.output, ended.errors, ended.status) == ("\u00e9cba\n", "e", 3)
    assert (ended.how, ended.late) == ("ended with status 3", False)
    assert ended.peak_memory_bytes > 1_000_000


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_a_signal_is_named(name: str) -> None:
    code = f"import os, signal; os.kill(os.getpid(), signal.{name})"
    ended = run_tool(python(code), timeout_s=60)
    assert ended.how == f"died of {name}"


def test_the_environment_is_ours_and_what_is_added() -> None:
    code = "import os; print(os.environ['PATH'] != '', os.environ['X_Y'])"
    ended = run_tool(python(code), timeout_s=60, environment={"X_Y": "7"})
    assert ended.output == "True 7\n"


def test_of_a_flood_the_end_is_kept() -> None:
    code = "import sys; sys.stdout.write('x' * 3_000_000 + 'end'); sys.stderr.write('y' * 99_999)"
    ended = run_tool(python(code), timeout_s=60)
    assert len(ended.output) == KEPT_BYTES
    assert ended.output.endswith("xend")
    assert len(ended.errors) == 16_384


def test_a_program_that_is_late_is_killed() -> None:
    code = "import sys, time; print('so far', flush=True); time.sleep(600)"
    ended = run_tool(python(code), timeout_s=2)
    assert (ended.late, ended.how, ended.output) == (True, "ran out of time", "so far\n")
    assert ended.total_s < 60


def test_what_it_leaves_running_ends_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    ended = run_tool(python(LINGER, str(noted)), timeout_s=60)
    assert ended.status == 0
    expect_gone(int(noted.read_text()))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    noted = tmp_path / "pid"
    with subprocess.Popen(
        python(PARENT, str(noted)), stderr=subprocess.DEVNULL, env={**os.environ}
    ) as parent:
        child = wait_for(noted)
        assert _runs(child)
        parent.send_signal(how)
        assert parent.wait(30) != 0
    expect_gone(child)


def test_a_program_that_is_not_there_ends_with_an_error() -> None:
    ended = run_tool(["/no/such/program"], timeout_s=60)
    assert ended.status == 1
    assert "No such file" in ended.errors


def test_a_command_that_is_too_long_cannot_be_started() -> None:
    with pytest.raises(OSError, match="too long"):
        run_tool(python("pass", "x" * 3_000_000), timeout_s=60)
