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

from pytest_aprqa.conversion.child_protocol import STACK_SIGNAL, Frame, FrameBuffer, packed
from pytest_aprqa.conversion.oom_kills import oom_kills

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT_BYTES = 16_384
"""Most bytes of the child's standard error that are kept, the last ones."""
LONGEST_WAIT_S = 1e6
"""A longer limit is no limit: the system's clocks take no larger numbers everywhere."""
DYING_S = 5.0
"""What a child that has closed its output is given to be gone."""
WHERE_S = 1.5
"""What a silent child is given to say where it is, before it is killed."""
WHERE_QUIET_S = 0.25
"""A stack is whole when nothing more of it has come for so long."""
_OUT_OF_MEMORY = ("std::bad_alloc", "MemoryError", "OutOfMemoryError", "out of memory")
"""What C++, Python, torch and CUDA call it as they die of it."""
_DUMP = ("Fatal Python error:", "Current thread 0x", "Thread 0x")
"""How a stack of faulthandler begins."""
_PIECE = 1 << 20
# Run as a module from where this package lies: the child's own path may not lead there. -P keeps
# the current directory out of it, where any file may be named like a library.
_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_HOME = str(Path(__file__).parents[2])


def child_command(module: str) -> list[str]:
    """The command line of a child of ours that this thread is about to start."""
    # The kernel watches the thread that starts the child, and only the main one lives on.
    watched = threading.current_thread() is threading.main_thread()
    parent = str(os.getpid() if watched else 0)
    return [sys.executable, "-P", "-c", _START, _HOME, module, parent]


def child_environment() -> dict[str, str]:
    """The environment of a child of ours."""
    # On an abort GGML would start a debugger to print where it was.
    return {**os.environ, "GGML_NO_BACKTRACE": "1"}


def how_it_ended(status: int) -> str:
    """A process's status in words: `ended with status 3`, `died of SIGSEGV`."""
    if status >= 0:
        return f"ended with status {status}"
    names = {int(known): known.name for known in signal.Signals}
    return f"died of {names.get(-status, f'signal {-status}')}"


class ChildDied(Exception):
    """The child ended before it answered."""

    def __init__(self, how: str, said: str, *, out_of_memory: bool = False) -> None:
        super().__init__(how)
        self.how = how
        """`died of SIGSEGV`, `ended with status 3`; why, where there is evidence."""
        self.said = said
        """The last lines of its standard error, with its stack where Python could tell it."""
        self.out_of_memory = out_of_memory
        """Whether there is evidence that it ended for want of memory."""

    @property
    def last_words(self) -> str:
        """The last line that the child said before any stack; empty when there is none."""
        return last_words(self.said)


class ChildSilent(Exception):
    """The child did not answer in time; it was killed."""

    def __init__(self, what: str, where: str = "", said: str = "") -> None:
        super().__init__(what)
        self.where = where
        """The stacks of its threads when it was killed; empty when it could not tell."""
        self.said = said
        """The last lines of its standard error before that."""

    @property
    def diagnosis(self) -> str:
        """The stacks, else what it last said."""
        return self.where or self.said


class ChildProcess:
    """A child that runs one of this package's modules and answers frames with frames.

    It has a session of its own, so that Ctrl-C reaches only the parent, and ends with the parent.
    When a wait for it ends in anything but an answer (an interrupt included) it is killed, as
    whatever it says next would be taken for the answer to something else.
    """

    def __init__(self, module: str, *, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to this process's own, where that does not say it already."""
        self._oom_kills = oom_kills()
        self._process = subprocess.Popen(
            child_command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={**(environment or {}), **child_environment()},
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
                        raise self._silence(f"no answer within {timeout_s:g} s")
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

    def _silence(self, what: str) -> ChildSilent:
        """What is known of a child that does not answer: it is asked for its stacks."""
        said = self.said
        self._said.clear()
        # Python's handler writes them from within the signal, even while native code computes.
        self._process.send_signal(STACK_SIGNAL)
        self._process.send_signal(signal.SIGCONT)  # a stopped child hears nothing
        deadline, wait = time.monotonic() + WHERE_S, WHERE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._stream("stderr"), selectors.EVENT_READ)
            while wait > 0 and selector.select(wait):
                if not (data := os.read(self._stream("stderr"), _PIECE)):
                    break
                self._hear(data)
                wait = min(WHERE_QUIET_S, deadline - time.monotonic())
        return ChildSilent(what, self.said, said)

    def _death(self) -> ChildDied:
        """How the child ended, told after its output did."""
        try:
            status = self._process.wait(timeout=DYING_S)
        except subprocess.TimeoutExpired:
            return ChildDied("closed its output and went on", self.said)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stream("stderr"), _PIECE):
                self._hear(data)
        how, said = how_it_ended(status), self.said
        if status == -signal.SIGKILL and oom_kills() != self._oom_kills:
            how += "; the kernel's out-of-memory killer is the likely cause"
            return ChildDied(how, said, out_of_memory=True)
        if status and any(words in said for words in _OUT_OF_MEMORY):
            return ChildDied(f"{how}; it ran out of memory", said, out_of_memory=True)
        return ChildDied(how, said)

    def _stream(self, name: str) -> int:
        return int(getattr(self._process, name).fileno())


def last_words(said: str) -> str:
    """The last line of a child's standard error that is no part of a stack; empty without one."""
    lines = said.splitlines()
    stack = next((n for n, line in enumerate(lines) if line.startswith(_DUMP)), len(lines))
    spoken = [line for line in lines[:stack] if line.strip()] or lines[stack : stack + 1]
    return spoken[-1].strip() if spoken else ""


def innermost(stacks: str, frames: int = 3) -> str:
    """The innermost frames of the main thread in one line, from stacks as faulthandler tells them.

    Empty when there are none.
    """
    main = stacks.rpartition("hread 0x")[2].splitlines()[1:]  # threads stand newest first
    found = [line.strip() for line in main if line.lstrip().startswith("File ")]
    return " < ".join(found[:frames])


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill the child, take its status and close the pipes; a forked copy of the parent does not."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
