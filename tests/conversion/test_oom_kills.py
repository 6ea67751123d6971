"""The kernel's counters of kills for want of memory, wherever a system keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.conversion import oom_kills as module
from pytest_aprqa.conversion.oom_kills import oom_kills


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system without counters, to be given some."""
    monkeypatch.setattr(module, "VMSTAT", tmp_path / "vmstat")
    monkeypatch.setattr(module, "OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(module, "GROUPS", tmp_path / "groups")
    return tmp_path


def test_a_system_without_counters_tells_nothing(system: Path) -> None:
    assert oom_kills() == ()


def test_the_machines_counter(system: Path) -> None:
    (system / "vmstat").write_text("nr_free_pages 9\noom_kill 3\n")
    assert oom_kills() == (3,)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/user.slice/a", "user.slice/a/memory.events"),
        ("4:memory:/box/b", "memory/box/b/memory.oom_control"),
        ("2:cpu,memory:/box/c", "memory/box/c/memory.oom_control"),
    ],
)
def test_the_groups_counter(system: Path, line: str, file: str) -> None:
    (system / "vmstat").write_text("oom_kill 3\n")
    (system / "cgroup").write_text(f"9:name=systemd:/\n7:blkio:/\n{line}\n")
    assert oom_kills() == (3,)
    path = system / "groups" / file
    path.parent.mkdir(parents=True)
    path.write_text("low 0\noom 4\noom_kill 2\noom_group_kill 9\n")
    assert oom_kills() == (3, 2)
    path.write_text("low 0\noom 4\noom_kill 5\n")
    assert oom_kills() == (3, 5)


def test_this_machine_can_be_asked() -> None:
    assert oom_kills() == oom_kills()
    assert all(count >= 0 for count in oom_kills())
