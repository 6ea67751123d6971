"""Gates of the section `differential_tests` over derived files: tensors, tokens, statistics."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from pytest_aprqa.checks.diagnosis.defects import Defect
from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.conversion.tensors import DERIVED, diagnosis
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
from pytest_aprqa.checks.gates.numbers.logits import sure
from pytest_aprqa.checks.gates.numbers.passes import Passes, limit_of, through
from pytest_aprqa.checks.gates.numbers.reference import Course
from pytest_aprqa.checks.gates.numbers.saved import Spread, saved_spreads, spreads
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.tolerance import EXTREME_SIGMAS, distribution_cost

_P0 = Severity.P0
_TIMEOUT_S = 120.0
_FLOOD = 4
"""Tokens from which on one token alone is a flood."""

DIFFERENCES: Family[TargetLab] = Family(
    domain="rosetta",
    place=Place.TARGET,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    formats=DERIVED,
    section="differential_tests.tensor_diff",
)
_MOVED = (Defect.TRANSPOSED, Defect.ROPE, Defect.HEADS, Defect.SHIFTED, Defect.ROWS,
          Defect.COLUMNS)  # fmt: skip
_LOST = (Defect.MISSING, Defect.BIAS, Defect.HEAD, Defect.SURPLUS, Defect.SHAPE)


def chosen(name: str, parts: str) -> bool:
    """Whether a name holds one of these parts, separated by commas; all do where there is none."""
    wanted = [part.strip() for part in parts.split(",") if part.strip()]
    return not wanted or "all" in wanted or any(part in name for part in wanted)


def _without(lab: TargetLab, concerns: Callable[[Defect], bool]) -> Finding:
    parts = lab.sections.differential_tests.tensor_diff.filter
    names = [t.name for t in lab.model.portable.tensors if chosen(t.name, parts)]
    if not names:
        return undecided(f"no tensor's name holds any of {parts!r}: nothing was compared")
    found = [d for d in lab.once(diagnosis) if concerns(d.defect) and chosen(d.name, parts)]
    if found:
        more = f"; {len(found) - 1} more tensors" if len(found) > 1 else ""
        details = [d.told for d in found[:20]]
        return refuted(f"{found[0].told}{more}", culprit=found[0].name, details=details)
    return held(f"{len(names)} tensors compared")


@DIFFERENCES.gate(
    "F-ROSETTA-DIFF-001", "No compared tensor has dimensions, rows or columns moved.", severity=_P0
)
def in_order(lab: TargetLab) -> Finding:
    """Transposed, permuted, shifted: all of the section's tensors at once."""
    return _without(lab, lambda defect: defect in _MOVED)


@DIFFERENCES.gate(
    "F-ROSETTA-DIFF-002", "Compared tensors are all there, in their shapes.", severity=_P0
)
def all_there(lab: TargetLab) -> Finding:
    """None missing, none more, none of another shape."""
    return _without(lab, lambda defect: defect in _LOST)


@DIFFERENCES.gate(
    "F-ROSETTA-DIFF-003", "Compared tensors hold their values within the encoding.", severity=_P0
)
def same_values(lab: TargetLab) -> Finding:
    """Scaled, moved by a constant, exchanged, damaged."""
    return _without(lab, lambda defect: defect not in _MOVED + _LOST)


COMPARED: Family[TargetLab] = Family(
    domain="rosetta",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    formats=DERIVED,
    section="differential_tests.inference_compare",
)


def compared(lab: TargetLab) -> Passes:
    """The section's prompt and the ground truth's greedy answer to it."""
    section = lab.sections.differential_tests.inference_compare
    return through(lab, Course((section.prompt,), section.max_tokens))


def answered(lab: TargetLab) -> tuple[int, ...]:
    """The target's own greedy tokens after the same prompt."""
    one = lab.once(compared).led[0]
    asked = GenerationRequest(
        prompt_token_ids=one.ids[: one.prompt],
        max_tokens=lab.sections.differential_tests.inference_compare.max_tokens,
        timeout_s=_TIMEOUT_S,
    )
    return lab.engine.generate(asked).token_ids


