"""How fast a model answers: repeated runs as data, and intervals for what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.statistics import binomial_cdf

SCHEMA = "aprqa-profile-1"
_OUTSIDE = 0.025
"""Share of cases in which a 95 % interval lies wholly on one side of the truth."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """One measured answer; seconds from the start of its prefill."""

    tokens: int
    ttft_s: float
    total_s: float
    token_s: tuple[float, ...]
    """When each token was there; empty where the engine tells none."""

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """The time of each token after the first; their mean where only that is known."""
        if len(self.token_s) > 1:
            return tuple(b - a for a, b in zip(self.token_s, self.token_s[1:], strict=False))
        later = self.tokens - 1
        return ((self.total_s - self.ttft_s) / later,) if later > 0 else ()

    @property
    def throughput(self) -> float:
        """Tokens a second over the whole answer."""
        return self.tokens / self.total_s if self.total_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Repeated runs of one target on one machine."""

    model: str
    target: str
    engine: str
    device: str
    host: str
    prompt_tokens: int
    asked_tokens: int
    """Tokens that each measured run was to generate."""
    warmup: int
    runs: tuple[RunTimes, ...]
    prefill_tokens: int
    """Tokens of the longer prompt whose first token was timed."""
    prefill_s: tuple[float, ...]
    memory_bytes: tuple[int, ...]
    """Resident memory of the process that holds the model, after each measured run; empty where
    that is not known."""
    schema: str = SCHEMA

    @property
    def throughputs(self) -> tuple[float, ...]:
        """Tokens a second of each run."""
        return tuple(run.throughput for run in self.runs)

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """The times of all tokens after each run's first, in milliseconds."""
        return tuple(1e3 * gap for run in self.runs for gap in run.gaps_s)

    @property
    def run_gaps_ms(self) -> tuple[float, ...]:
        """Each run's median time of a token after the first, which no single pause moves."""
        return tuple(1e3 * quantile(run.gaps_s, 0.5) for run in self.runs if run.gaps_s)

    @property
    def ttfts_ms(self) -> tuple[float, ...]:
        """Times to the first token, in milliseconds."""
        return tuple(1e3 * run.ttft_s for run in self.runs)

    @property
    def memory_growth(self) -> float | None:
        """Growth of memory over the runs, as a share; None where memory is not known.

        The median of the last third of the runs over that of the first.
        """
        third = max(1, len(self.memory_bytes) // 3)
        if len(self.memory_bytes) < 2:
            return None
        first = quantile(self.memory_bytes[:third], 0.5)
        return quantile(self.memory_bytes[-third:], 0.5) / first - 1

    def as_json(self) -> dict[str, Any]:
        """The profile as an object of JSON."""
        return asdict(self)


def profile_of(told: Mapping[str, Any]) -> Profile:
    """A profile from what `as_json` gave, also after a way through JSON.

    Raises:
        AprqaError: it is none, or one of another schema.
    """
    try:
        if told["schema"] != SCHEMA:
            raise AprqaError(f"a profile of schema {told['schema']!r}; expected {SCHEMA}")
        runs = tuple(
            RunTimes(**{**entry, "token_s": tuple(entry["token_s"])}) for entry in told["runs"]
        )
        lists = {key: tuple(told[key]) for key in ("prefill_s", "memory_bytes")}
        return Profile(**{**told, **lists, "runs": runs})
    except (KeyError, TypeError) as error:
        raise AprqaError(
            f"no profile: {error!r}; `aprqa profile --save-baseline` writes one"
        ) from error


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantile of some samples, with the interval that holds it in 95 of 100 cases."""

    value: float
    low: float
    high: float


def quantile(samples: Sequence[float], q: float) -> float:
    """The q-quantile of samples, the nearest ones joined linearly (Hyndman and Fan's seventh)."""
    ordered = sorted(samples)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def estimate(samples: Sequence[float], q: float = 0.5) -> Estimate:
    """A quantile with its distribution-free interval from order statistics.

    The count of samples below the q-quantile is binomial, so two order statistics bound it (David
    and Nagaraja, Order Statistics, 7.1). Where there are too few samples for 95 %, the smallest and
    the largest stand for the bounds; one sample bounds nothing.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("no samples to estimate from")
    ordered, n = sorted(samples), len(samples)
    if n == 1:
        return Estimate(ordered[0], 0.0, math.inf)
    low = max((i for i in range(n) if binomial_cdf(i, n, q) <= _OUTSIDE), default=0)
    high = min((i for i in range(n) if binomial_cdf(i, n, q) >= 1 - _OUTSIDE), default=n - 1)
    return Estimate(quantile(ordered, q), ordered[low], ordered[high])


def spread(samples: Sequence[float]) -> float:
    """A coefficient of variation that single outliers do not move.

    The interquartile range over 1.349 is the standard deviation of normal samples; over the median.
    """
    middle = quantile(samples, 0.5)
    return (quantile(samples, 0.75) - quantile(samples, 0.25)) / 1.349 / middle if middle else 0.0
