"""Proofs of the gates about records of conversions: the record or its file is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.checks.gates.text.tokens_proofs import healthy_target
from pytest_aprqa.domain.model import Format

_SIDECAR = "provenance.json"


def _lab(bench: ProofBench, change: Callable[[Path], object]) -> Lab:
    """A GGUF target whose entry of the cache was copied and then changed."""
    kept = bench.converted(Format.GGUF)
    file = bench.place("model.gguf")
    for name in (kept.name, _SIDECAR):
        shutil.copyfile(kept.parent / name, file.parent / name)
    change(file)
    return bench.target_lab(Format.GGUF, file=file, engine=bench.engine(kept, Format.GGUF))


def _in_record(change: Callable[[dict[str, Any]], object], file: Path) -> None:
    path = file.parent / _SIDECAR
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


def _cut(file: Path) -> None:
    path = file.parent / _SIDECAR
    path.write_bytes(path.read_bytes()[:-20])


def _second(file: Path) -> None:
    shutil.copyfile(file.parent / _SIDECAR, file.parent / f"again.gguf.{_SIDECAR}")


def _proof(gate: str, defect: str, change: Callable[[Path], object]) -> Proof:
    planted = partial(_lab, change=change)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy_target(Format.GGUF))


def _recorded(gate: str, defect: str, change: Callable[[dict[str, Any]], object]) -> Proof:
    return _proof(gate, defect, partial(_in_record, change))


PROOFS = (
    _proof("F-PROV-FORM-001", "the record is cut off", _cut),
    _proof("F-PROV-001", "one bit of the file is another", _flipped),
    _recorded(
        "F-PROV-002",
        "the record names a file that was never written",
        lambda content: content["result"].update({"model-00002.gguf": "0" * 64}),
    ),
    _proof("F-PROV-003", "a second record stands for the same conversion", _second),
    _recorded(
        "F-PROV-004",
        "the record says another quantization",
        lambda content: content.update(quantization="q4_0"),
    ),
    _recorded(
        "F-PROV-SOURCE-001",
        "the record was made from a GGUF file",
        lambda content: content.update(source={"other.gguf": "0" * 64}),
    ),
    _recorded(
        "F-PROV-MAKER-001",
        "the record names an unknown converter",
        lambda content: content.update(made_by={"someconverter": "1.0"}),
    ),
)
