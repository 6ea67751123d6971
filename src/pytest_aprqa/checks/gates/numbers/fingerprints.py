"""Gates over the ground truth's tensors against a saved fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.fingerprint import PERCENTS, TensorFingerprint, fingerprint_tensors
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.gates.numbers.differential import chosen
from pytest_aprqa.checks.gates.numbers.saved import Spread, fingerprint_at
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.tolerance import (
    FINGERPRINT_BLOCKS,
    FINGERPRINT_FLOAT,
    FINGERPRINT_SAME,
)
from pytest_aprqa.formats.encodings import ENCODINGS

if TYPE_CHECKING:
    from pathlib import Path

_NO_REFERENCE = "differential_tests.fingerprint.reference names no saved fingerprint"

FINGERPRINTS: Family[ModelLab] = Family(
    domain="rosetta",
    place=Place.MODEL,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    section="differential_tests.fingerprint",
)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The model's tensors and the saved ones that the section chooses, by name."""

    ours: dict[str, TensorFingerprint]
    saved: dict[str, TensorFingerprint]
    blocks: bool = False
    """Whether the saved ones are of a file that holds blocks: read, its values are plain."""

    @property
    def both(self) -> list[tuple[TensorFingerprint, TensorFingerprint]]:
        """Ours and the saved one of each name that both have."""
        return [(one, self.saved[name]) for name, one in self.ours.items() if name in self.saved]


def fingerprints(lab: ModelLab) -> Fingerprints | None:
    """Both; None where the playbook names no reference."""
    section = lab.sections.differential_tests.fingerprint
    if section.reference is None:
        return None
    path = lab.beside(section.reference)
    saved = fingerprint_at(path)
    tensors = [t for t in lab.portable.tensors if chosen(t.name, section.tensors)]
    found = fingerprint_tensors(tensors)
    kept = {name: one for name, one in saved.items() if chosen(name, section.tensors)}
    return Fingerprints({one.name: one for one in found.tensors}, kept, _in_blocks(path))


def _in_blocks(path: Path) -> bool:
    from pytest_aprqa.formats.opening import open_checkpoint

    if path.suffix == ".json":
        return False
    return any(not ENCODINGS[i.dtype].plain for i in open_checkpoint(path).tensors.values())


def _against_saved(
    check: Callable[[ModelLab, Fingerprints], Finding],
) -> Callable[[ModelLab], Finding]:
    def checked(lab: ModelLab) -> Finding:
        found = lab.once(fingerprints)
        if found is None:
            return without_meaning(_NO_REFERENCE)
        if not found.saved:
            return undecided("the saved fingerprint has none of the chosen tensors")
        return check(lab, found)

    return checked


@FINGERPRINTS.gate(
    "F-ROSETTA-FP-001",
    "Statistics are as finite as the saved ones.",
    severity=Severity.P0,
    applies="the playbook names a saved fingerprint",
)
@_against_saved
def stay_finite(lab: ModelLab, found: Fingerprints) -> Finding:
    """No tensor has more NaN or infinities than were saved."""
    for one, saved in found.both:
        if one.not_finite > saved.not_finite:
            told = f"{one.name} has {one.not_finite} values that are NaN or infinite"
            return refuted(f"{told}; expected {saved.not_finite}", culprit=one.name)
    if not found.both:
        return undecided("no tensor has a name of the saved ones")
    return held(f"{len(found.both)} tensors")


@FINGERPRINTS.gate(
    "F-ROSETTA-FP-002",
    "Tensors have the saved names, shapes and checksums.",
    severity=Severity.P0,
    applies="the playbook names a saved fingerprint",
)
@_against_saved
def same_checksums(lab: ModelLab, found: Fingerprints) -> Finding:
    """Checksums of the values; those of another encoding have rounded, and are not compared."""
    lost = sorted(set(found.saved) ^ set(found.ours))
    if lost:
        where = "the model" if lost[0] in found.saved else "the saved fingerprint"
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        return refuted(f"{where} lacks {lost[0]}{more}", culprit=lost[0])
    asked = "checksum" in lab.sections.differential_tests.fingerprint.stats
    alike = [(one, saved) for one, saved in found.both if one.encoding == saved.encoding]
    for one, saved in found.both:
        if one.shape != saved.shape:
            told = f"{one.name} has shape {list(one.shape)}; expected {list(saved.shape)}"
            return refuted(told, culprit=one.name)
    for one, saved in alike if asked else []:
        if one.content != saved.content:
            told = f"{one.name} has the content {one.content[:12]}; expected {saved.content[:12]}"
            return refuted(told, culprit=one.name)
    if not asked:
        return without_meaning("differential_tests.fingerprint.stats leaves checksums out")
    if not alike:
        return without_meaning("every tensor is in another encoding than the saved one")
    return held(f"{len(alike)} of {len(found.both)} tensors in the saved encoding, equal")


def _numbers(one: TensorFingerprint, stats: Sequence[str]) -> dict[str, float | None]:
    known = {"mean": one.mean, "std": one.std, "min": one.minimum, "max": one.maximum}
    found = {name: value for name, value in known.items() if name in stats}
    if "percentiles" in stats:
        found |= {f"percentile {p}": v for p, v in zip(PERCENTS, one.percentiles, strict=False)}
    return found


def _tolerance(one: TensorFingerprint, saved: TensorFingerprint, *, blocks: bool) -> float:
    if blocks:
        return FINGERPRINT_BLOCKS
    if one.encoding == saved.encoding:
        return FINGERPRINT_SAME
    plain = all(e in ENCODINGS and ENCODINGS[e].plain for e in (one.encoding, saved.encoding))
    return FINGERPRINT_FLOAT if plain else FINGERPRINT_BLOCKS


@FINGERPRINTS.gate(
    "F-ROSETTA-FP-003",
    "Statistics are the saved ones within what another encoding costs.",
    applies="the playbook names a saved fingerprint",
)
@_against_saved
def same_statistics(lab: ModelLab, found: Fingerprints) -> Finding:
    """Mean, spread, extremes and percentiles, as shares of the root mean square."""
    stats = lab.sections.differential_tests.fingerprint.stats
    compared = 0
    for one, saved in found.both:
        lacking = saved.mean is not None and len(saved.percentiles) != len(PERCENTS)
        if "percentiles" in stats and lacking:
            told = f"the saved fingerprint has no percentiles of {one.name}"
            return undecided(f"{told}; write it again with `aprqa fingerprint --json`")
        theirs = _numbers(saved, stats)
        size = Spread(saved.mean, saved.std).size
        limit = _tolerance(one, saved, blocks=found.blocks)
        for name, value in _numbers(one, stats).items():
            other = theirs.get(name)
            if value is None or other is None:
                continue  # no value is finite: another gate's
            compared += 1
            # Extremes may be many times the root mean square, and round with their own size.
            if abs(value - other) > limit * max(size, abs(other)):
                told = f"{one.name} has {name} {value:.6g}; expected {other:.6g} within {limit:.2g}"
                return refuted(f"{told} of its size", culprit=one.name)
    if not compared:
        return without_meaning("there are no statistics in common that the playbook asks for")
    return held(f"{compared} statistics of {len(found.both)} tensors")


FAMILIES = (FINGERPRINTS,)

ALIASES = {
    "F-CANARY-001": "F-ROSETTA-FP-002",
    "F-CANARY-002": "F-ROSETTA-FP-003",
    "F-CANARY-003": "F-ROSETTA-FP-002",
}
