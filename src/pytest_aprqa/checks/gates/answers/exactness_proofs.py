"""Engines that go on too long, and that draw from something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_aprqa.checks.gates.answers.sampling_proofs import HEALTHY, Generate, broken
from pytest_aprqa.checks.gates.proof import Proof


def _seeded(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, temperature=1.5) if request.seed else request)


def _first_named(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, stop=request.stop[:1]))


def _endless(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, ignore_eos=True))


def _patient(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, timeout_s=60.0))


def _belled(engine: Any, request: Any) -> Any:
    found = engine.generate(request)
    return replace(found, text=found.text + "\x07") if request.messages else found


def _cold(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, temperature=request.temperature * 0.2))


def _lowered(engine: Any, request: Any) -> Any:
    """What is told of the chosen token is one less than its log probability."""
    found = engine.generate(request)
    told = [(one, replace(one.chosen, logprob=one.chosen.logprob - 1)) for one in found.logprobs]
    return replace(found, logprobs=tuple(replace(one, chosen=less) for one, less in told))


def _proof(gate: str, defect: str, generate: Generate) -> Proof:
    return Proof(gate=gate, defect=defect, planted=broken(generate), healthy=HEALTHY)


PROOFS = (
    _proof("F-INV-GREEDY-001", "a seed makes a greedy answer a sampled one", _seeded),
    _proof("F-INV-STOP-003", "only the first of several stop strings acts", _first_named),
    _proof("F-INV-EOS-001", "end tokens do not end an answer", _endless),
    _proof("F-INV-TIMEOUT-001", "the time limit is not looked at", _patient),
    _proof("F-RUN-002", "a chat's answer ends with a control character", _belled),
    _proof("F-INV-DRAW-001", "tokens are drawn at a fifth of the temperature", _cold),
    _proof("F-INV-LOGPROBS-002", "the chosen tokens' log probabilities are one too low", _lowered),
)
