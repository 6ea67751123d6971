"""The gates about attention and norms are seen to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.layers_proofs import HEALTHY, edited, retold
from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.domain.model import Format, Quantization

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_ATTENTION = "model__layers__1__self_attn__"


def _attention_told(**changes: float) -> Any:
    """A change of a traced pass: what is told of layer 1's attention is otherwise."""

    def change(found: Any) -> Any:
        layers = tuple(
            replace(layer, **changes) if layer.layer == 1 else layer
            for layer in found.trace.attention
        )
        return replace(found, trace=replace(found.trace, attention=layers))

    return change


def _dead_queries(bench: ProofBench) -> Lab:
    names = ("q_proj__weight", "q_proj__bias")
    return edited(bench, **{_ATTENTION + name: lambda w: w * 0 for name in names})


def _sharp_queries(bench: ProofBench) -> Lab:
    names = [
        f"model__layers__{layer}__self_attn__q_proj__{kind}"
        for layer in range(3)
        for kind in ("weight", "bias")
    ]
    directory = bench.copy(**{name: lambda w: w * 1e4 for name in names})
    model = bench.model_lab(directory)  # in float32, as bfloat16 rounds such scores to ties
    return bench.target_lab(Format.APR, Quantization.F32, model=model)


def _large_epsilon(bench: ProofBench) -> Lab:
    directory = bench.copy()
    bench.edit_json(directory / "config.json", lambda config: config.update(rms_norm_eps=1.0))
    return bench.target_lab(model=bench.model_lab(directory))


PROOFS = (
    Proof("F-NUM-001", "the query projection of layer 1 is zero", _dead_queries, HEALTHY),
    Proof(
        "F-NUM-005",
        "the query projections of all layers are ten thousand times too large",
        _sharp_queries,
        HEALTHY,
    ),
    Proof(
        "F-NUM-003",
        "a softmax of layer 1 whose rows sum to 0.9",
        lambda bench: retold(bench, _attention_told(row_low=0.9)),
        HEALTHY,
    ),
    Proof(
        "F-NUM-004",
        "a negative attention weight in layer 1",
        lambda bench: retold(bench, _attention_told(lowest=-0.01)),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-MASK-001",
        "a weight of a hundredth for a later token in layer 1",
        lambda bench: retold(bench, _attention_told(ahead=0.01)),
        HEALTHY,
    ),
    Proof("F-NUM-002", "rms_norm_eps is 1 in config.json", _large_epsilon, HEALTHY),
)
