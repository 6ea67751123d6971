"""What a model's weights are, in numbers that change when any of them does.

The content digest, `aprqa-content-1`, is the same for the same values in any format and encoding:

1. A value is taken as float32, little-endian, in row-major order. A tensor of F64, I32 or I64 with
   a value that float32 cannot hold is taken as float64 or int64 instead.
2. Every NaN is the quiet NaN 0x7FC00000 (float64: 0x7FF8000000000000), and -0 is 0.
3. A tensor's content is the SHA-256 of these bytes.
4. The model's content is the SHA-256 of one line for each tensor, sorted by the UTF-8 bytes of
   their names: the name, its dimensions joined by `x`, `f4`, `f8` or `i8`, and its content in
   hexadecimal, parted by tabulators, each line ended by a line feed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.tensor_chunks import EXACT_BEYOND_FLOAT32, value_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np

    from pytest_aprqa.formats.tensor import Tensor

SCHEME = "aprqa-content-1"
"""The name of the definition above; another definition gets another name."""
PERCENTS = (1, 25, 50, 75, 99)
"""The percentiles that a fingerprint holds."""
SAMPLE = 1 << 20
"""At most so many of a tensor's values are looked at for its percentiles."""


@dataclass(frozen=True, slots=True)
class TensorFingerprint:
    """One tensor: its bytes, its values, and their distribution."""

    name: str
    encoding: str
    shape: tuple[int, ...]
    sha256: str
    """Of the bytes in this encoding."""
    content: str
    """Of the values, whatever the encoding: step 3 of the definition."""
    kind: str
    """`f4`, `f8` or `i8`: what the values were taken as."""
    mean: float | None
    """None, as the three after it, where no value is finite."""
    std: float | None
    """Of the population (divided by n)."""
    minimum: float | None
    maximum: float | None
    zeros: float
    """Share of exact zeros, 0 to 1."""
    not_finite: int
    """How many values are NaN or infinite; the statistics leave them out."""
    percentiles: tuple[float, ...] = ()
    """Those of PERCENTS, of at most SAMPLE values that are evenly spaced in storage order.

    Empty where no value is finite, and in fingerprints saved before there were any.
    """


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """All tensors in the order given, and the digest of their content."""

    tensors: tuple[TensorFingerprint, ...]
    content: str
    scheme: str = SCHEME


def fingerprint_tensors(
    tensors: Sequence[Tensor], *, progress: Callable[[str, int, int], None] | None = None
) -> ModelFingerprint:
    """Fingerprint tensors one at a time; `progress` is told each name, how many are done, of all.

    Raises:
        CheckpointError: when an encoding cannot be decoded.
    """
    found: list[TensorFingerprint] = []
    for tensor in tensors:
        found.append(_one(tensor))
        if progress is not None:
            progress(tensor.name, len(found), len(tensors))
    return ModelFingerprint(tuple(found), content_digest(found))


def content_digest(tensors: Iterable[TensorFingerprint]) -> str:
    """Step 4 of the definition, in hexadecimal; the order given does not matter."""
    digest = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda tensor: tensor.name.encode()):
        dimensions = "x".join(map(str, tensor.shape))
        line = f"{tensor.name}\t{dimensions}\t{tensor.kind}\t{tensor.content}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _one(tensor: Tensor) -> TensorFingerprint:
    try:
        data = tensor.read()
        kind = _kind(tensor, data)
        content, moments = hashlib.sha256(), Moments()
        sample = Sample(math.prod(tensor.shape))
        for values in value_chunks(tensor.encoding, data, tensor.shape):
            moments.add(values)
            sample.add(values)
            content.update(_canonical(values, kind).data)
        stored = hashlib.sha256(data.data).hexdigest()
    finally:
        tensor.done()
    some = moments.finite > 0
    return TensorFingerprint(
        name=tensor.name,
        encoding=tensor.encoding,
        shape=tensor.shape,
        sha256=stored,
        content=content.hexdigest(),
        kind=kind,
        mean=moments.mean if some else None,
        std=math.sqrt(moments.squares / moments.finite) if some else None,
        minimum=moments.minimum if some else None,
        maximum=moments.maximum if some else None,
        zeros=moments.zeros / moments.seen if moments.seen else 0.0,
        not_finite=moments.seen - moments.finite,
        percentiles=sample.percentiles(),
    )


