"""G0, tensors: names and shapes against the architecture, told as what is most likely wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.architecture import (
    ArchitectureUnjudged,
    Differences,
    compare_architecture,
)
from pytest_aprqa.checks.integrity_config import Blame, blame_numbers, corrected
from pytest_aprqa.checks.integrity_finding import IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.formats.checkpoint import TensorInfo
    from pytest_aprqa.formats.huggingface import HuggingFaceCheckpoint

# Tied embeddings are compared in pieces of this many bytes.
_PIECE = 1 << 22


def tensor_findings(
    config: Mapping[str, Any], checkpoint: HuggingFaceCheckpoint
) -> tuple[list[IntegrityFinding], list[str]]:
    """Every disagreement of config.json and the tensors, wrong numbers first; what was skipped.

    The loader is the judge; the numbers of config.json are blamed only for what it refuses.
    """
    tensors = checkpoint.tensors
    if config.get("quantization_config") is not None:
        return [], ["names and shapes: the tensors are quantized (quantization_config)"]
    refused: IntegrityFinding | None = None
    differences: Differences | None = None
    try:
        differences = compare_architecture(config, tensors)
    except ArchitectureUnjudged as error:
        subject = "model_type" if error.unknown else "config.json"
        refused = IntegrityFinding("architecture", subject, str(error))
        if error.unknown:
            blames = list(blame_numbers(config, tensors))
            return [refused, *(blame.finding for blame in blames)], []
    if differences is not None and not differences:
        return list(_unequal_ties(checkpoint, differences)), []
    blames, rest = _after_blame(config, tensors, differences)
    findings = [blame.finding for blame in blames]
    if rest is None:
        return findings + ([refused] if refused else []), []
    return [*findings, *_told(rest, config, tensors), *_unequal_ties(checkpoint, rest)], []


def _after_blame(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], before: Differences | None
) -> tuple[list[Blame], Differences | None]:
    """The numbers to blame, and what still differs once they are put right."""
    blames = list(blame_numbers(config, tensors))
    if not blames:
        return [], before
    try:
        after = compare_architecture(corrected(config, blames), tensors)
    except ArchitectureUnjudged:
        return blames, before
    if before is not None and len(after) >= len(before) and not before.trouble:
        return [], before  # the numbers were not the cause
    return blames, after


def _told(
    differences: Differences, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> Iterator[IntegrityFinding]:
    """One finding for each tensor that is missing, surplus or of another shape."""
    model = differences.model_class
    for text in differences.trouble:
        yield IntegrityFinding("trouble", model, f"{text}; so {model} cannot be loaded")
    for name, have, want in differences.mismatched:
        file = tensors[name].file.name if name in tensors else "weights"
        hint = " (transposed?)" if have == want[::-1] and len(have) == 2 else ""
        message = f"{file}: {name} has shape {list(have)}; expected {list(want)} of {model}{hint}"
        yield IntegrityFinding("shape", name, message)
    for name in differences.missing:
        hint = "; config.json does not tie it to the embeddings" if "lm_head" in name else ""
        message = f"weights: tensor {name} of {model} is missing{hint}"
        yield IntegrityFinding("missing-tensor", name, message)
    stated = config.get("architectures")
    other = f" (config.json says architectures {stated})" if stated not in (None, [model]) else ""
    for name in differences.unexpected:
        file = tensors[name].file.name if name in tensors else "weights"
        message = f"{file}: tensor {name} is no part of {model}{other}; expected no such tensor"
        yield IntegrityFinding("surplus-tensor", name, message)


def _unequal_ties(
    checkpoint: HuggingFaceCheckpoint, differences: Differences
) -> Iterator[IntegrityFinding]:
    """Tensors that config.json ties, but that are both stored and differ."""
    for target, source in differences.tied:
        one, other = checkpoint.tensors.get(target), checkpoint.tensors.get(source)
        if one is None or other is None or one.shape != other.shape:
            continue  # alone, or already told as a wrong shape
        if one.dtype != other.dtype or not _same_bytes(checkpoint, target, source):
            message = (
                f"{one.file.name}: {target} differs from {source}; expected equal values, "
                f"as config.json says tie_word_embeddings true"
            )
            yield IntegrityFinding("tied", target, message)


def _same_bytes(checkpoint: HuggingFaceCheckpoint, one: str, other: str) -> bool:
    left, right = (checkpoint.raw(name).reshape(-1).view("u1") for name in (one, other))
    return all(
        bytes(left[start : start + _PIECE]) == bytes(right[start : start + _PIECE])
        for start in range(0, left.size, _PIECE)
    )
