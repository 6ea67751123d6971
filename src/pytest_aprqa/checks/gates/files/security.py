"""Gates over what a model's files could do to the machine that loads them."""

from __future__ import annotations

import json
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.structure import INDEX
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.integrity_files import file_findings, model_files
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.formats.checkpoint import read_json_object
from pytest_aprqa.formats.safetensors import HEADER_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_aprqa.checks.integrity_finding import IntegrityFinding

SECURITY: Family[ModelLab] = Family(
    domain="security", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.FILE
)
_P0 = Severity.P0
MOST_EXPANSION = 100
"""How many times its own size an archive may unpack to (the catalogue's limit against denial of
service, F-SEC-003)."""
_EXECUTABLES = {
    b"\x7fELF": "an ELF program",
    b"MZ": "a Windows program",
    b"\xfe\xed\xfa\xce": "a Mach-O program",
    b"\xfe\xed\xfa\xcf": "a Mach-O program",
    b"\xce\xfa\xed\xfe": "a Mach-O program",
    b"\xcf\xfa\xed\xfe": "a Mach-O program",
}


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in a model's directory, and what the look for pickles and code found."""

    paths: tuple[Path, ...]
    found: tuple[IntegrityFinding, ...]


def files(lab: ModelLab) -> Files:
    """Every file of the model, and what is dangerous by its name or its first bytes."""
    found, _ = file_findings(lab.directory)
    return Files(tuple(model_files(lab.directory)), tuple(found))


@dataclass(frozen=True, slots=True)
class Span:
    """Where a header says that a tensor lies, nothing of it checked."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class RawHeader:
    """A shard's header as it stands, read whatever it says of tensors."""

    file: str
    size: int
    """Bytes of the file."""
    claimed: int
    """Length that the header claims for itself."""
    spans: tuple[Span, ...]
    """In the order of the buffer; empty where `broken`."""
    broken: str = ""
    """Why the header cannot be read."""


def raw_headers(lab: ModelLab) -> tuple[RawHeader, ...]:
    """The header of every safetensors file in the directory itself."""
    return tuple(_raw_header(path) for path in sorted(lab.directory.glob("*.safetensors")))


def _raw_header(path: Path) -> RawHeader:
    size = path.stat().st_size
    with path.open("rb") as stream:
        claimed = int.from_bytes(stream.read(8), "little")
        if claimed > min(HEADER_MAX_BYTES, size - 8):
            room = min(HEADER_MAX_BYTES, max(size - 8, 0))
            told = f"claims a header of {claimed} bytes; expected at most {room}"
            return RawHeader(path.name, size, claimed, (), told)
        text = stream.read(claimed)
    try:
        entries: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        return RawHeader(path.name, size, claimed, (), f"has a header that is no JSON ({error})")
    if not isinstance(entries, dict):
        return RawHeader(path.name, size, claimed, (), "has a header that is no JSON object")
    spans = sorted(_spans(entries), key=lambda span: (span.begin, span.end))
    return RawHeader(path.name, size, claimed, tuple(spans))


def _spans(entries: dict[str, Any]) -> Iterator[Span]:
    for name, entry in entries.items():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if isinstance(offsets, list) and [type(n) for n in offsets] == [int, int]:
            yield Span(name, *offsets)


def _of_code(lab: ModelLab, code: str, healthy: str) -> Finding:
    """Refuted by the first finding of this code."""
    seen = lab.once(files)
    told = [finding for finding in seen.found if finding.code == code]
    if told:
        more = f" ({len(told) - 1} more)" if len(told) > 1 else ""
        return refuted(f"{told[0].message}{more}", culprit=told[0].subject)
    if not seen.paths:
        return refuted(f"{lab.directory}: there are no files; expected a model")
    return held(f"{len(seen.paths)} files, {healthy}")


