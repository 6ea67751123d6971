"""Gates over an APR target's file: its layout, and what its two loaders make of it."""

from __future__ import annotations

from collections.abc import Callable

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.apr_survey import AprSurvey, footer, survey
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.formats.apr_fields import field_problems
from pytest_aprqa.formats.apr_header import ALIGNMENT, DTYPES, FLAGS, AprEntry
from pytest_aprqa.formats.apr_rules import EMBEDDINGS, HEADS, PORTABLE, apr_problems
from pytest_aprqa.formats.apr_tokenizer import tokenizer_problems

APR_LAYOUT: Family[TargetLab] = Family(
    domain="apr-layout",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=frozenset({Format.APR}),
    source="https://github.com/paiml/aprender, crate apr-format, module v2",
)
APR_RULES: Family[TargetLab] = Family(
    domain="apr-rules",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=frozenset({Format.APR}),
    source="the readers of https://github.com/paiml/aprender and https://github.com/paiml/realizar",
)
_P0 = Severity.P0
_UNREADABLE = (0x0001, 0x0002, 0x0004, 0x0800)
"""Flags after which the bytes are no plain row-major values."""


def _each(
    lab: TargetLab, wrong: Callable[[AprSurvey, AprEntry], str | None], healthy: str
) -> Finding:
    """Refuted by the first tensor of which `wrong` says something."""
    found = lab.once(survey)
    for entry in found.entries:
        if told := wrong(found, entry):
            return refuted(f"{lab.file.name}: {entry.name} {told}", culprit=entry.name)
    if not found.entries:
        return without_meaning("no tensor is described")
    return held(f"{len(found.entries)} tensors {healthy}")


@APR_LAYOUT.gate("F-APR-FORMAT-003", "The file begins as APR of version 2.", severity=_P0)
def begins_as_apr(lab: TargetLab) -> Finding:
    """The letters APR, a zero byte, and the version."""
    found = lab.once(survey)
    if not found.is_apr:
        return refuted(
            f"{lab.file.name} begins with {found.magic!r}, version {found.version[0]}."
            f"{found.version[1]}; expected b'APR\\x00' and 2.x",
            culprit=lab.file.name,
        )
    return held(f"APR version {found.version[0]}.{found.version[1]}")


@APR_LAYOUT.gate("F-APR-CHECKSUM-001", "The header's checksum is that of its bytes.", severity=_P0)
def header_is_whole(lab: TargetLab) -> Finding:
    """CRC-32 of the 60 bytes beside it."""
    found = lab.once(survey)
    if not found.is_apr:
        return without_meaning("the file is no APR v2")
    if found.stored_checksum != found.checksum:
        return refuted(
            f"{lab.file.name}: the header's checksum is {found.stored_checksum:08x}; expected "
            f"{found.checksum:08x}",
            culprit=lab.file.name,
        )
    return held(f"checksum {found.checksum:08x}")


@APR_LAYOUT.gate(
    "F-APR-CHECKSUM-002", "The checksum at the file's end is that of its bytes.",
    severity=_P0, cost=Cost.WEIGHTS,
)  # fmt: skip
def file_is_whole(lab: TargetLab) -> Finding:
    """CRC-32 of all that stands before it; not every writer adds one."""
    found = lab.once(footer)
    if found.stored is None:
        return without_meaning("the file has no checksum at its end")
    if found.stored != found.actual:
        return refuted(
            f"{lab.file.name}: the checksum at the end is {found.stored:08x}; expected "
            f"{found.actual:08x}; a byte was changed",
            culprit=lab.file.name,
        )
    return held(f"checksum {found.actual:08x}")


@APR_LAYOUT.gate("F-APR-FLAGS-001", "The data are plain and row-major.", severity=_P0)
def data_are_plain(lab: TargetLab) -> Finding:
    """Neither compressed nor encrypted nor column-major: readers differ in what these do."""
    found = lab.once(survey)
    if not found.is_apr:
        return without_meaning("the file is no APR v2")
    set_ = [FLAGS[bit] for bit in _UNREADABLE if found.flags & bit]
    if set_:
        return refuted(
            f"{lab.file.name}: the flag {set_[0]} is set; expected plain row-major data",
            culprit=lab.file.name,
        )
    return held(f"flags {found.flags:#06x}")