@COMPARED.gate(
    "F-ROSETTA-INF-001", "Greedy tokens are the ground truth's, one by one.", severity=_P0
)
def same_tokens(lab: TargetLab) -> Finding:
    """Up to the first near tie: where no error that the encoding may have could decide."""
    one = lab.once(compared).led[0]
    theirs, ours = one.ids[one.prompt :], lab.once(answered)
    if not theirs:
        return without_meaning("the ground truth answers with nothing")
    if not ours:
        return refuted(f"no token was generated; expected {list(theirs)}")
    margins, limit = one.margins(), sure(lab, one)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        margin = float(margins[one.prompt - 1 + i])
        if a != b and margin >= limit:
            return refuted(
                f"token {i + 1} is {a}; expected {b}, of which the ground truth is sure by "
                f"{margin:.1f}, where {limit:.1f} is enough",
                measured={"margin": margin},
            )
        if a != b:
            return held(f"{i} tokens equal; then a near tie: {margin:.2f} apart of {limit:.2f}")
    return held(f"{min(len(ours), len(theirs))} tokens equal")


@COMPARED.gate("F-ROSETTA-INF-002", "Logits are the ground truth's within the tolerance.")
def same_logits(lab: TargetLab) -> Finding:
    """The largest difference; the section's tolerance, or what the encoding's noise allows."""
    seen = lab.once(compared)
    if seen.problem:
        return refuted(seen.problem)
    one, text = seen.led[0], seen.texts[0]
    if not len(text.kld):
        return undecided("the ground truth can read no position of prompt and answer")
    tolerance = lab.sections.differential_tests.inference_compare.tolerance
    centred = one.values - one.values.mean(axis=1, keepdims=True)
    noise = EXTREME_SIGMAS * math.sqrt(limit_of(lab).nmse * float((centred**2).mean()))
    limit = max(tolerance, noise)
    acted = "the encoding's noise" if noise > tolerance else "the playbook's tolerance"
    told = f"logits differ by at most {text.largest:.3g} over {len(text.kld)} positions"
    measured = {"logits_largest": text.largest, "logits_largest_limit": limit}
    if not text.largest <= limit:
        return refuted(f"{told}; expected {limit:.3g} by {acted}", measured=measured)
    return held(f"{told}, within {limit:.3g} by {acted}", measured=measured)


@COMPARED.gate("F-ROSETTA-INF-003", "The answer is no flood of one token.", severity=_P0)
def no_flood(lab: TargetLab) -> Finding:
    """As of padding tokens, where the ground truth's answer is none."""
    one, ours = lab.once(compared).led[0], lab.once(answered)
    theirs = one.ids[one.prompt :]
    if not ours:
        return undecided("no token was generated")
    most = max(set(ours), key=ours.count)
    share = ours.count(most) / len(ours)
    if theirs and theirs.count(most) / len(theirs) > 0.5:
        return without_meaning(f"the ground truth repeats token {most} too")
    if len(ours) >= _FLOOD and share > 0.5:
        return refuted(f"{ours.count(most)} of {len(ours)} tokens are {most}")
    return held(f"{len(set(ours))} different tokens among {len(ours)}")


STATISTICS: Family[TargetLab] = Family(
    domain="rosetta",
    place=Place.TARGET,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    formats=DERIVED,
    section="differential_tests.validate_stats",
)
_ROLES = (
    ("layernorm", re.compile(r"norm|(^|\.)ln_")),
    ("lm_head", re.compile(r"(^|\.)(lm_head|embed_out)\.")),
    ("embedding", re.compile(r"embed|(^|\.)w[tp]e\.")),
    ("attention", re.compile(r"attn|attention")),
    ("ffn", re.compile(r"mlp|ffn|feed_forward|expert|moe")),
)
"""By name; the first that fits."""


def role_of(name: str) -> str:
    """The role of a tensor among those of the section; empty for none."""
    return next((role for role, pattern in _ROLES if pattern.search(name)), "")


def truth_spreads(model: ModelLab) -> Mapping[str, Spread]:
    """Those of the section's reference, or of the ground truth."""
    named = model.sections.differential_tests.validate_stats.reference
    return spreads(model.portable) if named is None else saved_spreads(model.beside(named))


def own_spreads(lab: TargetLab) -> Mapping[str, Spread]:
    """Those of the target's file."""
    return spreads(lab.portable)


