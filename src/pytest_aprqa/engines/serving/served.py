"""A model that a server answers for, as its clients see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a server ended after SIGTERM."""

    seconds: float
    how: str
    """`ended with status 0`, `died of SIGTERM`, `was killed after 10 s`."""
    clean: bool
    """True when it ended by itself, in time, with status 0 or of that very SIGTERM."""


class Served(Protocol):
    """One model behind an OpenAI-compatible server."""

    @property
    def url(self) -> str:
        """The server's root, such as `http://127.0.0.1:40001`, without a slash at its end."""

    @property
    def model_name(self) -> str:
        """What requests name the model."""

    @property
    def ours(self) -> bool:
        """True for a server started here: it may be stopped, and its memory can be read."""

    @property
    def alive(self) -> bool:
        """Whether its process runs; of a server that is not ours, whether it answers."""

    def describe(self) -> Mapping[str, str]:
        """What answers, for the evidence: engine, versions, device, as far as they are known."""

    def headers(self) -> dict[str, str]:
        """What every request carries, such as the key of an endpoint. Never goes into evidence."""

    def memory_bytes(self) -> int | None:
        """Resident memory of the server now; None where it cannot be read."""

    def log_tail(self) -> str:
        """The last lines that the server wrote; empty where they cannot be read."""

    def stop(self, limit_s: float) -> Stopped:
        """SIGTERM, then SIGKILL at the limit; only for a server that is `ours`."""
