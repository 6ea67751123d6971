"""The gates about module times are seen to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.layers_proofs import retold
from pytest_aprqa.checks.gates.inside.modules import drawn
from pytest_aprqa.checks.gates.inside.speed import profiled
from pytest_aprqa.checks.gates.inside.speed_proofs import STEADY, timed_lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.domain.trace import Role

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def _twice_as_long(found: Any) -> Any:
    modules = tuple(
        replace(m, seconds=found.trace.seconds * 0.9) if m.role is Role.LAYER else m
        for m in found.trace.modules
    )
    return replace(found, trace=replace(found.trace, modules=modules))


def _long_layers(bench: ProofBench) -> Lab:
    lab = retold(bench, _twice_as_long)
    lab.plant(profiled, STEADY(bench).once(profiled))
    lab.plant(drawn, STEADY(bench).once(drawn))
    return lab


def _cut_graph(bench: ProofBench) -> Lab:
    lab = timed_lab(bench)
    whole = lab.once(drawn)
    lab.plant(drawn, whole[: len(whole) // 2])
    return lab


def _not_a_number(bench: ProofBench) -> Lab:
    lab = timed_lab(bench)
    lab.plant(profiled, replace(lab.once(profiled), prefill_s=(float("nan"),)))
    return lab


PROOFS = (
    Proof(
        "F-PROFILE-001",
        "layers that take longer than the pass that they are in",
        _long_layers,
        STEADY,
    ),
    Proof("F-PROFILE-002", "a flame graph that is cut in the middle", _cut_graph, STEADY),
    Proof("F-PROFILE-005", "a time that is not a number", _not_a_number, STEADY),
)
