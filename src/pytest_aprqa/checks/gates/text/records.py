"""Gates: the record beside a converted file tells the truth about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

records: Family[TargetLab] = Family(
    domain="provenance",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=frozenset({Format.APR, Format.GGUF}),
    source="conversion/provenance.py",
)
_PARTS: Mapping[str, type | tuple[type, ...]] = {
    "schema": str,
    "recipe": int,
    "source": dict,
    "format": str,
    "quantization": (str, type(None)),
    "made_by": dict,
    "result": dict,
}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a conversion, as it was found."""

    path: Path
    facts: Mapping[str, Any] | None
    """None where it cannot be read."""
    problem: str = ""

    def part(self, name: str) -> Any:
        """One part of it; None where it is not there or cannot be read."""
        return None if self.facts is None else self.facts.get(name)

    def digests(self, name: str) -> dict[str, str]:
        """Digests by file name; empty where the part is none."""
        found = self.part(name)
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def record_beside(file: Path) -> Path | None:
    """Where the record of a converted file lies; None where there is none."""
    from pytest_aprqa.conversion.provenance import SIDECAR, sidecar_of

    places = (sidecar_of(file), file.parent / SIDECAR)
    return next((place for place in places if place.is_file()), None)


def record(lab: TargetLab) -> Record | None:
    """The record of the target's file; None where there is none."""
    path = record_beside(lab.file)
    if path is None:
        return None
    try:
        return Record(path, read_json_object(path))
    except CheckpointError as error:
        return Record(path, None, str(error))


def _gate(
    gate_id: str, assertion: str, severity: Severity = Severity.P0
) -> Callable[[Callable[[TargetLab, Record], Finding]], None]:
    def add(check: Callable[[TargetLab, Record], Finding]) -> None:
        @records.gate(
            gate_id, assertion, severity=severity, applies="there is a record beside the file"
        )
        def _check(lab: TargetLab) -> Finding:
            found = lab.once(record)
            if found is None:
                return without_meaning("no record of a conversion lies beside the file")
            if found.facts is None and gate_id != "F-PROV-FORM-001":
                return without_meaning("the record cannot be read, which F-PROV-FORM-001 tells of")
            return check(lab, found)

    return add


def _bad(found: Record, reason: str) -> Finding:
    return refuted(f"{found.path.name}: {reason}", culprit=found.path.name)


@_gate("F-PROV-FORM-001", "The record is whole: JSON with all its parts, each of its kind")
def _form(lab: TargetLab, found: Record) -> Finding:
    from pytest_aprqa.conversion.provenance import SCHEMA

    if found.facts is None:
        return _bad(found, found.problem)
    for name, kind in _PARTS.items():
        if name not in found.facts or not isinstance(found.facts[name], kind):
            return _bad(found, f"{name} is {found.facts.get(name)!r:.60}; the record is not whole")
    if found.facts["schema"] != SCHEMA:
        return _bad(found, f"schema is {found.facts['schema']!r:.60}, expected {SCHEMA!r}")
    return held(f"{len(_PARTS)} parts")


@_gate("F-PROV-001", "The file's SHA-256 is the one that its record gives")
def _digest(lab: TargetLab, found: Record) -> Finding:
    from pytest_aprqa.conversion.cache import known_content

    content = known_content(lab.file)
    told = found.digests("result")
    for name, digest in content.items():
        given = told.get(name)
        if given is not None and given != digest:
            told_ = f"{name} has SHA-256 {digest[:16]}, the record gives {given[:16]}"
            return refuted(told_, culprit=name)
    if not set(content) & set(told):
        return without_meaning("the record gives no digest of this file")
    return held(f"{len(set(content) & set(told))} digests are those of the record")


@_gate("F-PROV-002", "Every file that the record names as its result lies beside it")
def _there(lab: TargetLab, found: Record) -> Finding:
    names = found.digests("result")
    lost = [name for name in names if not (found.path.parent / name).is_file()]
    if lost or not names:
        return _bad(found, f"{lost[0]} is not there" if lost else "it names no result")
    if lab.file.name not in names:
        return _bad(found, f"it names {sorted(names)[0]}, expected {lab.file.name}")
    return held(f"{len(names)} files are there")


@_gate(
    "F-PROV-003",
    "No two records in the directory stand for one format and quantization of one source",
    Severity.P1,
)
def _once(lab: TargetLab, found: Record) -> Finding:
    from pytest_aprqa.conversion.provenance import SIDECAR

    mine = tuple(found.part(name) for name in ("format", "quantization", "source"))
    count = 1
    for other in sorted(found.path.parent.glob(f"*{SIDECAR}")):
        if other == found.path:
            continue
        try:
            facts = read_json_object(other)
        except CheckpointError:
            continue  # a record of another file, which that one's own gate judges
        count += 1
        if tuple(facts.get(name) for name in ("format", "quantization", "source")) == mine:
            told = f"{other.name}: {mine[0]} in {mine[1]}, as {found.path.name} is already"
            return refuted(told, culprit=other.name)
    return held(f"{count} records, each of something else")


@_gate("F-PROV-004", "The record names the format and the quantization of the file")
def _named(lab: TargetLab, found: Record) -> Finding:
    quantization = lab.quantization
    wanted = (lab.format.value, None if quantization is None else quantization.value)
    given = (found.part("format"), found.part("quantization"))
    if given != wanted:
        return _bad(found, f"it says {given[0]} in {given[1]}, expected {wanted[0]} in {wanted[1]}")
    return held(f"{wanted[0]} in {wanted[1] or 'its published encoding'}")


@_gate("F-PROV-SOURCE-001", "The record's source is the ground truth, file by file")
def _source(lab: TargetLab, found: Record) -> Finding:
    from pytest_aprqa.conversion.cache import known_content

    expected, told = known_content(lab.model.directory), found.digests("source")
    for name in sorted({*expected, *told}):
        if expected.get(name) != told.get(name):
            now, then = (str(side.get(name))[:16] for side in (expected, told))
            return refuted(f"{name} is {now}, the record was made from {then}", culprit=name)
    return held(f"{len(expected)} files of the ground truth")


@_gate("F-PROV-MAKER-001", "The record names the converter that made the file, with its version")
def _maker(lab: TargetLab, found: Record) -> Finding:
    made_by = found.digests("made_by")
    if not made_by.get("pytest-aprqa", "").strip():
        shown = ", ".join(sorted(made_by)) or "nobody"
        return _bad(found, f"made by {shown}; expected pytest-aprqa with its version")
    empty = next((name for name, version in made_by.items() if not version.strip()), None)
    if empty is not None:
        return _bad(found, f"{empty} has no version")
    return held(", ".join(f"{name} {version}" for name, version in made_by.items()))


FAMILIES = (records,)
ALIASES = {
    "F-PROV-IO-001": "F-PROV-001",
    "F-PROV-IO-002": "F-PROV-FORM-001",
    "F-PROV-IO-003": "F-PROV-002",
    "F-PROV-LOGIC-001": "F-PROV-SOURCE-001",
    "F-PROV-LOGIC-002": "F-PROV-MAKER-001",
    "F-PROV-LOGIC-003": "F-PROV-004",
    "F-PROV-CODE-001": "F-PROV-003",
}
