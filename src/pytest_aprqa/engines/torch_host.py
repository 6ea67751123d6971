"""The one child process in which this process's torch models are: started, replaced, ended."""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.child_process import ChildProcess
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

MODULE = "pytest_aprqa.engines.torch_child"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""What libraries size their pools of threads by as they are imported."""


class TorchHost:
    """At most one child at a time; it is started when it is needed and imports torch once.

    Threads may share the host: one talks to the child at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self._child: ChildProcess | None = None
        self._forgotten: list[int] = []
        self._handles = itertools.count(1)

    @property
    def child(self) -> ChildProcess | None:
        """The child as it is now; None before the first start and after the end of the last."""
        return self._child if self._child is not None and self._child.alive else None

    def start(self, threads: int | None = None) -> ChildProcess:
        """The running child, started if there is none, without waiting for it.

        `threads` sizes the pools of its libraries unless the caller's environment says otherwise.
        """
        with self._lock:
            child = self.child
            if child is None:
                settings = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
                child = self._child = ChildProcess(MODULE, environment=settings)
                self._forgotten.clear()  # they went with the last one
            return child

    @contextmanager
    def talk(self) -> Iterator[None]:
        """The child is this thread's alone in the block, from a question to its last answer.

        Whatever cuts it short (an interrupt, say) ends the child: what it says next would answer
        something else. So does an error of CUDA, after which a process computes nothing any more.
        """
        with self._lock:
            try:
                yield
            except EngineCrashed as crash:
                if "CUDA error" in crash.error:
                    self.close()
                raise
            except (InvalidRequest, LoadFailed, EngineUnavailable):
                raise  # the child's last answer
            except BaseException:
                self.close()
                raise

    def new_handle(self) -> int:
        """A number that no model of this host has had."""
        return next(self._handles)

    def send(self, child: ChildProcess, handle: int, do: str, **what: Any) -> None:
        """Give the child something to do with the model that has this handle."""
        message: Mapping[str, Any] = {"do": do, "handle": handle, **what}
        forgotten, self._forgotten = self._forgotten, []
        child.send({**message, "forgotten": forgotten})

    def forget(self, handle: int) -> None:
        """Let the child free a model with the next thing it is asked; never waits."""
        self._forgotten.append(handle)

    def close(self) -> None:
        """End the child. It is started again when a model is used."""
        if self._child is not None:
            self._child.close()
            self._child = None


_host: TorchHost | None = None


def torch_host() -> TorchHost:
    """This process's host; a forked copy of a process has one of its own."""
    global _host
    if _host is None or _host._owner != os.getpid():
        _host = TorchHost()
    return _host


def prefetch(threads: int | None = None) -> None:
    """Start the child early: it imports torch while this process does something else."""
    torch_host().start(threads)


def shutdown() -> None:
    """End the child; engines load their models again when they are next asked."""
    torch_host().close()
