"""The five gateways as gates of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gateways import (
    ProbeAnswer,
    check_answers,
    check_integrity,
    check_load,
    check_no_crash,
    check_not_garbage,
)
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Format, Quantization, Severity
from pytest_aprqa.domain.playbook import Category

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.integrity_finding import Expectations
    from pytest_aprqa.engines.engine import Engine


class GatewayLab(Lab):
    """A target before anything is known of it: a directory, and a way to load it."""

    def __init__(
        self,
        directory: Path,
        load: Callable[[], Engine],
        *,
        name: str = "safetensors-cpu",
        format_: Format = Format.SAFETENSORS,
        quantization: Quantization | None = None,
        expectations: Expectations | None = None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.load = load
        self.name = name
        self.format = format_
        self.quantization = quantization
        self.expectations = expectations


STANDING: Family[GatewayLab] = Family(
    "gateway", Place.GATEWAY, Cost.ANSWERS, Rung.TEXT, category=Category.STAB
)
FAMILIES = (STANDING,)
ALIASES = {
    "G1-MODEL-LOADS": "G1-LOAD",
    "G2-BASIC": "G2-INFER",
    "G2-BASIC-INFERENCE": "G2-INFER",
    "G3-NO-CRASHES": "G3-STABLE",
    "G4-OUTPUT-QUALITY": "G4-VALID",
    "F-INT-001": "G3-STABLE",
    "F-LOAD-001": "G1-LOAD",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What G1 found, and the engine where there is one."""

    result: GatewayResult
    engine: Engine | None


@dataclass(frozen=True, slots=True)
class Probed:
    """What G2 found, and the answers."""

    result: GatewayResult
    answers: tuple[ProbeAnswer, ...]


def loaded(lab: GatewayLab) -> Loaded:
    """Load the target."""
    return Loaded(*check_load(lab.name, lab.load))


def probed(lab: GatewayLab) -> Probed:
    """Ask the loaded target G2's probes; none where it does not load."""
    engine = lab.once(loaded).engine
    assert engine is not None
    return Probed(*check_answers(lab.name, engine))


def _gate(
    gateway: Gateway, rung: Rung, cost: Cost
) -> Callable[[Callable[[GatewayLab], Finding]], Callable[[GatewayLab], Finding]]:
    return STANDING.gate(
        gateway.gate_id, gateway.assertion, severity=Severity.P0, rung=rung, cost=cost
    )


@_gate(Gateway.G0, Rung.FILE, Cost.WEIGHTS)
def integrity(lab: GatewayLab) -> Finding:
    """Config, tokenizer and tensors agree, in the converted file too."""
    result, _file = check_integrity(
        lab.name,
        lab.directory,
        lab.expectations,
        format_=lab.format,
        quantization=lab.quantization,
    )
    return _finding(result)


@_gate(Gateway.G1, Rung.FILE, Cost.WEIGHTS)
def loads(lab: GatewayLab) -> Finding:
    """The engine loads the model."""
    return _finding(lab.once(loaded).result)


@_gate(Gateway.G2, Rung.TEXT, Cost.ANSWERS)
def answers(lab: GatewayLab) -> Finding:
    """Every probe gets an answer."""
    if lab.once(loaded).engine is None:
        return _blocked()
    return _finding(lab.once(probed).result)


@_gate(Gateway.G3, Rung.TEXT, Cost.ANSWERS)
def stable(lab: GatewayLab) -> Finding:
    """Unusual prompts crash nothing."""
    engine = lab.once(loaded).engine
    if engine is None:
        return _blocked()
    return _finding(check_no_crash(lab.name, engine))


@_gate(Gateway.G4, Rung.TEXT, Cost.ANSWERS)
def not_garbage(lab: GatewayLab) -> Finding:
    """Fewer than half of the probes' answers are garbage."""
    engine = lab.once(loaded).engine
    if engine is None:
        return _blocked()
    return _finding(check_not_garbage(lab.name, engine, lab.once(probed).answers))


def _blocked() -> Finding:
    return undecided("the model does not load: there is nothing to ask")


def _finding(result: GatewayResult) -> Finding:
    if result.passed:
        return held(result.reason, details=result.details)
    return refuted(result.reason, details=result.details)
