"""Run a command-line program to its end or its time limit, and leave nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEPT_BYTES = 1 << 20
"""Most bytes of standard output that are read, the last ones; an answer is a few kilobytes."""
KEPT_ERROR_BYTES = 16_384
"""Most bytes of standard error that are read, the last ones."""
_LONGEST_NAP_S = 0.02
_PR_SET_PDEATHSIG = 1
# The program takes the place of this interpreter, so the kernel's promise to end it with its
# parent holds for the program.
_START = f"""
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if parent and sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it said."""

    status: int | None
    """Its exit status, the negative signal that ended it, or None: it was late and killed."""
    output: str
    errors: str
    """The tail of standard error."""
    total_s: float
    peak_memory_bytes: int

    @property
    def late(self) -> bool:
        """Whether it was killed at its time limit."""
        return self.status is None

    @property
    def how(self) -> str:
        """`ended with status 3`, `died of SIGSEGV`."""
        if self.status is None:
            return "ran out of time"
        if self.status >= 0:
            return f"ended with status {self.status}"
        names = {int(known): known.name for known in signal.Signals}
        return f"died of {names.get(-self.status, f'signal {-self.status}')}"


def run_tool(
    command: Sequence[str],
    *,
    given: str = "",
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program (its first word an absolute path) with `given` on its standard input.

    It has a session of its own, is killed with everything in it at the limit and at an interrupt,
    and by the kernel when this process dies. What its own children leave running ends with it.

    Raises:
        OSError: it cannot be started: no memory, too long a command.
    """
    with (
        tempfile.TemporaryFile() as incoming,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        incoming.write(given.encode("utf-8", "replace"))
        incoming.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, str(os.getpid()), *command],
            stdin=incoming,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        late = True  # until it has ended by itself
        try:
            late = not _wait(process, timeout_s)
        finally:
            total_s = time.perf_counter() - began
            status, peak = _end(process)
        return Ended(
            status=None if late else status,
            output=_tail(output, KEPT_BYTES),
            errors=_tail(errors, KEPT_ERROR_BYTES).strip(),
            total_s=total_s,
            peak_memory_bytes=peak,
        )


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether it ended in time; it is left a zombie, so that its group's number stays its own."""
    deadline = time.monotonic() + timeout_s
    nap = 0.001
    while True:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, process.pid, options) is not None:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP_S)


def _end(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Kill all of its session's first group, and take its status and peak memory in bytes."""
    with contextlib.suppress(ProcessLookupError):  # some kernels find no group of a zombie alone
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024


def _tail(stream: IO[bytes], size: int) -> str:
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - size))
    return stream.read().decode("utf-8", "replace")
