"""A converter that damages one of the files that it makes, for every path there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.conversion_bench import ConversionBench
from pytest_aprqa.checks.gates.conversion.paths import CASES, ConversionLab
from pytest_aprqa.checks.gates.proof import EMBEDDED, PROMPTS, Proof, ProofBench
from pytest_aprqa.domain.conversions import ConversionCase, ConversionKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import Lab
    from pytest_aprqa.domain.model import Format, Quantization

_SPOILED = {
    ConversionKind.DIRECT: (1, "the file that is made"),
    ConversionKind.ROUND_TRIP: (2, "the file on the way back"),
    ConversionKind.CHAIN: (3, "the last file of the way"),
    ConversionKind.IDEMPOTENT: (2, "the second file"),
    ConversionKind.COMMUTES: (3, "the file that is made over the third format"),
    ConversionKind.GOLDEN: (1, "the file that is made"),
}
"""Which of the files of a claim is made of another model, and how that is told."""
_WORDS = {
    ConversionKind.DIRECT: "{0} to {1}",
    ConversionKind.ROUND_TRIP: "{0} to {1} and back",
    ConversionKind.CHAIN: "{0} to {1} to {2} and back",
    ConversionKind.IDEMPOTENT: "{0} to {1}, twice",
    ConversionKind.COMMUTES: "{0} to {2}, over {1} and straight",
    ConversionKind.GOLDEN: "{0} to {1}",
}


class SpoiledBench(ConversionBench):
    """A bench whose converter makes one of its files of a model with one projection negated."""

    def spoil(self, call: int, spoiled: Path) -> None:
        """Let the file of this call, counted from 1, be made of another model."""
        self._left, self._spoiled = call, spoiled

    def step(
        self, path: Path, format_: Format, space: Path, quantization: Quantization | None = None
    ) -> Path:
        """As the bench's, but for one call."""
        self._left -= 1
        source = self._spoiled if self._left == 0 else path
        return super().step(source, format_, space, quantization)


def _spoiled(case: ConversionCase) -> Callable[[ProofBench], Lab]:
    def make(bench: ProofBench) -> Lab:
        made = SpoiledBench(EMBEDDED, PROMPTS, 1)
        other = bench.copy(model__layers__1__mlp__down_proj__weight=lambda w: -w)
        made.spoil(_SPOILED[case.kind][0], other)
        return ConversionLab(case, made)

    return make


class _Benches:
    """One healthy bench for each bench of proofs: what it measured is used again."""

    def __init__(self) -> None:
        self._made: dict[int, ConversionBench] = {}

    def of(self, bench: ProofBench) -> ConversionBench:
        return self._made.setdefault(id(bench), ConversionBench(EMBEDDED, PROMPTS, 1))


_BENCHES = _Benches()


def _sound(case: ConversionCase) -> Callable[[ProofBench], Lab]:
    return lambda bench: ConversionLab(case, _BENCHES.of(bench))


PROOFS = tuple(
    Proof(
        case.gate_id,
        f"{_WORDS[case.kind].format(*case.path)}: {_SPOILED[case.kind][1]} has a layer's down "
        "projection negated",
        _spoiled(case),
        _sound(case),
    )
    for case in CASES
)
