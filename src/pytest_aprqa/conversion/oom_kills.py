"""How often the kernel has killed a process for want of memory: evidence of why a child is gone."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")
"""The whole machine's counters (proc(5)), the line `oom_kill N`."""
OWN_GROUP = Path("/proc/self/cgroup")
"""Which control group this process is in (cgroups(7)): version 2 is the line `0::PATH`, version 1
has one line for each controller, `N:memory:PATH`."""
GROUPS = Path("/sys/fs/cgroup")


def oom_kills() -> tuple[int, ...]:
    """The kernel's counters of such kills: the machine's and the control group's.

    They only grow; one that this system does not tell is left out. The kernel counts before it
    kills, so a child's own is in them once the child is gone.
    """
    counters = (_counter(path) for path in (VMSTAT, *_events()))
    return tuple(count for count in counters if count is not None)


def _events() -> tuple[Path, ...]:
    try:
        lines = OWN_GROUP.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    found: list[Path] = []
    for _number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if not controllers:
            found.append(GROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(GROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return tuple(found)


def _counter(path: Path) -> int | None:
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(entry[1]) for entry in found if entry[:1] == ["oom_kill"]), None)
