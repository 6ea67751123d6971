"""Memory that can be taken, as the machine and its control groups tell it."""

from __future__ import annotations

from pathlib import Path

from pytest_aprqa.engines.system_memory import available_bytes


def cgroup(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)


def test_the_limit_of_a_container_counts_and_not_the_machines_memory(tmp_path: Path) -> None:
    of_self, mount = tmp_path / "cgroup", tmp_path / "fs"
    of_self.write_text("0::/outer/inner\n")
    cgroup(mount / "outer", {"memory.max": "9000\n", "memory.current": "5000\n"})
    cgroup(
        mount / "outer" / "inner",
        {
            "memory.max": "5000\n",
            "memory.current": "4000\n",
            "memory.stat": "anon 1000\ninactive_file 2500\n",
        },
    )
    assert available_bytes(of_self, mount) == 3500
    cgroup(mount / "outer", {"memory.current": "8999\n"})
    assert available_bytes(of_self, mount) == 1
    cgroup(mount / "outer", {"memory.current": "9999\n"})
    assert available_bytes(of_self, mount) == 0


def test_cgroups_of_the_first_version_count_too(tmp_path: Path) -> None:
    of_self, mount = tmp_path / "cgroup", tmp_path / "fs"
    of_self.write_text("4:memory:/job\n3:cpuset:/other\n0::/\n")
    limit = {"memory.limit_in_bytes": "7000", "memory.usage_in_bytes": "6000"}
    cgroup(mount / "memory" / "job", {**limit, "memory.stat": "total_inactive_file 500\n"})
    cgroup(mount / "cpuset" / "other", {"memory.limit_in_bytes": "1"})
    assert available_bytes(of_self, mount) == 1500


def test_without_limits_it_is_the_machines_memory(tmp_path: Path) -> None:
    of_self, mount = tmp_path / "cgroup", tmp_path / "fs"
    free = available_bytes(of_self, mount)
    of_self.write_text("0::/job\n")
    cgroup(mount / "job", {"memory.max": "max\n", "memory.current": "5\n"})
    assert free > 1 << 20
    assert available_bytes(of_self, mount) > 1 << 20
