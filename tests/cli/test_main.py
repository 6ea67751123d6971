from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_aprqa import __version__
from pytest_aprqa.cli import inspect_command
from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.domain.errors import AprqaError
from tests.cli.conftest import Run

COMMANDS = ("convert", "inspect", "validate", "diff", "fingerprint", "profile", "trace", "golden")


def test_the_help_names_every_command_example_and_status(run: Run) -> None:
    ran = run("--help")
    assert ran.status == 0
    for command in COMMANDS:
        assert f"aprqa {command} " in ran.out
    for status in Exit:
        assert f"  {status.value:<4} " in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_and_the_statuses(run: Run, command: str) -> None:
    ran = run(command, "--help")
    assert ran.status == 0
    assert f"examples:\n  aprqa {command} " in ran.out
    assert "exit status:\n  0    fine" in ran.out
    assert not any(len(line) > 100 for line in ran.lines)


def test_the_version_is_the_packages(run: Run) -> None:
    ran = run("--version")
    assert (ran.status, ran.out) == (0, f"aprqa {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["qualify"], "invalid choice: 'qualify'"),
        (["inspect"], "the following arguments are required: FILE"),
        (["diff", "a"], "the following arguments are required: B"),
        (["convert", "a", "b.gguf", "-q", "q9"], "invalid choice: 'q9'"),
        (
            ["diff", "a", "b", "--tolerance", "-1"],
            "argument --tolerance: '-1'; expected a number of at least 0 such as 1e-3",
        ),
        (
            ["diff", "a", "b", "--tolerance", "nan"],
            "argument --tolerance: 'nan'; expected a number of at least 0 such as 1e-3",
        ),
    ],
)
def test_wrong_usage_is_told_with_status_2(run: Run, arguments: list[str], told: str) -> None:
    ran = run(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert told in ran.err


def stopped_by(error: BaseException) -> Callable[..., Exit]:
    def run(chosen: object) -> Exit:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (AprqaError("a.gguf: broken\nb.gguf: too"), 2, "aprqa: a.gguf: broken\naprqa: b.gguf: too"),
        (AprqaError("bad name '\x1b[31m'"), 2, "aprqa: bad name '\\x1b[31m'"),
        (AprqaError(""), 2, "aprqa: "),
        (PermissionError(13, "Permission denied", "x.gguf"), 2, "aprqa: x.gguf: Permission denied"),
        (OSError(28, "No space left on device"), 2, "aprqa: No space left on device"),
        (KeyboardInterrupt(), 130, "aprqa: interrupted"),
    ],
)
def test_an_error_is_told_in_lines_and_by_the_status(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, told: str
) -> None:
    monkeypatch.setattr(inspect_command, "run", stopped_by(error))
    ran = run("inspect", "model.gguf")
    assert (ran.status, ran.out, ran.err) == (status, "", f"{told}\n")


def test_an_error_of_our_own_is_not_dressed_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_command, "run", stopped_by(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run("inspect", "model.gguf")


def python(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest_aprqa.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    process = python("inspect", "embedded/aprqa-tiny", "--tensors")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stream:
        assert stream.read() == b""
    assert process.wait(timeout=60) == Exit.PIPE_CLOSED


SLOW_COMMAND = """
import sys, threading
from pathlib import Path
from pytest_aprqa.cli import inspect_command
from pytest_aprqa.cli.main import main
from pytest_aprqa.formats.atomic import atomic_directory, atomic_file

def run(chosen):
    path = Path(chosen.model)
    with atomic_file(path) as draft, atomic_directory(path.with_name("folder")) as folder:
        draft.write_bytes(b"half")
        (folder / "part").write_bytes(b"half")
        print("writing", flush=True)
        threading.Event().wait(60)

inspect_command.run = run
sys.exit(main(["inspect", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGTERM, b"aprqa: ended by SIGTERM\n"),
        (signal.SIGHUP, b"aprqa: ended by SIGHUP\n"),
        (signal.SIGINT, b"aprqa: interrupted\n"),
    ],
)
def test_a_signal_ends_a_long_writing_in_order(
    tmp_path: Path, number: signal.Signals, told: bytes
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_COMMAND, str(tmp_path / "m.gguf")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, told)
    assert list(tmp_path.iterdir()) == []


def test_the_callers_own_handlers_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def look(chosen: object) -> Exit:
        seen.append(signal.getsignal(signal.SIGTERM))
        return Exit.FINE

    monkeypatch.setattr(inspect_command, "run", look)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert run("inspect", "m").status == 0
        assert callable(seen[0])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert run("inspect", "m").status == 0
        assert seen[1] is signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    process = python("validate", str(tmp_path / "none.gguf"))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(f"aprqa: {tmp_path}/none.gguf: there is no such file".encode())
