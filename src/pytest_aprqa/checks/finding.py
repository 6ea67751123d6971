"""What a gate's check found: its ruling, what was seen, what it measured, and who is to blame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.verdict import Ruling

_REASON_LIMIT = 600
_LARGEST = 1e300


@dataclass(frozen=True, slots=True)
class Finding:
    """One gate's ruling."""

    ruling: Ruling
    reason: str
    """One line: what was seen and, where it was not that, what was expected."""
    details: tuple[str, ...] = ()
    """Requests and responses, shortened, and remarks."""
    measurements: Mapping[str, float] = field(default_factory=dict)
    culprit: str = ""
    """The tensor, layer or file that is to blame, by its own name; empty where none can be told."""


def held(
    reason: str, *, details: Sequence[str] = (), measured: Mapping[str, float] | None = None
) -> Finding:
    """The claim survived: `reason` says what was seen."""
    return _finding(Ruling.CORROBORATED, reason, details, measured, "")


def refuted(
    reason: str,
    *,
    culprit: str = "",
    details: Sequence[str] = (),
    measured: Mapping[str, float] | None = None,
) -> Finding:
    """The claim is refuted: `reason` says where, what was seen and what was expected."""
    return _finding(Ruling.FALSIFIED, reason, details, measured, culprit)


class NothingToJudge(AprqaError):
    """What several gates look at is not there, so that none of them may hold: inconclusive."""


def without_meaning(reason: str) -> Finding:
    """The claim has no meaning for this model or this run: nothing was shown, nothing left out."""
    return _finding(Ruling.INAPPLICABLE, reason, (), None, "")


def undecided(
    reason: str, *, details: Sequence[str] = (), measured: Mapping[str, float] | None = None
) -> Finding:
    """It was tried, and what was measured allows neither verdict: no pass."""
    return _finding(Ruling.INCONCLUSIVE, reason, details, measured, "")


def _finding(
    ruling: Ruling,
    reason: str,
    details: Sequence[str],
    measured: Mapping[str, float] | None,
    culprit: str,
) -> Finding:
    return Finding(
        ruling,
        one_line(reason, limit=_REASON_LIMIT),
        tuple(details),
        {name: _finite(value) for name, value in (measured or {}).items()},
        culprit,
    )


def _finite(value: float) -> float:
    """JSON has no infinity and no NaN: a number too large to be meant stands for either."""
    number = float(value)
    return number if math.isfinite(number) else math.copysign(_LARGEST, number)
