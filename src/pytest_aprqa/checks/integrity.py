"""G0: is a model directory sound in itself, before a single token is generated?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.integrity_config import (
    dtype_findings,
    embedding_rows,
    expectation_findings,
)
from pytest_aprqa.checks.integrity_files import file_findings
from pytest_aprqa.checks.integrity_finding import (
    Expectations,
    IntegrityFinding,
    IntegrityReport,
    bounded,
)
from pytest_aprqa.checks.integrity_tensors import tensor_findings
from pytest_aprqa.checks.integrity_tokenizer import tokenizer_findings
from pytest_aprqa.checks.integrity_values import value_findings
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object
from pytest_aprqa.formats.huggingface import survey_huggingface

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

__all__ = [
    "Expectations",
    "IntegrityFinding",
    "IntegrityReport",
    "inspect",
    "inspect_integrity",
]

# config.json is a page or two; even quantization settings stay far below.
_CONFIG_MAX_BYTES = 5_000_000


def inspect_integrity(
    directory: Path, *, expectations: Expectations | None = None
) -> tuple[IntegrityFinding, ...]:
    """Everything that is wrong with a model directory; empty means healthy."""
    return inspect(directory, expectations=expectations).findings


def inspect(directory: Path, *, expectations: Expectations | None = None) -> IntegrityReport:
    """Everything that is wrong with a model directory, and what could not be judged."""
    if not directory.is_dir():
        message = f"{directory}: there is no such directory; expected a model's files"
        return IntegrityReport((IntegrityFinding("weights", directory.name, message),), ())
    findings, notes = file_findings(directory)
    config = _config(directory, findings)
    checkpoint, problems = survey_huggingface(directory)
    findings += [IntegrityFinding("weights", directory.name, problem) for problem in problems]
    results = []
    if config is not None:
        results.append(expectation_findings(config, expectations or Expectations()))
        if problems:
            notes.append("config.json against the tensors: the weights cannot all be read")
        else:
            results.append(tensor_findings(config, checkpoint))
            if config.get("quantization_config") is None:
                results.append(dtype_findings(config, checkpoint.tensors))
    results.append(value_findings(checkpoint))
    rows = embedding_rows(config or {}, checkpoint.tensors)
    results.append(tokenizer_findings(directory, config=config or {}, rows=rows))
    for found, unjudged in results:
        findings += found
        notes += unjudged
    tidy = (IntegrityFinding(f.code, f.subject, one_line(f.message)) for f in findings)
    return IntegrityReport(bounded(tidy), tuple(notes))


def _config(directory: Path, findings: list[IntegrityFinding]) -> dict[str, Any] | None:
    """config.json, or None and a finding."""
    try:
        return read_json_object(directory / "config.json", max_bytes=_CONFIG_MAX_BYTES)
    except CheckpointError as error:
        findings.append(IntegrityFinding("config", "config.json", str(error)))
        return None
