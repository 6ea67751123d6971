"""Temporary directories: gone at the end, and those of killed processes gone with the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_aprqa.formats.scratch import scratch

HOLDER = """
import sys, time
from pytest_aprqa.formats.scratch import scratch
with scratch() as directory:
    (directory / "large").write_text("x")
    print(directory, flush=True)
    time.sleep(120)
"""


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def holder() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_empty_at_first_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch() as directory:
        assert list(directory.iterdir()) == []
        assert directory.parent == tmp_path
        (directory / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), scratch():
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_process_goes_with_the_next_one() -> None:
    process, left = holder()
    process.kill()
    process.communicate()
    assert left.exists()
    with scratch():
        assert not left.exists()


def test_that_of_a_living_process_stays() -> None:
    process, held = holder()
    with scratch():
        assert (held / "large").exists()
    process.kill()
    process.communicate()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    other = tmp_path / "aprqa-report"
    other.mkdir()
    target = tmp_path / "precious"
    target.mkdir()
    (tmp_path / "aprqa-scratch-link").symlink_to(target)
    with scratch():
        assert other.exists()
    assert target.exists()