@APR_LAYOUT.gate("F-APR-INDEX-001", "The index holds what the header counts.", severity=_P0)
def index_is_whole(lab: TargetLab) -> Finding:
    """Every entry can be read, and there is one at least."""
    found = lab.once(survey)
    if not found.is_apr:
        return without_meaning("the file is no APR v2")
    if found.broken:
        return refuted(f"{lab.file.name}: {found.broken}", culprit=lab.file.name)
    if not found.entries:
        return refuted(f"{lab.file.name} holds no tensor; expected a model", culprit=lab.file.name)
    return held(f"{len(found.entries)} entries")


@APR_LAYOUT.gate("F-APR-ORDER-001", "The index is in the order of names, each once.", severity=_P0)
def index_is_sorted(lab: TargetLab) -> Finding:
    """By their bytes: loaders search it so."""
    entries = lab.once(survey).entries
    names = [entry.name.encode() for entry in entries]
    for before, entry, name in zip(names, entries[1:], names[1:], strict=False):
        if name <= before:
            return refuted(
                f"{lab.file.name}: {entry.name} follows {before.decode()}; expected the order of "
                f"their bytes",
                culprit=entry.name,
            )
    return held(f"{len(names)} names in order") if names else without_meaning("no tensor")


@APR_LAYOUT.gate("F-APR-FORMAT-001", "Every tensor's type is one that aprender has.", severity=_P0)
def types_are_known(lab: TargetLab) -> Finding:
    """By the codes of its table."""
    return _each(
        lab,
        lambda found, entry: (
            f"has the type {entry.code}; expected one of {', '.join(map(str, DTYPES))}"
            if entry.code not in DTYPES
            else None
        ),
        "of known types",
    )


@APR_LAYOUT.gate("F-APR-SIZE-001", "Every tensor takes the bytes of its shape.", severity=_P0)
def sizes_are_right(lab: TargetLab) -> Finding:
    """By its type: plain values, or whole blocks."""

    def wrong(found: AprSurvey, entry: AprEntry) -> str | None:
        expected = found.expected(entry)
        if entry.code not in DTYPES or entry.nbytes in expected:
            return None
        wanted = " or ".join(map(str, sorted(expected))) or "a shape that can be"
        return f"takes {entry.nbytes} bytes for {list(entry.shape)}; expected {wanted}"

    return _each(lab, wrong, "of the right sizes")


@APR_LAYOUT.gate("F-APR-FORMAT-002", "Every tensor begins at a multiple of 64 bytes.", severity=_P0)
def tensors_are_aligned(lab: TargetLab) -> Finding:
    """From the beginning of the file."""
    return _each(
        lab,
        lambda found, entry: (
            f"begins at byte {found.data + entry.offset}; expected a multiple of {ALIGNMENT}"
            if (found.data + entry.offset) % ALIGNMENT
            else None
        ),
        "aligned",
    )


@APR_LAYOUT.gate("F-APR-OFFSET-001", "Every APR tensor lies within its file.", severity=_P0)
def tensors_are_inside(lab: TargetLab) -> Finding:
    """A file that was cut short ends before its last tensors do."""

    def wrong(found: AprSurvey, entry: AprEntry) -> str | None:
        end = found.data + entry.offset + entry.nbytes
        return f"ends at byte {end}, but the file has {found.size}" if end > found.size else None

    return _each(lab, wrong, "within the file")


@APR_LAYOUT.gate("F-APR-OVERLAP-001", "No two APR tensors share bytes.", severity=_P0)
def tensors_are_apart(lab: TargetLab) -> Finding:
    """Each begins where the one before it has ended."""
    entries = [entry for entry in lab.once(survey).entries if entry.nbytes]
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset < end:
            return refuted(
                f"{lab.file.name}: {entry.name} begins at byte {entry.offset} of the data, inside "
                f"of {before}, which ends at {end}",
                culprit=entry.name,
            )
        end, before = entry.offset + entry.nbytes, entry.name
    return held(f"{len(entries)} tensors apart") if entries else without_meaning("no tensor")


