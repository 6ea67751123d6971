"""An engine whose batches are mixed up, and an endpoint that has another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_aprqa.checks.ahead import AheadEngine
from pytest_aprqa.checks.gates.proof import EMBEDDED, PROMPTS, Proof
from pytest_aprqa.checks.gates.served.model_claims import EndpointLab
from pytest_aprqa.domain.model import Format

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import TargetLab
    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import BatchingEngine, Engine

_ASKED = (*PROMPTS, "Once upon a time", "2 + 2 =", "Who are you?")


class _MixedUp(AheadEngine):
    """An engine that gives the answers of a batch to the wrong requests."""

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        """Each request gets the answer to the one before it."""
        answers = cast("BatchingEngine", self.engine).generate_batch(requests)
        return (*answers[1:], answers[0])


def _mixed_up(bench: ProofBench) -> TargetLab:
    return bench.target_lab(engine=_MixedUp(bench.engine()))


def _exact(bench: ProofBench, directory: Path) -> Engine:
    from pytest_aprqa.engines.choice import load_exact

    return bench.owned(load_exact(directory, Format.SAFETENSORS, threads=1))


def _same(bench: ProofBench) -> EndpointLab:
    engine = _exact(bench, EMBEDDED)
    return EndpointLab(engine, engine, _ASKED)


def _other(bench: ProofBench) -> EndpointLab:
    edited = bench.copy(model__layers__1__mlp__down_proj__weight=lambda w: w * 0.5)
    return EndpointLab(_exact(bench, edited), _exact(bench, EMBEDDED), _ASKED)


PROOFS = (
    Proof(
        "F-INV-BATCH-001",
        "the answers of a batch go to the wrong requests",
        _mixed_up,
        lambda bench: bench.target_lab(),
    ),
    Proof(
        "F-ENDPOINT-PARITY-001",
        "the endpoint has half of a layer's MLP",
        _other,
        _same,
    ),
)
