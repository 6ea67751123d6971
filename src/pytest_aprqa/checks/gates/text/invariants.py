"""Gates: the five invariants that every conversion keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import Lab, ModelLab, TargetLab
from pytest_aprqa.checks.gates.text.sources import TOKENIZER, around, shown, source_text
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Quantization, Severity
from pytest_aprqa.domain.sections import RoleTolerance
from pytest_aprqa.domain.tolerance import GAIN, WEIGHT_NMSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_aprqa.formats.checkpoint import TensorInfo
    from pytest_aprqa.formats.tensor import Tensor

_PLAIN = {Quantization.F32: "F32", Quantization.F16: "F16", Quantization.BF16: "BF16"}
# What llama.cpp's quantizer leaves as it is (src/llama-quant.cpp), under either side's names.
_LEFT_PLAIN = (
    *("norm", "ffn_gate_inp", "mlp.gate.", "router", "position_embd", "token_types", "altup"),
    *("laurel", "per_layer_model_proj", "conv1d", "time_mix", "attn_rel_b", "wpe", "rope"),
)
_LOOKED_UP = ("embd", "embed", "lm_head", "output.weight", "wte", "word_embeddings")
_K_BLOCK, _BLOCK = 256, 32

invariants: Family[TargetLab] = Family(
    domain="conversion contract",
    place=Place.TARGET,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    section="contract_tests",
    formats=frozenset({Format.APR, Format.GGUF}),
    source="domain/tolerance.py: WEIGHT_NMSE, GAIN, APR_STEPS",
)


def _invariant(
    gate_id: str, name: str, assertion: str, *, rung: Rung = Rung.TENSOR, cost: Cost = Cost.WEIGHTS
) -> Callable[[Callable[[TargetLab], Finding]], None]:
    """A gate of one invariant, without meaning where a playbook does not list it."""

    def add(check: Callable[[TargetLab], Finding]) -> None:
        @invariants.gate(
            gate_id,
            assertion,
            severity=Severity.P0,
            rung=rung,
            cost=cost,
            applies=f"contract_tests.invariants lists {name}",
        )
        def _check(lab: TargetLab) -> Finding:
            if name not in lab.sections.contract_tests.invariants:
                return without_meaning(f"contract_tests.invariants does not list {name}")
            return check(lab)

    return add


@_invariant(
    "F-CONTRACT-I1-001",
    "I-1",
    "Converted back, every tensor is the ground truth's, within what its quantization may lose",
)
def _round_trip(lab: TargetLab) -> Finding:
    from pytest_aprqa.checks.conversion_rungs import compare_tensors
    from pytest_aprqa.conversion.cache import converted

    kind = lab.quantization
    back = lab.file
    if kind is None or kind in _PLAIN:
        # Blocks are compared as they are read: written out, they would take four times the room.
        back = converted(lab.file, Format.SAFETENSORS).destination
    by_apr = lab.format is Format.APR
    rung = compare_tensors(lab.model.directory, back, kind, by_apr=by_apr)
    if not rung.passed:
        return refuted(
            rung.verdict.reason,
            culprit=rung.culprit or lab.file.name,
            measured=rung.measurements,
        )
    return held(rung.verdict.reason, measured=rung.measurements)


@_invariant(
    "F-CONTRACT-I2-001",
    "I-2",
    "Under Hugging Face's names, the file has the ground truth's tensors, all and no others",
    cost=Cost.HEADERS,
)
def _names(lab: TargetLab) -> Finding:
    expected = [tensor.name for tensor in lab.model.portable.tensors]
    found = [tensor.name for tensor in lab.portable.tensors]
    if not expected:
        return undecided("the ground truth has no tensors")
    for name in expected:
        if found.count(name) != 1:
            told = f"{name} is there {found.count(name)} times, expected once"
            return refuted(told, culprit=name)
    more = next((name for name in found if name not in expected), None)
    if more is not None:
        return refuted(f"{more} is no tensor of the ground truth", culprit=more)
    return held(f"{len(expected)} tensors on both sides")


@_invariant(
    "F-CONTRACT-I3-001",
    "I-3",
    "Every matrix of the file is in an encoding that its quantization promises",
    cost=Cost.HEADERS,
)
def _encodings(lab: TargetLab) -> Finding:
    matrices = [info for info in lab.checkpoint.tensors.values() if _is_matrix(info)]
    if not matrices:
        return refuted("the file has no matrices", culprit=lab.file.name)
    promised = _promised(lab)
    for info in matrices:
        if not promised(info):
            told = f"{info.name} {info.shape} is {info.dtype}, which "
            told += f"{lab.quantization or 'the published encoding'} does not promise"
            return refuted(told, culprit=info.name)
    kinds = ", ".join(sorted({info.dtype for info in matrices}))
    return held(f"{len(matrices)} matrices in {kinds}")


def _is_matrix(info: TensorInfo) -> bool:
    return len(info.shape) > 1 and not any(part in info.name for part in _LEFT_PLAIN)


def _promised(lab: TargetLab) -> Callable[[TensorInfo], bool]:
    """Whether a matrix may be in its encoding."""
    from pytest_aprqa.checks.conversion_rungs import ENCODINGS
    from pytest_aprqa.formats.encodings import FLOATS, encoding_of

    kind = lab.quantization
    if kind is None:
        # Encodings that only safetensors has are written as floats.
        published = {tensor.encoding for tensor in lab.model.portable.tensors}
        written = published & set(FLOATS) or set(FLOATS)
        return lambda info: info.dtype in written
    if kind in _PLAIN:
        return lambda info: info.dtype == _PLAIN[kind]
    by_apr = lab.format is Format.APR
    own = ENCODINGS.get(lab.format.value, {}).get(kind, kind.value.upper())
    block = _K_BLOCK if by_apr and "APR" not in own else _BLOCK

    def may(info: TensorInfo) -> bool:
        if not encoding_of(info.dtype).plain:
            return True
        kept = by_apr and any(part in info.name for part in _LOOKED_UP)
        small = by_apr and math.prod(info.shape) < 1024
        return kept or small or info.shape[-1] % block != 0

    return may


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of one tensor's values."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """Every tensor's, by name."""

    tensors: Mapping[str, Moments]


