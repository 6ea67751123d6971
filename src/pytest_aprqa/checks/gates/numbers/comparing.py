"""Teacher-forced logits against a reference's: numbers by position, intervals over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.numbers.reference import Led, logsum
from pytest_aprqa.domain.tolerance import KLD_CAP

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DRAWS = 2000
"""Draws of the bootstrap."""
CONFIDENCE = 0.95
"""Of the two-sided interval."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text: what the target gives beside what the reference gives, by position."""

    kld: Array
    """KL(reference || target) in nats; for vocabularies that are not kept whole over the kept
    tokens and the rest as one, which is a lower bound (data processing inequality)."""
    same: Array
    """Whether the most probable token is the same."""
    best: Array
    """The target's most probable token."""
    change: Array
    """Difference of the probability of the text's next token; one position less."""
    cost: Array
    """Difference of its negative logarithm: positive where the target finds it less likely."""
    error: Array
    """Squared error of the centred logits, summed over the kept tokens."""
    power: Array
    """Square of the reference's centred logits, summed."""
    product: Array
    """The target's centred logits times the reference's, summed."""
    largest: float
    """Largest difference of two logits."""
    tops: tuple[frozenset[int], ...]
    """The target's five most probable tokens by position."""


def compare(reference: Led, logits: Array) -> Text:
    """The numbers of one text; `logits` is float32 [positions, vocabulary], all finite.

    Only positions that count, but for `best` and `tops`.
    """
    import numpy as np

    ids = np.array(reference.ids)
    sums = logsum(logits)
    kept = logits
    if reference.tokens is not None:
        kept = np.take_along_axis(logits, reference.tokens, axis=1)
    p = reference.values.astype(np.float64) - reference.logsum[:, None]
    q = kept.astype(np.float64) - sums[:, None]
    kld = (np.exp(p) * (p - q)).sum(axis=1)
    if reference.tokens is not None:
        rest, other = (np.maximum(1 - np.exp(x).sum(axis=1), 1e-12) for x in (p, q))
        kld += rest * np.log(rest / other)
    best = logits.argmax(axis=1)
    told, was = _next(reference, ids, p), logits[range(len(ids) - 1), ids[1:]] - sums[:-1]
    at = reference.judged
    known = np.isfinite(told) & at[:-1]
    a, b = p - p.mean(axis=1, keepdims=True), q - q.mean(axis=1, keepdims=True)
    return Text(
        kld=np.maximum(kld, 0.0)[at],
        same=(best == reference.best)[at],
        best=best,
        change=(np.exp(was) - np.exp(told))[known],
        cost=(told - was)[known],
        error=np.square(a - b).sum(axis=1)[at],
        power=np.square(a).sum(axis=1)[at],
        product=(a * b).sum(axis=1)[at],
        largest=float(np.abs(kept - reference.values)[at].max(initial=0.0)),
        tops=tuple(frozenset(map(int, row)) for row in np.argpartition(logits, -5, axis=1)[:, -5:]),
    )


def _next(reference: Led, ids: Array, p: Array) -> Array:
    """Log-probability of each next token; NaN where it is not among the kept ones."""
    import numpy as np

    if reference.tokens is None:
        found: Array = p[range(len(ids) - 1), ids[1:]]
        return found
    hits = reference.tokens[:-1] == ids[1:, None]
    return np.where(hits.any(axis=1), (np.where(hits, p[:-1], 0.0)).sum(axis=1), np.nan)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its interval over texts."""

    value: float
    low: float
    high: float


def ratio(over: Sequence[Array], under: Sequence[Array] | None = None) -> Estimate:
    """Sum of `over` by sum of `under` (or by the count), texts drawn again with replacement.

    A bootstrap over texts, as positions of one text depend on each other; the seed is fixed.
    """
    import numpy as np

    top = np.array([float(np.sum(x)) for x in over])
    bottom = np.array([float(np.sum(x)) for x in under] if under else [float(len(x)) for x in over])
    weights = np.random.default_rng(0).multinomial(
        len(top), np.full(len(top), 1 / len(top)), size=DRAWS
    )
    totals = weights @ bottom
    kept = totals > 0
    drawn = (weights @ top)[kept] / totals[kept]
    half = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (half, 1 - half))
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high))


def capped(text: Text) -> Array:
    """The divergences, none above KLD_CAP."""
    import numpy as np

    return np.minimum(text.kld, KLD_CAP)
