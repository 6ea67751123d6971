"""Time a command as a whole process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(arguments: Sequence[str], *, runs: int) -> list[float]:
    """Wall seconds of `python *arguments` in the project's root, one warm-up run not counted."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        taken.append(time.perf_counter() - began)
    return taken[1:]


def report(what: str, taken: Sequence[float], *, unit: str = "s", scale: float = 1.0) -> None:
    """Print minimum, median and maximum."""
    low, high = min(taken) * scale, max(taken) * scale
    middle = statistics.median(taken) * scale
    print(f"{what}: {middle:.2f} {unit} median of {len(taken)} ({low:.2f} to {high:.2f})")