def moments_of(tensor: Tensor) -> Moments:
    """One tensor's statistics, without its digests.

    Raises:
        CheckpointError: when its encoding cannot be decoded.
    """
    found = Moments()
    try:
        for values in value_chunks(tensor.encoding, tensor.read(), tensor.shape):
            found.add(values)
    finally:
        tensor.done()
    return found


def _kind(tensor: Tensor, data: np.ndarray[Any, Any]) -> str:
    """What the tensor's values are taken as: step 1 of the definition."""
    import numpy as np

    if tensor.encoding not in EXACT_BEYOND_FLOAT32:
        return "f4"
    for values in value_chunks(tensor.encoding, data, tensor.shape):
        with np.errstate(over="ignore", invalid="ignore"):
            single = values.astype(np.float32)
        # Back in float64, every int32 is exact; an int64 that rounds there rounds in float32 too.
        exact = single.astype(np.float64) == values.astype(np.float64)
        if values.dtype.kind == "i":
            exact &= (single < 2.0**63) & (_as_int(single) == values)
        else:
            exact |= np.isnan(values)
        if not exact.all():
            return "f8" if tensor.encoding == "F64" else "i8"
    return "f4"


def _as_int(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    with np.errstate(invalid="ignore"):
        return values.astype(np.int64)


def _canonical(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """The values as their digest takes them: step 2 of the definition."""
    import numpy as np

    taken: np.ndarray[Any, Any]
    if kind == "i8":
        return np.ascontiguousarray(values, "<i8")
    with np.errstate(invalid="ignore"):  # a signalling NaN may be among them
        taken = values.astype(f"<{kind}") + np.dtype(f"<{kind}").type(0)  # -0 + 0 is 0
    taken[np.isnan(taken)] = np.nan
    return taken


class Moments:
    """Mean and variance in float64, joined piece by piece (Chan, Golub, LeVeque 1979)."""

    def __init__(self) -> None:
        """Of nothing yet."""
        self.seen = self.finite = self.zeros = 0
        self.mean = self.squares = 0.0
        self.minimum, self.maximum = math.inf, -math.inf

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Take in one flat piece."""
        import numpy as np

        self.seen += values.size
        self.zeros += values.size - int(np.count_nonzero(values))
        finite = np.isfinite(values)
        kept = (values if finite.all() else values[finite]).astype(np.float64)
        if not kept.size:
            return
        mean = float(kept.mean())
        self.minimum = min(self.minimum, float(kept.min()))
        self.maximum = max(self.maximum, float(kept.max()))
        kept -= mean
        total, delta = self.finite + kept.size, mean - self.mean
        self.squares += float(kept @ kept) + delta * delta * self.finite * kept.size / total
        self.mean += delta * kept.size / total
        self.finite = total


class Sample:
    """Every so many of a tensor's values, the same ones in whatever pieces they come."""

    def __init__(self, count: int) -> None:
        """Of so many values, none seen yet."""
        self._step = max(1, -(-count // SAMPLE))
        self._seen = 0
        self._kept: list[np.ndarray[Any, Any]] = []

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Take in one flat piece."""
        import numpy as np

        taken = values[-self._seen % self._step :: self._step]
        self._kept.append(taken[np.isfinite(taken)].astype(np.float64))
        self._seen += values.size

    def percentiles(self) -> tuple[float, ...]:
        """Those of PERCENTS of the finite values; none if there is none."""
        import numpy as np

        values = np.concatenate(self._kept) if self._kept else np.empty(0)
        return tuple(np.percentile(values, PERCENTS).tolist()) if values.size else ()
