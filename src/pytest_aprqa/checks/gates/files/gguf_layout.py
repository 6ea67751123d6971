"""Gates over a GGUF target's bytes: is it what the format says, before anything is made of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.gguf_survey import sound, surveys
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.formats.encodings import ENCODINGS
from pytest_aprqa.formats.gguf_header import ALIGNMENT_KEY
from pytest_aprqa.formats.gguf_writer import MAX_NAME_BYTES, MAX_RANK

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.files.gguf_survey import Claim, Survey

GGUF_LAYOUT: Family[TargetLab] = Family(
    domain="gguf-layout",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=frozenset({Format.GGUF}),
    source="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
)
_P0 = Severity.P0


def _each(lab: TargetLab, wrong: Callable[[Survey, Claim], str | None], healthy: str) -> Finding:
    """Refuted by the first tensor of which `wrong` says something."""
    count = 0
    for found in sound(lab):
        for claim in found.claims:
            if told := wrong(found, claim):
                return refuted(f"{found.file}: {claim.name} {told}", culprit=claim.name)
            count += 1
    return held(f"{count} tensors {healthy}") if count else without_meaning("no tensor")


@GGUF_LAYOUT.gate("F-GGUF-FORMAT-001", "The file begins as GGUF of a version in use.", severity=_P0)
def begins_as_gguf(lab: TargetLab) -> Finding:
    """Four letters, then version 2 or 3 in little-endian byte order."""
    for found in lab.once(surveys):
        if found.magic != b"GGUF" or found.version not in (2, 3):
            return refuted(
                f"{found.file} begins with {found.magic!r} and version {found.version}; expected "
                f"b'GGUF' and 2 or 3",
                culprit=found.file,
            )
    return held(f"GGUF version {lab.once(surveys)[0].version}")


@GGUF_LAYOUT.gate("F-GGUF-COUNT-001", "The header holds what its counts say.", severity=_P0)
def counts_are_true(lab: TargetLab) -> Finding:
    """All keys and tensors can be read, each of a known kind and within the file."""
    found = lab.once(surveys)
    for each in found:
        if each.broken:
            return refuted(each.broken, culprit=each.file)
    if not all(each.readable for each in found):
        return without_meaning("the file is no GGUF of a known version")
    tensors, keys = sum(len(e.claims) for e in found), sum(len(e.fields) for e in found)
    if tensors == 0:
        return refuted(
            f"{lab.file.name} describes no tensor; expected a model", culprit=found[0].file
        )
    return held(f"{keys} keys and {tensors} tensors")


@GGUF_LAYOUT.gate("F-GGUF-UNIQUE-001", "No key and no tensor occurs twice.", severity=_P0)
def names_are_unique(lab: TargetLab) -> Finding:
    """Over all parts of a split file, too; readers differ in which of two they take."""
    seen: dict[str, str] = {}
    for found in sound(lab):
        if found.twice:
            return refuted(f"{found.file}: {found.twice[0]} occurs twice", culprit=found.twice[0])
        for claim in found.claims:
            if claim.name in seen:
                return refuted(
                    f"{claim.name} is in {seen[claim.name]} and in {found.file}", culprit=claim.name
                )
            seen[claim.name] = found.file
    return held(f"{len(seen)} tensors, each once") if seen else without_meaning("no tensor")


@GGUF_LAYOUT.gate("F-GGUF-NAME-001", "Names and ranks fit what ggml can hold.", severity=_P0)
def names_fit(lab: TargetLab) -> Finding:
    """63 bytes of name, four dimensions (GGML_MAX_NAME, GGML_MAX_DIMS)."""

    def wrong(found: Survey, claim: Claim) -> str | None:
        nbytes = len(claim.name.encode())
        if not 1 <= nbytes <= MAX_NAME_BYTES:
            return f"has a name of {nbytes} bytes; expected 1 to {MAX_NAME_BYTES}"
        if len(claim.shape) > MAX_RANK:
            return f"has {len(claim.shape)} dimensions; expected at most {MAX_RANK}"
        return None

    return _each(lab, wrong, "with names and ranks that fit")


@GGUF_LAYOUT.gate("F-GGUF-FORMAT-002", "Every tensor's type is one that ggml has.", severity=_P0)
def types_are_known(lab: TargetLab) -> Finding:
    """By the numbers of enum ggml_type."""
    return _each(
        lab,
        lambda found, claim: (
            f"has the type {claim.code}, none of ggml's" if claim.encoding is None else None
        ),
        "of known types",
    )


@GGUF_LAYOUT.gate("F-GGUF-BLOCK-001", "Every row is a whole number of blocks.", severity=_P0)
def rows_are_whole(lab: TargetLab) -> Finding:
    """A row begins with a block of its own: 32 or 256 values."""

    def wrong(found: Survey, claim: Claim) -> str | None:
        if claim.encoding is None or claim.nbytes is not None:
            return None
        block = ENCODINGS[claim.encoding].block
        return f"is {claim.encoding} {list(claim.shape)}; expected rows of a multiple of {block}"

    return _each(lab, wrong, "of whole blocks")


@GGUF_LAYOUT.gate("F-GGUF-FORMAT-003", "Every tensor begins at the file's alignment.", severity=_P0)
def tensors_are_aligned(lab: TargetLab) -> Finding:
    """`general.alignment`, a power of two from 8 on, or 32."""
    for found in sound(lab):
        field = found.fields.get(ALIGNMENT_KEY)
        if field is None:
            continue
        value = field.value
        if type(value) is not int or value < 8 or value & (value - 1):
            return refuted(
                f"{found.file}: {ALIGNMENT_KEY} is {value!r:.40}; expected a power of 2 from 8 on",
                culprit=ALIGNMENT_KEY,
            )
    return _each(
        lab,
        lambda found, claim: (
            f"begins at byte {claim.offset} of the data; expected a multiple of {found.alignment}"
            if claim.offset % found.alignment
            else None
        ),
        "aligned",
    )


@GGUF_LAYOUT.gate("F-GGUF-OFFSET-001", "Every tensor lies within the file.", severity=_P0)
def tensors_are_inside(lab: TargetLab) -> Finding:
    """A file that was cut short ends before its last tensors do."""

    def wrong(found: Survey, claim: Claim) -> str | None:
        end = found.data + claim.offset + (claim.nbytes or 0)
        return f"ends at byte {end}, but the file has {found.size}" if end > found.size else None

    return _each(lab, wrong, "within their files")


@GGUF_LAYOUT.gate("F-GGUF-OVERLAP-001", "No two tensors share bytes.", severity=_P0)
def tensors_are_apart(lab: TargetLab) -> Finding:
    """Each begins where the one before it has ended."""
    count = 0
    for found in sound(lab):
        end, before = 0, ""
        placed = [claim for claim in found.claims if claim.nbytes]
        for claim in sorted(placed, key=lambda claim: claim.offset):
            if claim.offset < end:
                return refuted(
                    f"{found.file}: {claim.name} begins at byte {claim.offset} of the data, inside "
                    f"of {before}, which ends at {end}",
                    culprit=claim.name,
                )
            end, before, count = claim.offset + (claim.nbytes or 0), claim.name, count + 1
    return held(f"{count} tensors apart") if count else without_meaning("no tensor has bytes")


FAMILIES = (GGUF_LAYOUT,)
