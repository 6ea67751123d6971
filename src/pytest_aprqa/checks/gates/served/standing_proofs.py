"""A defect for each gateway, and the embedded model, which passes all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, Tampered, shared
from pytest_aprqa.checks.gates.served.standing import GatewayLab
from pytest_aprqa.checks.gateways import PLAIN_PROBES, STRESS_PROBES
from pytest_aprqa.engines.engine import EngineCrashed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import Engine

_NOISE = "\u0434\ufffd#%qz9\ufffd\u00ac@@\ufffd|x\u4f60~\ufffd^^&7\ufffd" * 4


def _healthy(bench: ProofBench) -> GatewayLab:
    return GatewayLab(EMBEDDED, bench.engine)


def _pickled(bench: ProofBench) -> GatewayLab:
    directory = bench.copy()
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    return GatewayLab(directory, bench.engine)


def _unloadable(bench: ProofBench) -> GatewayLab:
    directory = bench.copy()
    bench.edit_json(directory / "config.json", lambda c: c.update(model_type="nobody-knows"))
    return GatewayLab(EMBEDDED, lambda: bench.engine(directory))


def _answering(generate: Callable[..., Completion]) -> Callable[[ProofBench], GatewayLab]:
    def make(bench: ProofBench) -> GatewayLab:
        tampered: Any = Tampered(bench.engine(), generate=generate)
        return GatewayLab(EMBEDDED, lambda: tampered)

    return make


def _silent_once(engine: Engine, request: GenerationRequest) -> Completion:
    completion = engine.generate(request)
    return replace(completion, text="") if request.prompt == PLAIN_PROBES[1] else completion


def _crashing(engine: Engine, request: GenerationRequest) -> Completion:
    if request.prompt == STRESS_PROBES[2]:
        raise EngineCrashed("IndexError: index out of range in a layer")
    return engine.generate(request)


def _noisy(engine: Engine, request: GenerationRequest) -> Completion:
    return replace(engine.generate(request), text=_NOISE)


HEALTHY = shared("gateways of the embedded model", _healthy)
PROOFS = (
    Proof("G0-INTEGRITY", "a pickle lies beside the weights", _pickled, HEALTHY),
    Proof("G1-LOAD", "the config names a model type that nobody knows", _unloadable, HEALTHY),
    Proof("G2-INFER", "one probe gets an empty answer", _answering(_silent_once), HEALTHY),
    Proof("G3-STABLE", "64 letters crash the engine", _answering(_crashing), HEALTHY),
    Proof("G4-VALID", "every answer is noise", _answering(_noisy), HEALTHY),
)