@SECURITY.gate(
    "F-SEC-PATH-001", "No shard's name leads out of the model's directory.", severity=_P0
)
def shards_stay_inside(lab: ModelLab) -> Finding:
    """The index names files that loaders open."""
    path = lab.directory / INDEX
    if not path.is_file():
        return without_meaning("there is no index of shards")
    named = read_json_object(path).get("weight_map")
    shards = sorted({str(shard) for shard in named.values()}) if isinstance(named, dict) else []
    for shard in shards:
        parts = shard.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or "\0" in shard or ":" in parts[0]:
            return refuted(
                f"{INDEX} names the shard {shard!r:.120}; expected a file of the directory",
                culprit=shard,
            )
    if not shards:
        return without_meaning("the index names no shard")
    return held(f"{len(shards)} shards, all inside of the directory")


@SECURITY.gate("F-SEC-LINK-001", "No link leads out of the model's directory.", severity=_P0)
def links_stay_inside(lab: ModelLab) -> Finding:
    """But for those of a hub's cache, which keeps its files under `blobs`."""
    home = lab.directory.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    paths = list(home.rglob("*"))
    for path in paths:
        if path.is_symlink() and not any(path.resolve().is_relative_to(a) for a in allowed):
            name = path.relative_to(home).as_posix()
            return refuted(
                f"{name} is a link to {path.resolve()}; expected none that leaves {home}",
                culprit=name,
            )
    links = sum(path.is_symlink() for path in paths)
    return held(f"{links} links among {len(paths)} files, all inside of the directory")


@SECURITY.gate("F-SEC-PICKLE-001", "No file is a pickle.", severity=_P0)
def no_pickle(lab: ModelLab) -> Finding:
    """By content, then by name: a pickle runs what it likes when it is loaded."""
    return _of_code(lab, "pickle", "none of them a pickle")


@SECURITY.gate("F-SEC-CODE-001", "No code lies beside the weights.", severity=_P0)
def no_code(lab: ModelLab) -> Finding:
    """Python files and shared libraries, by their names."""
    return _of_code(lab, "code", "none of them code")


@SECURITY.gate("F-SEC-CODE-002", "No configuration names code to run.", severity=_P0)
def no_remote_code(lab: ModelLab) -> Finding:
    """`auto_map` sends loaders to the publisher's code, here or in another repository."""
    return _of_code(lab, "remote-code", "no configuration that names code")


@SECURITY.gate("F-SEC-EXEC-001", "No file is a program, whatever its name.", severity=_P0)
def no_program(lab: ModelLab) -> Finding:
    """By the first bytes of each."""
    paths = lab.once(files).paths
    for path in paths:
        with path.open("rb") as stream:
            start = stream.read(0x40)
            kind = next(
                (told for magic, told in _EXECUTABLES.items() if start.startswith(magic)), ""
            )
            if start.startswith(b"MZ"):  # two letters prove little: the header says where PE stands
                stream.seek(int.from_bytes(start[0x3C:0x40], "little"))
                kind = kind if stream.read(4) == b"PE\0\0" else ""
        if kind:
            name = path.relative_to(lab.directory).as_posix()
            return refuted(f"{name} is {kind}; expected data only", culprit=name)
    return held(f"{len(paths)} files, none of them a program")


_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
"""How gzip, bzip2 and xz begin."""


@SECURITY.gate(
    "F-SEC-ARCHIVE-001", "No archive unpacks outside of its place, or to a hundred times its size."
)
def archives_are_tame(lab: ModelLab) -> Finding:
    """Members with absolute names, `..` or links, and bombs; zip and tar, by content."""
    paths = lab.once(files).paths
    archives = 0
    for path in paths:
        name = path.relative_to(lab.directory).as_posix()
        try:
            members = _members(path)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ValueError) as error:
            told = f"{type(error).__name__}: {error}"
            return undecided(f"{name} is an archive that cannot be listed ({told})")
        if members is None:
            continue
        archives += 1
        wrong = [m for m, _ in members if _leaves(m)]
        if wrong:
            return refuted(
                f"{name} holds {wrong[0]!r:.80}; expected names that stay inside", culprit=name
            )
        whole = sum(nbytes for _, nbytes in members)
        if whole > MOST_EXPANSION * max(path.stat().st_size, 1):
            return refuted(
                f"{name} unpacks from {path.stat().st_size} bytes to {whole}; expected at most "
                f"{MOST_EXPANSION} times as many",
                culprit=name,
            )
    return held(f"{archives} archives among {len(paths)} files, none that does harm")


