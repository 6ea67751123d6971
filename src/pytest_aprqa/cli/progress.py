"""A progress line that a terminal sees and a log does not."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from pytest_aprqa.cli.screen import is_fancy
from pytest_aprqa.cli.sizes import told_bytes, told_rate
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# A terminal need not see more than ten changes in a second.
_INTERVAL = 0.1
_CLEAR = "\r\x1b[2K"


class ProgressLine:
    """Called with a name, how much is done, and how much there is; clears its line at the end."""

    def __init__(
        self,
        *,
        bytes_counted: bool,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = is_fancy(self._stream)
        self._bytes, self._clock = bytes_counted, clock
        self._start = self._last = clock()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show the line, at most every tenth of a second."""
        now = self._clock()
        if not self._shown or (now - self._last < _INTERVAL and done < total):
            return
        self._last = now
        amount = f"{done} of {total} tensors"
        if self._bytes:
            rate = told_rate(done, now - self._start)
            amount = f"{told_bytes(done)} of {told_bytes(total)}" + (f", {rate}" if rate else "")
        share = f"{100 * done // total} %, " if total else ""
        # Longer than a terminal's line, it would scroll instead of being written over.
        self._stream.write(f"{_CLEAR}{one_line(f'{share}{amount}: {name}', limit=79)}")
        self._stream.flush()
