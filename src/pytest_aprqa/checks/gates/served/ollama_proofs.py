"""Ollama servers that have another model, or outrun ours, or are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Proof, Tampered, shared
from pytest_aprqa.checks.gates.served.scripted_ollama import OllamaScript, OllamaServer
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.sections import OllamaParity, Sections

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import TargetLab
    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import Engine

_DETAILS = {"family": "qwen2", "parameter_size": "1.9M", "quantization_level": "Q4_K_M"}
_TAG = "aprqa-tiny:latest"


def _lab(
    bench: ProofBench, *, generate: Callable[..., Any] | None = None, **script: Any
) -> TargetLab:
    file = bench.converted(Format.GGUF, Quantization.Q4_K_M)
    engine: Any = bench.engine(file, Format.GGUF)
    known = {"details": _DETAILS, "tag": _TAG} | script
    server = bench.owned(OllamaServer(OllamaScript(engine, **known)))
    parity = OllamaParity(
        enabled=True,
        url=server.url,
        model_tag="aprqa-tiny",
        prompts=("What is 2 + 2?", "The capital of France is"),
    )
    if generate is not None:
        engine = Tampered(engine, generate=generate)
    return bench.target_lab(
        Format.GGUF,
        Quantization.Q4_K_M,
        file=file,
        engine=engine,
        sections=Sections(ollama_parity=parity),
    )


def _with(**script: Any) -> Callable[[ProofBench], TargetLab]:
    return lambda bench: _lab(bench, **script)


def _late(engine: Engine, request: GenerationRequest) -> Completion:
    completion = engine.generate(request)
    return replace(completion, ttft_s=10.0, total_s=10.0 + completion.total_s)


HEALTHY = shared("the embedded model in Ollama", _lab)
PROOFS = (
    Proof("F-OLLAMA-004", "the server answers every path with 500", _with(broken=True), HEALTHY),
    Proof("F-OLLAMA-PULL-001", "Ollama has another model alone", _with(tag="other:1b"), HEALTHY),
    Proof(
        "F-OLLAMA-005",
        "Ollama's model is of another quantization",
        _with(details=_DETAILS | {"quantization_level": "Q8_0"}),
        HEALTHY,
    ),
    Proof(
        "F-OLLAMA-001",
        "Ollama says something else",
        _with(change=lambda text: f" No.{text}"),
        HEALTHY,
    ),
    Proof("F-OLLAMA-002", "Ollama makes a billion tokens a second", _with(token_ns=1), HEALTHY),
    Proof("F-OLLAMA-003", "our first token takes ten seconds", _with(generate=_late), HEALTHY),
)
