"""llama.cpp's log as a person wants it beside a server: one line a request, and what went wrong."""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INFO = re.compile(r"\d+\.\d+\.\d+\.\d+ I ")
_TOTAL = re.compile(r"total time = +([\d.]+) ms / +(\d+) tokens")


def shown(line: str, *, requests: bool) -> str | None:
    """What becomes of a line: an answer's total in short, everything but information as it is."""
    if not _INFO.match(line):
        return line
    total = _TOTAL.search(line)
    if total is None or not requests:
        return None
    return f"answered: {total[2]} tokens with the prompt, {float(total[1]) / 1000:.2f} s"


@contextmanager
def readable_log(*, requests: bool) -> Iterator[threading.Event]:
    """Standard error of this process, native code's too, shows only what `shown` leaves.

    Nothing at all is shown once the event is set. The block has to be left for the rest to be seen.
    """
    muted = threading.Event()
    own = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def pass_on() -> None:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                told = shown(line.rstrip("\n"), requests=requests)
                if told is not None and not muted.is_set():
                    os.write(own, f"{told}\n".encode())

    thread = threading.Thread(target=pass_on, name="aprqa-log", daemon=True)
    thread.start()
    try:
        yield muted
    finally:
        os.dup2(own, 2)  # the last end of the pipe that is written to: the thread ends
        thread.join()
        os.close(own)
