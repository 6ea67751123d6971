"""What a gate found, and the two ways in which it ends early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_aprqa.domain.verdict import Ruling


@dataclass(frozen=True, slots=True)
class GateFinding:
    """One gate's ruling on a server."""

    ruling: Ruling
    reason: str
    """One line: what was seen and, where it was not that, what was expected."""
    details: tuple[str, ...] = ()
    """Requests and responses, shortened, and remarks."""
    measurements: Mapping[str, float] = field(default_factory=dict)


class Refuted(Exception):
    """The server does not do what the gate asserts; the message says what was seen."""


class NotApplicable(Exception):
    """The gate cannot be put to this server or model; the message says why."""
