"""Statistics of a model's tensors: measured, or saved by `aprqa fingerprint --json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.fingerprint import TensorFingerprint, fingerprint_tensors, moments_of
from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.conversion.portable import PortableModel


@dataclass(frozen=True, slots=True)
class Spread:
    """A tensor's mean and standard deviation; None where no value is finite."""

    mean: float | None
    std: float | None

    @property
    def size(self) -> float:
        """Root mean square."""
        return math.hypot(self.mean or 0.0, self.std or 0.0)

    def off(self, other: Spread) -> float:
        """The larger difference of the two, as a share of this one's root mean square."""
        if None in (self.mean, self.std, other.mean, other.std):
            return math.inf if (self.mean is None) != (other.mean is None) else 0.0
        assert self.mean is not None
        assert self.std is not None
        assert other.mean is not None
        assert other.std is not None
        most = max(abs(self.mean - other.mean), abs(self.std - other.std))
        return most / self.size if self.size else (math.inf if most else 0.0)


def spreads(model: PortableModel) -> dict[str, Spread]:
    """Every tensor's, by its name."""
    found = {}
    for tensor in model.tensors:
        moments = moments_of(tensor)
        some = moments.finite > 0
        std = math.sqrt(moments.squares / moments.finite) if some else None
        found[tensor.name] = Spread(moments.mean if some else None, std)
    return found


def saved_spreads(path: Path) -> dict[str, Spread]:
    """Those of a saved fingerprint or of a model.

    Raises:
        AprqaError: it cannot be read.
    """
    if path.suffix != ".json":
        from pytest_aprqa.conversion.reading import read_portable

        return spreads(read_portable(path))
    return {name: Spread(t.mean, t.std) for name, t in fingerprint_at(path).items()}


def fingerprint_at(path: Path) -> dict[str, TensorFingerprint]:
    """Every tensor's fingerprint, by its name, of a saved file or of a model.

    Raises:
        AprqaError: it is neither, or was made with --raw, under other names.
    """
    if path.suffix != ".json":
        from pytest_aprqa.conversion.reading import read_portable

        made = fingerprint_tensors(read_portable(path).tensors)
        return {tensor.name: tensor for tensor in made.tensors}
    expected = f"{path}: expected what `aprqa fingerprint --json` writes"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AprqaError(f"{expected}; {error}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("tensors"), list):
        raise AprqaError(f"{expected}; it holds no list of tensors")
    if content.get("raw"):
        raise AprqaError(f"{expected}, without --raw: names as stored are no one else's")
    try:
        tensors = [_tensor(member) for member in content["tensors"]]
    except (TypeError, KeyError, ValueError) as error:
        raise AprqaError(f"{expected}; a tensor in it is not one: {error}") from error
    return {tensor.name: tensor for tensor in tensors}


def _tensor(member: Mapping[str, Any]) -> TensorFingerprint:
    parts = {"shape": tuple(member["shape"]), "percentiles": tuple(member.get("percentiles", ()))}
    return TensorFingerprint(**{**member, **parts})
