"""The gates against a saved fingerprint are seen to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting import rewritten
from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, ProofBench, shared
from pytest_aprqa.domain.sections import DifferentialTests, FingerprintTest, Sections

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_UP = "model.layers.1.mlp.up_proj.weight"


def _saved(edit: Callable[[Any], Any] | None) -> Callable[[ProofBench], Lab]:
    """An edited copy beside the embedded model's fingerprint, saved as the command writes it."""

    def make(bench: ProofBench) -> Lab:
        from pytest_aprqa.checks.fingerprint import fingerprint_tensors
        from pytest_aprqa.conversion.reading import read_portable

        found = fingerprint_tensors(read_portable(EMBEDDED).tensors)
        path = bench.place("fingerprint.json")
        members = [asdict(tensor) for tensor in found.tensors]
        path.write_text(json.dumps({"raw": False, "tensors": members}), encoding="utf-8")
        directory = None
        if edit is not None:
            directory = rewritten(bench, lambda t: t.update({_UP: edit(t[_UP])}))
        named = FingerprintTest(reference=str(path))
        sections = Sections(differential_tests=DifferentialTests(fingerprint=named))
        return bench.model_lab(directory, sections=sections)

    return make


def _with_nan(weight: Any) -> Any:
    weight = weight.clone()
    # The smallest one: the statistics of what is left hardly change.
    place = int(weight.abs().argmin())
    weight.view(-1)[place] = float("nan")
    return weight


_HEALTHY = shared("embedded model and fingerprint", _saved(None))

PROOFS = (
    Proof(
        "F-ROSETTA-FP-001",
        "a NaN in an up projection",
        _saved(_with_nan),
        _HEALTHY,
        also=("F-ROSETTA-FP-002", "F-ROSETTA-FP-003"),
    ),
    Proof(
        "F-ROSETTA-FP-002",
        "an up projection with its rows reversed",
        _saved(lambda w: w.flip(0)),
        _HEALTHY,
    ),
    Proof(
        "F-ROSETTA-FP-003",
        "an up projection scaled by 1.02",
        _saved(lambda w: w * 1.02),
        _HEALTHY,
        also=("F-ROSETTA-FP-002",),
    ),
)
