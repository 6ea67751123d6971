"""Where there is nothing to judge, nothing holds: no answers, no tensors, no engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import ProofBench, Tampered
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.checks.gates.served.scripted import ScriptedModel
from pytest_aprqa.checks.gates.served.server_labs import server_lab
from pytest_aprqa.domain.gate import Cost, Place
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineClosed

NOT_ABOUT_ANSWERS = {
    "F-ERR-UNWRAP-001",
    "F-GPU-001",
    "F-PATH-ALT-001",
    "F-SEC-INJECT-001",
    "F-TEMPLATE-ENGINE-001",
    "F-TEMPLATE-IDS-001",
}
"""Gates among those that ask the engine which look at its refusals, device, template, rendering."""


def _held(findings: dict[str, Finding]) -> set[str]:
    return {gate for gate, found in findings.items() if found.ruling is Ruling.CORROBORATED}


def _found(lab: Lab, place: Place, format_: Format, *costs: Cost) -> dict[str, Finding]:
    return {
        check.gate.id: examine(check, lab)
        for check in checks().values()
        if check.gate.place is place and check.gate.cost in costs and format_ in check.gate.formats
    }


def _mute(engine: Any, request: Any) -> Any:
    return replace(engine.generate(request), text="", token_ids=(), logprobs=())


@pytest.mark.parametrize("format_", [Format.SAFETENSORS, Format.GGUF])
def test_an_engine_that_says_nothing_earns_no_pass(bench: ProofBench, format_: Format) -> None:
    quantization = None if format_ is Format.SAFETENSORS else Quantization.Q8_0
    engine = bench.target_lab(format_, quantization).engine
    lab = bench.target_lab(format_, quantization, engine=Tampered(engine, generate=_mute))

    found = _found(lab, Place.TARGET, format_, Cost.ANSWERS)

    assert _held(found) <= NOT_ABOUT_ANSWERS
    assert found["F-RUN-001"].ruling is Ruling.FALSIFIED
    assert found["F-RUN-005"].ruling is Ruling.INCONCLUSIVE
    assert found["F-STATE-CORRUPT-001"].reason == "all 4 greedy answers are blank"


class Mute(ScriptedModel):
    """A model without a word."""

    def generate(self, request: Any) -> Any:
        return replace(super().generate(request), text="", token_ids=(), logprobs=())

    def stream(self, request: Any, tell: Any) -> Any:
        found = super().stream(request, lambda _piece: True)
        return replace(found, text="", token_ids=(), logprobs=())


def test_a_server_that_says_nothing_earns_no_pass(bench: ProofBench) -> None:
    lab = server_lab(bench, engine=Mute())
    about_text = ("F-HTTP-006", "F-HTTP-008", "F-HTTP-009", "F-HTTP-016", "F-HTTP-019")

    found = {gate: examine(checks()[gate], lab) for gate in about_text}

    assert _held(found) == set()
    assert found["F-HTTP-008"].ruling is Ruling.FALSIFIED


def test_weights_without_tensors_earn_no_pass(bench: ProofBench) -> None:
    from safetensors.numpy import save_file

    directory = bench.copy()
    (directory / "model.safetensors").unlink()
    save_file({}, directory / "model.safetensors")
    lab = bench.model_lab(directory)
    about_tensors = (
        *("G0-VALIDATE-001", "G0-LAYOUT-001", "F-INDEX-STALE-001", "F-LAYOUT-SIBLINGS-001"),
        *("F-TENSOR-SURPLUS-001", "F-TENSOR-TIE-001"),
    )

    found = _found(lab, Place.MODEL, Format.SAFETENSORS, Cost.WEIGHTS)
    found |= {gate: examine(checks()[gate], lab) for gate in about_tensors}

    assert _held(found) == set()
    assert found["G0-VALIDATE-001"].reason == "the shards hold no tensor"


def test_an_engine_that_was_closed_is_no_excuse(bench: ProofBench) -> None:
    def closed(engine: Any, token_ids: Any) -> Any:
        raise EngineClosed

    lab = bench.target_lab(engine=Tampered(bench.engine(), logits=closed))

    with pytest.raises(EngineClosed, match="the engine is closed; load the model again"):
        examine(checks()["F-INV-ARGMAX-001"], lab)
