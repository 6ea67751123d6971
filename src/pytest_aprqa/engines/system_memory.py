"""How much memory this process may still take: the machine's, within the limits of its cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_V1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "memory.max", "memory.current", "inactive_file")


def available_bytes(cgroups: Path = _CGROUPS, mount: Path = _MOUNT) -> int:
    """Bytes that can be taken before the system swaps or ends a process.

    Within a container the machine's free memory says nothing: its cgroup's limit does, less what
    is in use there but for file pages that the system can drop at once (proc(5), cgroups v1 and
    v2 as the kernel documents them).
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *_rooms(cgroups, mount)])


def _rooms(cgroups: Path, mount: Path) -> Iterator[int]:
    """What is left in each cgroup with a limit that this process is in, up to the root."""
    lines = cgroups.read_text(encoding="utf-8").splitlines() if cgroups.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit, usage, droppable = _V1 if controllers else _V2
        inside = PurePosixPath(path.lstrip("/"))
        for place in (inside, *inside.parents):
            room = _room(mount / folder / place, limit, usage, droppable)
            if room is not None:
                yield room


def _room(directory: Path, limit: str, usage: str, droppable: str) -> int | None:
    most, used = _number(directory / limit), _number(directory / usage)
    if most is None or used is None:
        return None
    statistics = directory / "memory.stat"
    text = statistics.read_text(encoding="utf-8") if statistics.is_file() else ""
    counted = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return max(0, most - used + int(counted.get(droppable, "0")))


def _number(path: Path) -> int | None:
    """The number in a file; None when there is no file or it says `max`."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8").strip()
    return int(text) if text.isdigit() else None
