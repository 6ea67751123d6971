"""What a child process that runs native code and its parent say to each other.

A frame is a JSON object and raw bytes: the length of the object's text (uint32) and of the bytes
(uint64), both little-endian, then the two themselves.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTHS = struct.Struct("<IQ")
_PR_SET_PDEATHSIG = 1
"""Of prctl(2): which signal this process gets when the thread that started it ends."""
STACK_SIGNAL = signal.SIGUSR1
"""On this signal a child writes the stacks of its threads to standard error and goes on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: a JSON object, and bytes that would be too many as JSON."""

    message: dict[str, Any]
    blob: bytes = b""


def packed(message: Mapping[str, Any], blob: bytes = b"") -> bytes:
    """A frame's bytes."""
    text = json.dumps(message).encode("ascii")
    return _LENGTHS.pack(len(text), len(blob)) + text + blob


class FrameBuffer:
    """Gathers bytes as they arrive and gives the frames in them, in order."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes have arrived."""
        self._data += data

    def take(self) -> Frame | None:
        """The next whole frame; None while it is incomplete."""
        if len(self._data) < _LENGTHS.size:
            return None
        text, blob = _LENGTHS.unpack_from(self._data)
        middle, end = _LENGTHS.size + text, _LENGTHS.size + text + blob
        if len(self._data) < end:
            return None
        frame = Frame(
            json.loads(self._data[_LENGTHS.size : middle]),
            bytes(memoryview(self._data)[middle:end]),
        )
        del self._data[:end]
        return frame


class Channel:
    """The child's end: frames come on its standard input and leave on its standard output."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def receive(self) -> Frame | None:
        """The next message; None when the parent has gone or wants no more."""
        lengths = self._incoming.read(_LENGTHS.size)
        if len(lengths) < _LENGTHS.size:
            return None
        buffer = FrameBuffer()
        buffer.feed(lengths + self._incoming.read(sum(_LENGTHS.unpack(lengths))))
        return buffer.take()

    def send(self, message: Mapping[str, Any], blob: bytes = b"") -> None:
        """Send one message; a parent that has gone ends this process."""
        try:
            self._outgoing.write(packed(message, blob))
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(1)


def open_channel() -> Channel:
    """Make this process a child; its command line names the parent to watch by pid, 0 for none.

    Standard input and output become the channel's alone: what native code prints goes to standard
    error. No core dump is written, and with a parent given the kernel ends this process when that
    parent dies, however it dies. A signal that kills native code writes the stacks first.
    """
    faulthandler.enable(2)
    faulthandler.register(STACK_SIGNAL, 2)
    _end_with_parent(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Channel(incoming, outgoing)


def _end_with_parent(parent: int) -> None:
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)


def peak_memory_bytes() -> int:
    """The most memory this process has held.

    From its own status where there is one: getrusage's figure begins with that of the parent that
    started it.
    """
    if not sys.platform.startswith("linux"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:  # noqa: PTH123
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no line VmHWM: expected the peak resident memory")
