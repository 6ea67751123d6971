"""Which conversions a run owes: between the formats of a playbook, in each of its quantizations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

from pytest_aprqa.domain.model import Format, Quantization, Severity
from pytest_aprqa.domain.playbook import Category

CONVERSION = "conversion"
"""What the node of all conversion items is named, where others have a target's name."""
APR_QUANTIZATIONS = (
    Quantization.F32,
    Quantization.F16,
    Quantization.BF16,
    Quantization.Q4_K_M,
    Quantization.Q6_K,
    Quantization.Q8_0,
    Quantization.Q4_0,
)
"""What APR has an encoding for that all its readers understand."""


class ConversionKind(StrEnum):
    """What a conversion item claims of a path of formats."""

    DIRECT = "convert"
    """B holds what A holds, and answers as A does."""
    ROUND_TRIP = "round_trip"
    """A to B and back is A again; a second trip changes nothing more."""
    CHAIN = "chain"
    """A to B to C and back is A again."""
    IDEMPOTENT = "idempotent"
    """The same conversion made twice gives the same bytes."""
    COMMUTES = "commutes"
    """A to C over B gives what A to C gives."""
    GOLDEN = "golden"
    """The converted model's greedy answers are the original's."""


_GATES = {
    ConversionKind.DIRECT: "F-CONV",
    ConversionKind.ROUND_TRIP: "F-CONV-RT",
    ConversionKind.CHAIN: "F-CONV-CHAIN",
    ConversionKind.IDEMPOTENT: "F-CONV-IDEM",
    ConversionKind.COMMUTES: "F-CONV-COM",
    ConversionKind.GOLDEN: "F-GOLDEN-RULE",
}


@dataclass(frozen=True, slots=True)
class ConversionCase:
    """One conversion item: a claim about a path of formats in one quantization."""

    kind: ConversionKind
    path: tuple[Format, ...]
    quantization: Quantization | None
    """None: the weights as they are published."""
    severity: Severity = Severity.P0
    category: Category = Category.COMP

    @property
    def item_name(self) -> str:
        """The item's name, which identifies the conversion by itself."""
        parts = (self.kind, *self.path, self.quantization)
        return "-".join(part for part in parts if part is not None)

    @property
    def gate_id(self) -> str:
        """The gate of the registry that the item is: the claim and the path, by their letters."""
        path = self.path[1:] if self.kind is ConversionKind.GOLDEN else self.path
        letters = "-".join(format_[0].upper() for format_ in path)
        return f"{_GATES[self.kind]}-{letters}"

    @property
    def quantizes(self) -> bool:
        """Whether the first step loses precision on purpose: it starts at the ground truth."""
        return self.quantization is not None and self.path[0] is Format.SAFETENSORS


def conversions_of(
    formats: Sequence[Format], quantizations: Sequence[Quantization]
) -> tuple[ConversionCase, ...]:
    """Every conversion between the formats: as published, and in each quantization.

    The ground truth takes part even where the run leaves it out, as the others are made from it.
    A path over a format that cannot hold the quantization is none.
    """
    if not set(formats) - {Format.SAFETENSORS}:
        return ()
    taking_part = [f for f in Format if f is Format.SAFETENSORS or f in formats]
    return tuple(
        case
        for quantization in (None, *quantizations)
        for case in _cases(_able(taking_part, quantization), quantization)
    )


def _able(formats: Sequence[Format], quantization: Quantization | None) -> list[Format]:
    holds = quantization is None or quantization in APR_QUANTIZATIONS
    return [format_ for format_ in formats if holds or format_ is not Format.APR]


def _cases(
    formats: Sequence[Format], quantization: Quantization | None
) -> Iterator[ConversionCase]:
    pairs, triples = list(permutations(formats, 2)), list(permutations(formats, 3))
    for kind, paths in (
        (ConversionKind.DIRECT, pairs),
        (ConversionKind.ROUND_TRIP, pairs),
        (ConversionKind.CHAIN, triples),
        (ConversionKind.IDEMPOTENT, pairs),
        (ConversionKind.COMMUTES, triples),
        (ConversionKind.GOLDEN, [pair for pair in pairs if pair[0] is Format.SAFETENSORS]),
    ):
        for path in paths:
            case = ConversionCase(kind, path, quantization)
            # Two formats quantize the ground truth each in its own way: their results differ.
            if not (kind is ConversionKind.COMMUTES and case.quantizes):
                yield case