def _members(path: Path) -> list[tuple[str, int]] | None:
    """Names and sizes of an archive's members; None for what is none.

    Raises:
        BadZipFile, TarError, OSError, EOFError, ValueError: it is one, and cannot be listed.
    """
    if zipfile.is_zipfile(path) and path.suffix != ".safetensors":
        with zipfile.ZipFile(path) as archive:
            return [(m.filename, m.file_size) for m in archive.infolist()]
    with path.open("rb") as stream:
        start = stream.read(262)
    packed = start.startswith(_PACKED) and tarfile.is_tarfile(path)
    if start[257:262] == b"ustar" or packed:
        with tarfile.open(path) as unpacked:
            return [(m.linkname if m.issym() else m.name, m.size) for m in unpacked]
    return None


def _leaves(member: str) -> bool:
    """Whether a member's name leads out of the place of unpacking, on any system."""
    name = member.replace("\\", "/")
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/")


@SECURITY.gate(
    "F-SEC-HEADER-001", "No shard's header claims more than it may take.", severity=_P0,
    source="safetensors: headers of at most 100 MB, within the file",
)  # fmt: skip
def headers_are_bounded(lab: ModelLab) -> Finding:
    """A reader that believes the length takes that much memory."""
    headers = lab.once(raw_headers)
    for header in headers:
        if header.broken:
            return refuted(f"{header.file} {header.broken}", culprit=header.file)
    if not headers:
        return without_meaning("there is no safetensors file")
    longest = max(header.claimed for header in headers)
    return held(f"{len(headers)} headers of at most {longest} bytes")


@SECURITY.gate("F-SEC-OVERLAP-001", "No two tensors share bytes of a shard.", severity=_P0)
def no_overlap(lab: ModelLab) -> Finding:
    """The format forbids it: a few bytes could claim to be any amount of weights."""
    seen = 0
    for header in (h for h in lab.once(raw_headers) if not h.broken):
        end, before = 0, ""
        for span in header.spans:
            if span.begin < end and span.end > span.begin:
                return refuted(
                    f"{header.file}: {span.name} begins at byte {span.begin}, inside of {before}, "
                    f"which ends at {end}",
                    culprit=span.name,
                )
            end, before, seen = max(end, span.end), span.name, seen + 1
    return held(f"{seen} tensors apart") if seen else without_meaning("no header can be read")


@SECURITY.gate("F-SEC-HOLE-001", "No byte of a shard belongs to no tensor.")
def no_holes(lab: ModelLab) -> Finding:
    """Where nobody looks there is room for another file: the format allows none."""
    seen = 0
    for header in (h for h in lab.once(raw_headers) if not h.broken):
        end = 0
        for span in header.spans:
            if span.begin > end:
                return refuted(
                    f"{header.file}: {span.begin - end} bytes before {span.name} belong to no "
                    f"tensor; expected none",
                    culprit=header.file,
                )
            end, seen = max(end, span.end), seen + 1
        rest = header.size - 8 - header.claimed - end
        if rest > 0:
            return refuted(
                f"{header.file}: {rest} bytes follow the last tensor; expected none",
                culprit=header.file,
            )
    return held(f"{seen} tensors side by side") if seen else without_meaning("no header to read")


FAMILIES = (SECURITY,)
ALIASES = {"F-SEC-001": "F-SEC-PATH-001"}