def _pairs(lab: TargetLab, role: str) -> list[tuple[str, Spread, Spread]]:
    truth, own = lab.model.once(truth_spreads), lab.once(own_spreads)
    return [(n, t, own[n]) for n, t in truth.items() if n in own and role_of(n) == role]


def _as_reference(lab: TargetLab, role: str) -> Finding:
    """Mean and spread of every tensor of a role are the reference's."""
    pairs = _pairs(lab, role)
    if not pairs:
        return without_meaning(f"the model has no tensor of the role {role}")
    asked: float = getattr(lab.sections.differential_tests.validate_stats.tolerance, role)
    cost = distribution_cost(None if role == "layernorm" else lab.quantization)
    name, truth, own = max(pairs, key=lambda pair: pair[1].off(pair[2]))
    limit, off = max(asked, cost), truth.off(own)
    acted = "the encoding" if cost > asked else "the playbook"
    if not off <= limit:
        return refuted(
            f"{name} has mean {own.mean} and standard deviation {own.std}; expected {truth.mean} "
            f"and {truth.std} within {limit:.3g} of their size, by {acted}",
            culprit=name,
            measured={"off": off},
        )
    told = f"{len(pairs)} tensors, the worst {name} off by {off:.2g} of {limit:.2g} by {acted}"
    return held(told, measured={"off": off})


@STATISTICS.gate("F-ROSETTA-STATS-001", "Norms keep their distribution.", severity=_P0)
def norms_kept(lab: TargetLab) -> Finding:
    """Mean and standard deviation, as a share of the root mean square."""
    return _as_reference(lab, "layernorm")


@STATISTICS.gate("F-ROSETTA-STATS-002", "The embedding keeps its distribution.")
def embedding_kept(lab: TargetLab) -> Finding:
    """The same of the embedding."""
    return _as_reference(lab, "embedding")


@STATISTICS.gate("F-ROSETTA-STATS-003", "Attention projections keep their distribution.")
def attention_kept(lab: TargetLab) -> Finding:
    """The same of queries, keys, values and outputs."""
    return _as_reference(lab, "attention")


@STATISTICS.gate("F-ROSETTA-STATS-FFN-001", "Feed-forward projections keep their distribution.")
def ffn_kept(lab: TargetLab) -> Finding:
    """The same of gate, up and down."""
    return _as_reference(lab, "ffn")


@STATISTICS.gate(
    "F-ROSETTA-STATS-HEAD-001",
    "The output head keeps its distribution.",
    applies="the model has a head of its own",
)
def head_kept(lab: TargetLab) -> Finding:
    """The same of a head that is not the embedding."""
    return _as_reference(lab, "lm_head")


@STATISTICS.gate(
    "F-ROSETTA-STATS-005", "No norm's mean is lost where the original has one.", severity=_P0
)
def norm_means_kept(lab: TargetLab) -> Finding:
    """Zero in place of about one: a scale that was taken for its offset from one."""
    weights = [pair for pair in _pairs(lab, "layernorm") if not pair[0].endswith(".bias")]
    judged = [p for p in weights if abs(p[1].mean or 0.0) > 0.5 * p[1].size]
    if not judged:
        return without_meaning("no norm of the original has a mean that stands out")
    for name, truth, own in judged:
        if abs(own.mean or 0.0) < 0.1 * abs(truth.mean or 0.0):
            told = f"{name} has mean {own.mean}; expected about {truth.mean:.4g}"
            return refuted(told, culprit=name)
    return held(f"{len(judged)} norms have their mean")


@STATISTICS.gate(
    "F-ROSETTA-STATS-006", "No norm is constant where the original is not.", severity=_P0
)
def norms_vary(lab: TargetLab) -> Finding:
    """Norms that were made anew in place of being read."""
    judged = [pair for pair in _pairs(lab, "layernorm") if pair[1].std]
    if not judged:
        return without_meaning("all norms of the original are constant")
    for name, truth, own in judged:
        if not own.std:
            told = f"{name} is {own.mean} throughout; expected a standard deviation of {truth.std}"
            return refuted(told, culprit=name)
    return held(f"{len(judged)} norms vary")


FAMILIES = (DIFFERENCES, COMPARED, STATISTICS)
ALIASES = {"F-ROSETTA-STATS-004": "F-ROSETTA-DIFF-003"}
