"""G0, values: no NaN, no infinity and no all-zero tensor, told from the stored bits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from pytest_aprqa.formats.checkpoint import TensorInfo
    from pytest_aprqa.formats.huggingface import HuggingFaceCheckpoint

# 256 KiB of values and as much scratch stay in the second-level cache of current processors.
CHUNK_BYTES = 1 << 18
# dtype: (unsigned view, all bits but the sign, the smallest magnitude that is not finite).
# IEEE 754 exponents of all ones; F8_E4M3 has no infinity and one NaN; the FNUZ kinds have only
# "negative zero" as NaN and are not judged.
_FLOATS = {
    "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": ("<u2", 0x7FFF, 0x7C00),
    "BF16": ("<u2", 0x7FFF, 0x7F80),
    "F8_E5M2": ("u1", 0x7F, 0x7C),
    "F8_E4M3": ("u1", 0x7F, 0x7F),
}
# A bias that training never moved from its initial zero is legal (GPT-2, Qwen2, MoE corrections).
_MAY_BE_ZERO = re.compile(r"(^|[._])bias$")


def value_findings(checkpoint: HuggingFaceCheckpoint) -> tuple[list[IntegrityFinding], list[str]]:
    """Every float tensor with NaN, infinity or nothing but zeros; the dtypes not judged."""
    findings = []
    skipped: dict[str, int] = {}
    for name, info in checkpoint.tensors.items():
        if info.dtype not in _FLOATS:
            skipped[info.dtype] = skipped.get(info.dtype, 0) + 1
        elif message := _verdict(checkpoint.raw(name), info):
            code, text = message
            findings.append(IntegrityFinding(code, name, f"{info.file.name}: {name} {text}"))
    notes = [f"values of {count} {dtype} tensors" for dtype, count in skipped.items()]
    return findings, notes


def _verdict(values: np.ndarray[Any, Any], info: TensorInfo) -> tuple[str, str] | None:
    """What is wrong with one tensor's values: a code and a message."""
    import numpy as np

    view, magnitude, limit = _FLOATS[info.dtype]
    bits = values.reshape(-1).view(view)
    if not bits.size:
        return None
    bad, first, largest = 0, -1, 0
    for start, masked in _magnitudes(bits, magnitude):
        peak = int(masked.max())
        largest = max(largest, peak)
        if peak >= limit:
            where = np.flatnonzero(masked >= limit)
            bad += where.size
            first = start + int(where[0]) if first < 0 else first
    if bad:
        return "not-finite", _not_finite(bits, info, first=first, count=bad)
    # One number may well be zero: a gate or a scale that training left off.
    if largest == 0 and bits.size > 1 and not _MAY_BE_ZERO.search(info.name):
        text = f"is zero in all its {bits.size} values ({info.dtype}); expected trained values"
        return "all-zero", text
    return None


def _magnitudes(
    bits: np.ndarray[Any, Any], magnitude: int
) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Pieces of the tensor without their sign bits, in one scratch buffer, with their start."""
    import numpy as np

    mask = bits.dtype.type(magnitude)
    step = CHUNK_BYTES // bits.itemsize
    scratch = np.empty(min(step, bits.size), bits.dtype)
    for start in range(0, bits.size, step):
        piece = bits[start : start + step]
        yield start, np.bitwise_and(piece, mask, out=scratch[: piece.size])


def _not_finite(bits: np.ndarray[Any, Any], info: TensorInfo, *, first: int, count: int) -> str:
    _, magnitude, limit = _FLOATS[info.dtype]
    value = int(bits[first])
    infinite = value & magnitude == limit and info.dtype != "F8_E4M3"
    sign = "-" if infinite and value > magnitude else ""
    index = list(_unravel(first, info.shape))
    kind = f"{sign}Inf" if infinite else "NaN"
    return (
        f"has {kind} at {index}, the first of {count} not finite among {bits.size} values "
        f"({info.dtype}); expected finite values"
    )


def _unravel(flat: int, shape: Iterable[int]) -> Iterator[int]:
    import numpy as np

    yield from (int(part) for part in np.unravel_index(flat, tuple(shape)))
