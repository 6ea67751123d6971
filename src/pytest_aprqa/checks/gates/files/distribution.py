"""Gates over how the ground truth's weights are spread, each tensor against its siblings."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.structure import EMBEDDING, LAYER
from pytest_aprqa.checks.gates.files.values import Weights, weights
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.domain.gate import Cost, Place, Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DISTRIBUTION: Family[ModelLab] = Family(
    domain="distribution", place=Place.MODEL, cost=Cost.WEIGHTS, rung=Rung.TENSOR
)
SIBLINGS = 3
"""Layers from which a median says what is usual."""
APART = 6.0
"""Times its siblings' median that a projection's root mean square may be, or be below: the embedded
model's stay within 1.4; a lost scale of ten is beyond it."""
MANY = 8
"""Siblings from which their own differences widen what is allowed: fewer say little of that."""
SPREAD = 8.0
"""Median deviations, of logarithms, that are allowed where many siblings differ much."""
NORMS_APART = 64.0
"""Times its siblings' median that a norm's root mean square may be: norms differ by layer far more
than projections do, the first layer's most of all."""
OFF_CENTER = 0.5
"""Largest mean of a projection, of its own root mean square: the embedded model's stay below a
hundredth; a zero point that was not subtracted shifts all values by more than their spread."""
SPIKE = 1000.0
"""Largest magnitude of a weight, of its siblings' median root mean square: the embedded model's
stay below 27; a flipped exponent bit is far beyond, and outliers that models need are not."""
TABLE = (1e-4, 10.0)
"""Root mean squares that embeddings and heads lie within: fresh ones begin at 0.02 (most configs'
initializer_range) or 1 (torch), and training moves either by less than two orders."""
_ATTENTION = re.compile(r"(attn|attention)\b.*\.weight$|(attn|attention)\.[^.]*\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_NORM = re.compile(r"(norm\d?|(^|\.)ln_\w+)(\.weight)?$")
_NUMBER = re.compile(r"(?<=experts\.)\d+(?=\.)")
# Norms that are stored as what they differ from one by.
_OFFSET_FAMILIES = re.compile(
    r"(gemma|gemma2|gemma3|gemma3_text|recurrent_gemma|nemotron|t5gemma.*|vaultgemma|qwen3_next"
    r"|qwen3_5.*|qwen4.*|minimax_m3.*|step3p7.*|muse_.*)"
)


def _groups(lab: ModelLab, of: Callable[[Weights], bool]) -> Mapping[str, list[Weights]]:
    """Tensors that stand in the same place of different layers (and experts), by that place."""
    found: dict[str, list[Weights]] = defaultdict(list)
    for tensor in lab.once(weights):
        if LAYER.search(tensor.name) and of(tensor) and _usual(tensor):
            place = LAYER.sub(r"\1\2.*.", _NUMBER.sub("*", tensor.name), count=1)
            found[place].append(tensor)
    return {place: group for place, group in found.items() if len(group) >= SIBLINGS}


def _usual(tensor: Weights) -> bool:
    """Whether its values can be compared: others tell of NaN, infinities and zeros."""
    return tensor.values > 0 and tensor.nan == tensor.inf == 0 and tensor.square > 0


def _is_projection(tensor: Weights) -> bool:
    return tensor.is_matrix and not EMBEDDING.match(tensor.name) and not _HEAD.search(tensor.name)


def _is_attention(tensor: Weights) -> bool:
    return _is_projection(tensor) and bool(_ATTENTION.search(tensor.name))


def _is_norm(tensor: Weights) -> bool:
    return len(tensor.shape) == 1 and tensor.values > 1 and bool(_NORM.search(tensor.name))


def _alike(lab: ModelLab, of: Callable[[Weights], bool], limit: float) -> Finding:
    """Refuted by the tensor whose size is farthest from its siblings', beyond the limit."""
    groups = _groups(lab, of)
    if not groups:
        return without_meaning(f"no tensor of the kind stands in {SIBLINGS} layers or more")
    worst, told, usual = 0.0, None, 0.0
    for group in groups.values():
        logs = [math.log(tensor.square) / 2 for tensor in group]
        middle = statistics.median(logs)
        deviation = statistics.median(abs(value - middle) for value in logs)
        own = SPREAD * deviation if len(group) >= MANY else 0.0
        allowed = max(math.log(limit), own)
        for tensor, value in zip(group, logs, strict=True):
            if abs(value - middle) / allowed > worst:
                worst, told, usual = abs(value - middle) / allowed, tensor, math.exp(middle)
    count = sum(map(len, groups.values()))
    if told is not None and worst > 1:
        size = math.sqrt(told.square)
        return refuted(
            f"{told.name} has a root mean square of {size:.4g}, its siblings' median is "
            f"{usual:.4g}; expected at most {limit:g} times as much or as little",
            culprit=told.name,
            measured={"times the median": size / usual},
        )
    return held(f"{count} tensors in {len(groups)} places, each like its siblings")


@DISTRIBUTION.gate(
    "F-DIST-ATTENTION-001", "Attention projections of all layers are of like magnitude."
)
def attention_alike(lab: ModelLab) -> Finding:
    """A scale that one layer lost or got twice."""
    return _alike(lab, _is_attention, APART)


@DISTRIBUTION.gate(
    "F-DIST-MLP-001", "Feed-forward projections of all layers are of like magnitude."
)
def feed_forward_alike(lab: ModelLab) -> Finding:
    """Experts too, each among the experts of all layers."""
    return _alike(lab, lambda w: _is_projection(w) and not _is_attention(w), APART)


@DISTRIBUTION.gate("F-DIST-NORM-001", "Norms of all layers are within an order of their siblings.")
def norms_alike(lab: ModelLab) -> Finding:
    """With room for the first and last layers', which are their own."""
    if _OFFSET_FAMILIES.fullmatch(str(lab.config.get("model_type"))):
        return without_meaning("the norms are stored as their difference from one, which may be 0")
    return _alike(lab, _is_norm, NORMS_APART)


@DISTRIBUTION.gate("F-DIST-NORM-002", "Every norm scales by a positive factor on average.")
def norms_are_positive(lab: ModelLab) -> Finding:
    """They begin at one, and training does not turn them over."""
    offset = 1.0 if _OFFSET_FAMILIES.fullmatch(str(lab.config.get("model_type"))) else 0.0
    judged = [w for w in lab.once(weights) if _is_norm(w) and _usual(w)]
    for tensor in judged:
        if tensor.mean + offset <= 0:
            return refuted(
                f"{tensor.name} scales by {tensor.mean + offset:.4g} on average; expected more "
                f"than 0",
                culprit=tensor.name,
            )
    return held(f"{len(judged)} norms, all positive") if judged else without_meaning("no norms")


@DISTRIBUTION.gate("F-DIST-CENTER-001", "Every projection is centred around zero.")
def projections_are_centred(lab: ModelLab) -> Finding:
    """Of at least 1024 values: the mean of fewer says little."""
    judged = [
        w for w in lab.once(weights)
        if w.values >= 1024 and _is_projection(w) and LAYER.search(w.name) and _usual(w)
    ]  # fmt: skip
    if not judged:
        return without_meaning("no projection of 1024 values or more")
    worst = max(judged, key=lambda w: abs(w.mean) / math.sqrt(w.square))
    share = abs(worst.mean) / math.sqrt(worst.square)
    if share > OFF_CENTER:
        return refuted(
            f"{worst.name} has a mean of {worst.mean:.4g}, {share:.2f} of its root mean square; "
            f"expected at most {OFF_CENTER}",
            culprit=worst.name,
            measured={"mean over root mean square": share},
        )
    return held(
        f"{len(judged)} projections, means at most {share:.3f} of their root mean squares",
        measured={"mean over root mean square": share},
    )


@DISTRIBUTION.gate("F-DIST-SPIKE-001", "No single weight is far beyond all others of its kind.")
def no_spike(lab: ModelLab) -> Finding:
    """Against the siblings' median: a huge value would hide in its own tensor's spread."""
    groups = _groups(lab, _is_projection)
    if not groups:
        return without_meaning(f"no projection stands in {SIBLINGS} layers or more")
    largest = 0.0
    for group in groups.values():
        usual = math.sqrt(statistics.median(w.square for w in group))
        for tensor in group:
            times = max(abs(tensor.minimum), abs(tensor.maximum)) / usual
            largest = max(largest, times)
            if times > SPIKE:
                return refuted(
                    f"{tensor.name} holds a weight {times:.4g} times its siblings' root mean "
                    f"square; expected at most {SPIKE:g} times",
                    culprit=tensor.name,
                    measured={"times the root mean square": times},
                )
    return held(
        f"the largest weight is {largest:.3g} times its kind's root mean square",
        measured={"times the root mean square": largest},
    )


def _table(lab: ModelLab, named: re.Pattern[str]) -> Finding:
    """Refuted where a table of tokens has values of an unknown size."""
    judged = [w for w in lab.once(weights) if named.search(w.name) and w.is_matrix and _usual(w)]
    for tensor in judged:
        size = math.sqrt(tensor.square)
        if not TABLE[0] <= size <= TABLE[1]:
            return refuted(
                f"{tensor.name} has a root mean square of {size:.4g}; expected {TABLE[0]:g} to "
                f"{TABLE[1]:g}",
                culprit=tensor.name,
                measured={"root mean square": size},
            )
    if not judged:
        return without_meaning("the model stores no such table")
    return held(f"{judged[0].name} has a root mean square of {math.sqrt(judged[0].square):.4g}")


@DISTRIBUTION.gate("F-DIST-EMBED-001", "The token embedding's values are of a usual size.")
def embedding_is_usual(lab: ModelLab) -> Finding:
    """Neither vanishing nor huge."""
    return _table(lab, EMBEDDING)


@DISTRIBUTION.gate("F-DIST-HEAD-001", "The head's values are of a usual size.")
def head_is_usual(lab: ModelLab) -> Finding:
    """Where it is stored: a tied one is the embedding."""
    return _table(lab, _HEAD)


FAMILIES = (DISTRIBUTION,)
