"""The claims about a target's answers that are items of their own, as gates of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import Lab, TargetLab
from pytest_aprqa.checks.gates.served.questions import finding_of
from pytest_aprqa.domain.case import Case, Judging, Target
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Modality, Quantization, Severity
from pytest_aprqa.domain.model_gates import GateCase, ModelGate
from pytest_aprqa.domain.oracle_spec import GarbageSpec
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.verdict import Ruling

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine

BATCHES: Family[TargetLab] = Family("inference/batches", Place.TARGET, Cost.ANSWERS, Rung.TEXT)
ENDPOINTS: Family[Lab] = Family("endpoint", Place.TARGET, Cost.LOGITS, Rung.LOGITS)
FAMILIES = (BATCHES, ENDPOINTS)

FEWEST = 2
"""Prompts of which a batch can be made."""
MAX_TOKENS = 24
TIMEOUT_MS = 60_000


class EndpointLab(Lab):
    """A server that is not ours, and the model that it should have, loaded here in float32."""

    def __init__(
        self,
        endpoint: Engine,
        reference: Engine,
        prompts: tuple[str, ...],
        *,
        quantization: Quantization | None = None,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.reference = reference
        self.prompts = prompts
        self.quantization = quantization


@BATCHES.gate(
    ModelGate.BATCHED.gate_id,
    ModelGate.BATCHED.assertion,
    severity=ModelGate.BATCHED.severity,
    applies="engines that answer several requests together",
)
def batched(lab: TargetLab) -> Finding:
    """The lab's prompts, asked in one batch and alone, get the same tokens but for near ties."""
    from pytest_aprqa.checks.ahead import AheadEngine
    from pytest_aprqa.checks.batching import try_batching

    if len(lab.prompts) < FEWEST:
        return without_meaning(f"{len(lab.prompts)} prompts; expected at least {FEWEST}")
    cases = [_case(lab.target, number, prompt) for number, prompt in enumerate(lab.prompts)]
    gate = GateCase(ModelGate.BATCHED, lab.target)
    return finding_of(try_batching(gate, AheadEngine(lab.engine), cases, gate.item_name))


@ENDPOINTS.gate(
    ModelGate.PARITY.gate_id,
    ModelGate.PARITY.assertion,
    severity=Severity.P0,
    applies="servers that are not ours",
)
def parity(lab: Lab) -> Finding:
    """A lower bound of the divergence from the endpoint's told probabilities is within limits."""
    from pytest_aprqa.checks.endpoint_parity import compare_endpoint, parity_limit

    if not isinstance(lab, EndpointLab):
        return without_meaning("the target is no endpoint")
    found = compare_endpoint(
        lab.endpoint, lab.reference, lab.prompts, limit=parity_limit(lab.quantization)
    )
    verdict = found.verdict
    if verdict.ruling is Ruling.INAPPLICABLE:
        return without_meaning(verdict.reason)
    say = held if verdict.ruling is Ruling.CORROBORATED else refuted
    return say(verdict.reason, measured=found.measurements)


def _case(target: Target, number: int, prompt: str) -> Case:
    return Case(
        target=target,
        modality=Modality.RUN,
        scenario=f"batch_{number}",
        index=number,
        turns=(prompt,),
        system=None,
        judging=Judging(offered=(GarbageSpec(),)),
        max_tokens=MAX_TOKENS,
        temperature=0.0,
        seed=0,
        timeout_ms=TIMEOUT_MS,
        stop=(),
        severity=Severity.P1,
        category=Category.COMP,
    )