def _problems(lab: TargetLab, problems: list[str], healthy: str, culprit: str) -> Finding:
    """Refuted by the first of the problems."""
    if problems:
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        return refuted(f"{lab.file.name}: {problems[0]}{more}", culprit=culprit)
    return held(healthy)


@APR_RULES.gate("F-APR-META-001", "The metadata are JSON that all readers take.", severity=_P0)
def metadata_are_read(lab: TargetLab) -> Finding:
    """An object in which each key stands once, with finite numbers."""
    found = lab.once(survey)
    if found.metadata_broken:
        return refuted(found.metadata_broken, culprit="metadata")
    return held(f"{len(found.metadata)} keys")


@APR_RULES.gate("F-APR-FIELDS-001", "The metadata's fields have the names and types expected.")
def fields_are_typed(lab: TargetLab) -> Finding:
    """One reader drops all metadata at a field that it does not expect."""
    found = lab.once(survey)
    if found.metadata_broken:
        return without_meaning("the metadata cannot be read")
    problems = field_problems(found.metadata)
    return _problems(lab, problems, f"{len(found.metadata)} fields as expected", "metadata")


@APR_RULES.gate("F-APR-VOCAB-001", "The tokenizer's fields fit its vocabulary.", severity=_P0)
def vocabulary_agrees(lab: TargetLab) -> Finding:
    """Sizes, lists and ids; entries that are no texts move every id after them."""
    metadata = lab.once(survey).metadata
    if "tokenizer.vocabulary" not in metadata:
        return without_meaning("the metadata hold no vocabulary")
    words = metadata["tokenizer.vocabulary"]
    return _problems(
        lab, tokenizer_problems(metadata), f"{len(words)} words", "tokenizer.vocabulary"
    )


@APR_RULES.gate("F-APR-PORTABLE-001", "Both loaders read every tensor's encoding alike.")
def encodings_are_portable(lab: TargetLab) -> Finding:
    """The two take some codes for different encodings, and vectors for float32 whatever it is."""
    problems = _loader_problems(lab)
    if problems is None:
        return without_meaning("the file cannot be read as far as its tensors")
    told = [line for line in problems if line.startswith("tensor ") and "hidden_size]" not in line]
    culprit = told[0].split("'")[1] if told and "'" in told[0] else ""
    return _problems(lab, told, f"only {', '.join(PORTABLE)}", culprit)


@APR_RULES.gate("F-APR-MODEL-001", "Both loaders can build the model described.")
def model_can_be_built(lab: TargetLab) -> Finding:
    """Sizes that are there and in range, heads that divide, an embedding and a head that fit."""
    problems = _loader_problems(lab)
    if problems is None or lab.once(survey).metadata.get("architecture") is None:
        return without_meaning("the metadata name no architecture")
    metadata = lab.once(survey).metadata
    others = {*field_problems(metadata), *tokenizer_problems(metadata)}
    told = [
        line
        for line in problems
        if line not in others and (not line.startswith("tensor ") or "hidden_size]" in line)
    ]
    named = [e.name for e in lab.once(survey).entries if told and f" {e.name} " in told[0]]
    named += [part for part in (*HEADS, *EMBEDDINGS) if told and part in told[0]]
    culprit = named[0] if named else "metadata"
    return _problems(lab, told, f"a {metadata['architecture']} that both build", culprit)


def _loader_problems(lab: TargetLab) -> list[str] | None:
    """What breaks the loaders' rules; None where tensors or metadata cannot be read."""
    from pytest_aprqa.formats.tensor import tensors_of

    found = lab.once(survey)
    if found.broken or found.metadata_broken:
        return None
    return apr_problems(found.metadata, tensors_of(lab.checkpoint))


FAMILIES = (APR_LAYOUT, APR_RULES)
