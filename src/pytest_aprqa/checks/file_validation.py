"""G0 for any file: is a model sound in itself, whatever format it is in?

A Hugging Face directory gets every check of `checks.integrity`. A GGUF or APR file is read
strictly, its values are checked, its embedded config and tokenizer are held against the format's
own keys, and, seen as Hugging Face would have it, against the architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks import integrity
from pytest_aprqa.checks.file_config import config_findings
from pytest_aprqa.checks.file_stored_tokenizer import stored_tokenizer_findings
from pytest_aprqa.checks.file_tokens import directory_tokens, stored_tokens
from pytest_aprqa.checks.file_values import value_findings
from pytest_aprqa.checks.integrity_finding import IntegrityFinding, IntegrityReport, bounded
from pytest_aprqa.checks.integrity_values import value_findings as bitwise_findings
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.formats.apr_file import AprFile, verify_footer
from pytest_aprqa.formats.apr_rules import apr_problems
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import HuggingFaceCheckpoint, survey_huggingface
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.safetensors import SafetensorsFile
from pytest_aprqa.formats.tensor import tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_aprqa.formats.checkpoint import Checkpoint

_Found = tuple[list[IntegrityFinding], list[str]]
# What the checks of a directory do not look for: they tell NaN and zeros by the stored bits.
_BEYOND_BITS = ("constant", "dead-row")


def validate_file(path: Path) -> IntegrityReport:
    """Everything that is wrong with a model file or directory, and what could not be judged.

    At most eight findings of each code, each message one line.

    Raises:
        CheckpointError: when there is nothing at that path; what is there and cannot be read is
            a finding.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or directory")
    if path.is_dir():
        return _directory(path)
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        return _report(_unreadable(path, error), [])
    findings, notes = [], []
    for found, unjudged in _checks(path, checkpoint):
        findings += found
        notes += unjudged
    return _report(findings, notes)


def _report(findings: Iterable[IntegrityFinding], notes: Iterable[str]) -> IntegrityReport:
    tidy = (IntegrityFinding(f.code, f.subject, one_line(f.message)) for f in findings)
    return IntegrityReport(bounded(tidy), tuple(one_line(note) for note in notes))


def _unreadable(path: Path, error: CheckpointError) -> list[IntegrityFinding]:
    return [IntegrityFinding("weights", path.name, line) for line in str(error).splitlines()]


def _directory(path: Path) -> IntegrityReport:
    report = integrity.inspect(path)
    checkpoint, _ = survey_huggingface(path)
    found, notes = value_findings(checkpoint, ordinary=directory_tokens(path))
    more = [finding for finding in found if finding.code in _BEYOND_BITS]
    fresh = [note for note in notes if not note.startswith("values of ")]
    return _report([*report.findings, *more], [*report.not_judged, *fresh])


def _checks(path: Path, checkpoint: Checkpoint) -> Iterable[_Found]:
    """The checks that a file's format allows, each with what it could not judge."""
    if isinstance(checkpoint, SafetensorsFile):
        yield from _safetensors(checkpoint)
        return
    yield value_findings(checkpoint, ordinary=stored_tokens(checkpoint.format, checkpoint.metadata))
    if isinstance(checkpoint, AprFile):
        yield _apr(path, checkpoint)
    if isinstance(checkpoint, AprFile | GgufFile):
        yield config_findings(checkpoint)
        yield stored_tokenizer_findings(checkpoint)


def _safetensors(file: SafetensorsFile) -> Iterable[_Found]:
    """A lone file: its values; there is no config nor tokenizer to hold against it."""
    whole = HuggingFaceCheckpoint(file.path, (file,), file.tensors, file.metadata)
    yield bitwise_findings(whole)
    found, _ = value_findings(file, ordinary=None)
    constant = [finding for finding in found if finding.code in _BEYOND_BITS]
    note = "config and tokenizer: a lone safetensors file has none; give its directory"
    yield constant, [note]


def _apr(path: Path, file: AprFile) -> _Found:
    """The checksum of the whole file, and what its loaders require beyond the layout."""
    findings = [
        IntegrityFinding("apr-rule", path.name, f"{path.name}: {problem}")
        for problem in apr_problems(file.metadata, tensors_of(file))
    ]
    try:
        has_checksum = verify_footer(path)
    except CheckpointError as error:
        return [*findings, IntegrityFinding("checksum", path.name, str(error))], []
    return findings, [] if has_checksum else ["the file's bytes: it has no checksum at its end"]