def statistics(lab: Lab) -> Statistics:
    """One pass over a model's or a target's values, a piece of bounded size at a time."""
    assert isinstance(lab, ModelLab | TargetLab)
    return Statistics({tensor.name: _moments(tensor) for tensor in lab.portable.tensors})


def _moments(tensor: Tensor) -> Moments:
    import numpy as np

    from pytest_aprqa.formats.encodings import decoded_chunks

    count, total, squares = 0, 0.0, 0.0
    try:
        for piece in decoded_chunks(tensor.encoding, tensor.read(), tensor.shape):
            count += piece.size
            total += float(piece.sum(dtype=np.float64))
            wide = piece.ravel().astype(np.float64)
            squares += float(wide @ wide)
    finally:
        tensor.done()
    mean = total / count if count else 0.0
    return Moments(mean, math.sqrt(max(squares / count - mean**2, 0.0)) if count else 0.0)


def role_of(name: str) -> str:
    """A tensor's role as `validate_stats.tolerance` names roles."""
    known = (
        ("layernorm", ("norm", "ln_")),
        ("lm_head", ("lm_head", "embed_out")),
        ("embedding", ("embed", "wte", "wpe")),
        ("attention", ("attn", "attention")),
    )
    return next((role for role, parts in known if any(p in name for p in parts)), "ffn")


@_invariant(
    "F-CONTRACT-I4-001",
    "I-4",
    "Each tensor's mean and deviation are the ground truth's, within the limits of its role",
)
def _statistics(lab: TargetLab) -> Finding:
    expected = lab.model.once(statistics).tensors
    found = lab.once(statistics).tensors
    common = [name for name in expected if name in found]
    if not common:
        return undecided("no tensor is on both sides")
    tolerance = lab.sections.differential_tests.validate_stats.tolerance
    worst = 0.0
    for name in common:
        one, two = expected[name], found[name]
        limit = _limit(tolerance, name, lab.quantization)
        scale = max(one.std, abs(one.mean))
        drift = max(abs(two.mean - one.mean), abs(two.std - one.std)) / scale if scale else 0.0
        drift = math.inf if not scale and (two.std or two.mean) else drift
        worst = max(worst, drift)
        if not drift <= limit:
            return refuted(
                f"{name}: mean {two.mean:.6g} and deviation {two.std:.6g}, expected "
                f"{one.mean:.6g} and {one.std:.6g} within {limit:g} ({role_of(name)})",
                culprit=name,
                measured={"worst_drift": drift},
            )
    return held(f"{len(common)} tensors", measured={"worst_drift": worst})


def _limit(tolerance: RoleTolerance, name: str, kind: Quantization | None) -> float:
    """The role's limit, or what the quantization itself moves: a gain, and its noise's variance."""
    limit = float(getattr(tolerance, role_of(name)))
    return limit if kind is None or kind in _PLAIN else max(limit, GAIN, WEIGHT_NMSE[kind])


@_invariant(
    "F-CONTRACT-I5-001",
    "I-5",
    "The tokenizer that comes back out of the file gives every text the ground truth's ids",
    rung=Rung.TOKENS,
    cost=Cost.HEADERS,
)
def _tokenizer(lab: TargetLab) -> Finding:
    from pytest_aprqa.conversion.portable import ConversionError
    from pytest_aprqa.conversion.tokenizers.source import json_file, loaded_tokenizer

    source = lab.model.once(source_text)
    if source is None:
        return without_meaning("the ground truth has no tokenizer.json")
    try:
        tokenizer = loaded_tokenizer(json_file(stored_tokenizer_files(lab), TOKENIZER))
    except ConversionError as error:
        return refuted(f"no tokenizer comes back: {error}", culprit=lab.file.name)
    for text in ADVERSARIAL_TEXTS:
        ids = tuple(tokenizer.encode(text, add_special_tokens=False).ids)
        if ids != source.ids(text):
            return refuted(f"{shown(text)} {around(source.ids(text), ids)}", culprit=lab.file.name)
        back, expected = _decoded((tokenizer, source.tokenizer), ids)
        if back != expected:
            told = f"{text!r:.80} comes back as {back!r:.80}, expected {expected!r:.80}"
            return refuted(told, culprit=lab.file.name)
    return held(f"{len(ADVERSARIAL_TEXTS)} texts have the same ids and come back alike")


def _decoded(tokenizers: Sequence[object], ids: tuple[int, ...]) -> list[str]:
    return [
        str(each.decode(list(ids), skip_special_tokens=False))  # type: ignore[attr-defined]
        for each in tokenizers
    ]


def stored_tokenizer_files(lab: TargetLab) -> Mapping[str, bytes]:
    """The tokenizer's files out of the target's file, as a conversion back takes them.

    Raises:
        ConversionError: none can be had.
    """
    from pytest_aprqa.conversion.tokenizers import stored_files, stored_files_of_apr
    from pytest_aprqa.formats.gguf_file import GgufFile

    checkpoint = lab.checkpoint
    if isinstance(checkpoint, GgufFile):
        return stored_files(checkpoint.fields)
    return stored_files_of_apr(checkpoint.metadata)


FAMILIES = (invariants,)
ALIASES = {
    "F-CONV-014": "F-CONTRACT-I1-001",
}
