"""Start, ask, watch and end a child process of ours, in which native code may crash or hang."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_protocol import Frame, FrameBuffer, packed

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT_BYTES = 16_384
"""Most bytes of the child's standard error that are kept, the last ones."""
LONGEST_WAIT_S = 1e6
"""A longer limit is no limit: the system's clocks take no larger numbers everywhere."""
DYING_S = 5.0
"""What a child that has closed its output is given to be gone."""
_PIECE = 1 << 20
# Run as a module from where this package lies: the child's own path may not lead there. -P keeps
# the current directory out of it, where any file may be named like a library.
_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_HOME = str(Path(__file__).parents[2])


class ChildDied(Exception):
    """The child ended before it answered."""

    def __init__(self, how: str, said: str) -> None:
        super().__init__(how)
        self.how = how
        """`died of SIGSEGV`, `ended with status 3`."""
        self.said = said
        """The last lines of its standard error."""


class ChildSilent(Exception):
    """The child did not answer in time; it was killed."""


class ChildProcess:
    """A child that runs one of this package's modules and answers frames with frames.

    It has a session of its own, so that Ctrl-C reaches only the parent, and ends with the parent.
    When a wait for it ends in anything but an answer (an interrupt included) it is killed, as
    whatever it says next would be taken for the answer to something else.
    """

    def __init__(self, module: str) -> None:
        # The kernel watches the thread that starts the child, and only the main one lives on.
        watched = threading.current_thread() is threading.main_thread()
        parent = str(os.getpid() if watched else 0)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _HOME, module, parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            # On an abort GGML would start a debugger to print where it was.
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self._unsent = bytearray()
        self._frames = FrameBuffer()
        self._said = bytearray()
        self._end = weakref.finalize(self, _end, self._process, os.getpid())

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not been closed or killed here; it may have died unnoticed."""
        return self._end.alive

    @property
    def said(self) -> str:
        """The last lines of the child's standard error."""
        return self._said.decode("utf-8", "replace").strip()

    def send(self, message: Mapping[str, Any], blob: bytes = b"") -> None:
        """Give the child a message; it leaves while `receive` waits, so that this never blocks."""
        self._unsent += packed(message, blob)

    def receive(self, timeout_s: float | None) -> Frame:
        """The child's next message, waited for at most so long (None: as long as it takes).

        Raises:
            ChildDied: it ended first.
            ChildSilent: it did not answer in time.
        """
        deadline = None
        if timeout_s is not None:
            deadline = time.monotonic() + min(timeout_s, LONGEST_WAIT_S)
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                while (frame := self._frames.take()) is None:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise ChildSilent(f"no answer within {timeout_s:g} s")
                    self._exchange(selector, left)
        except BaseException:
            self.close()
            raise
        return frame

    def close(self) -> None:
        """End the child, whatever it does, and wait until it is gone. Closing twice is fine."""
        self._end()

    def _register(self, selector: selectors.BaseSelector) -> None:
        if not self.alive:
            raise ChildDied("is closed", self.said)
        if self._unsent:
            selector.register(self._stream("stdin"), selectors.EVENT_WRITE, "stdin")
        selector.register(self._stream("stdout"), selectors.EVENT_READ, "stdout")
        selector.register(self._stream("stderr"), selectors.EVENT_READ, "stderr")

    def _exchange(self, selector: selectors.BaseSelector, timeout_s: float | None) -> None:
        """Move what can be moved now between the two processes."""
        for key, _events in selector.select(timeout_s):
            if key.data == "stdin":
                self._write(selector, key.fd)
            elif data := os.read(key.fd, _PIECE):
                if key.data == "stdout":
                    self._frames.feed(data)
                else:
                    self._hear(data)
            elif key.data == "stderr":
                selector.unregister(key.fileobj)
            else:
                raise self._death()

    def _write(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        try:
            del self._unsent[: os.write(descriptor, self._unsent[:_PIECE])]
        except BrokenPipeError:
            self._unsent.clear()  # it is dying; the end of its output says how
        if not self._unsent:
            selector.unregister(descriptor)

    def _hear(self, data: bytes) -> None:
        self._said += data
        del self._said[:-KEPT_BYTES]

    def _death(self) -> ChildDied:
        """How the child ended, told after its output did."""
        try:
            status = self._process.wait(timeout=DYING_S)
        except subprocess.TimeoutExpired:
            return ChildDied("closed its output and went on", self.said)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stream("stderr"), _PIECE):
                self._hear(data)
        names = {int(known): known.name for known in signal.Signals}
        how = f"ended with status {status}"
        if status < 0:
            how = f"died of {names.get(-status, f'signal {-status}')}"
        return ChildDied(how, self.said)

    def _stream(self, name: str) -> int:
        return int(getattr(self._process, name).fileno())


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill the child, take its status and close the pipes; a forked copy of the parent does not."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
