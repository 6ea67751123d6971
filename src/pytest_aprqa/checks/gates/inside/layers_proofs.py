"""The layer gates are seen to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered, shared

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_LAYER = "model__layers__1__"
_DOWN = _LAYER + "mlp__down_proj__weight"
_OUT = _LAYER + "self_attn__o_proj__weight"
_INTO_THE_STREAM = tuple(
    f"model__layers__{layer}__{name}__weight"
    for layer in range(3)
    for name in ("mlp__down_proj", "self_attn__o_proj")
)
HEALTHY = shared("target", lambda bench: bench.target_lab())


def edited(bench: ProofBench, **edits: Any) -> Lab:
    """The embedded model with these tensors edited, as a target."""
    return bench.target_lab(model=bench.model_lab(bench.copy(**edits)))


def retold(bench: ProofBench, change: Any) -> Lab:
    """The embedded model, of whose passes something is told otherwise."""
    engine = bench.engine()

    def trace(real: Any, token_ids: Any, level: Any) -> Any:
        return change(real.trace(token_ids, level))

    return bench.target_lab(engine=Tampered(engine, trace=trace))


def _nan_row(weight: Any) -> Any:
    weight[3] = float("nan")
    return weight


def _without_statistics(found: Any) -> Any:
    trace = found.trace
    modules = tuple(replace(m, values=None) if m.role == "layer" else m for m in trace.modules)
    return replace(found, trace=replace(trace, modules=modules))


def _dead_neurons(weight: Any) -> Any:
    weight[: len(weight) // 2] = 0
    return weight


def _dead_head(weight: Any) -> Any:
    weight[:32] = 0
    return weight


def _fewer_layers(bench: ProofBench) -> Lab:
    """The engine has loaded two of the three layers."""
    directory = bench.copy()
    path = directory / "model.safetensors"
    from safetensors.torch import load_file, save_file

    kept = {n: t.clone() for n, t in load_file(path).items() if "layers.2." not in n}
    path.unlink()
    save_file(kept, path, metadata={"format": "pt"})

    def shorten(config: dict[str, Any]) -> None:
        config["num_hidden_layers"] = 2
        config["layer_types"] = config["layer_types"][:2]

    bench.edit_json(directory / "config.json", shorten)
    return bench.target_lab(engine=bench.engine(directory))


PROOFS = (
    Proof(
        "F-TRACE-PAYLOAD-001",
        "a NaN in one projection of layer 1",
        lambda bench: edited(bench, **{_DOWN: _nan_row}),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-PAYLOAD-003",
        "every projection into the stream is a hundred thousand times too large",
        lambda bench: edited(bench, **{name: lambda w: w * 1e5 for name in _INTO_THE_STREAM}),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-002",
        "the trace tells no statistics of the layers",
        lambda bench: retold(bench, _without_statistics),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-006",
        "the down projection of layer 1 is a thousand times too large",
        lambda bench: edited(bench, **{_DOWN: lambda w: w * 1e3}),
        HEALTHY,
    ),
    Proof("F-TRACE-LAYERS-001", "the engine has dropped the last layer", _fewer_layers, HEALTHY),
    Proof(
        "F-TRACE-DEAD-001",
        "both projections into the stream of layer 1 are zero",
        lambda bench: edited(bench, **{_DOWN: lambda w: w * 0, _OUT: lambda w: w * 0}),
        HEALTHY,
        also=("F-TRACE-DEAD-002", "F-TRACE-DEAD-003"),
    ),
    Proof(
        "F-TRACE-DEAD-002",
        "the output projection of layer 1's attention is zero",
        lambda bench: edited(bench, **{_OUT: lambda w: w * 0}),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-DEAD-003",
        "the down projection of layer 1 is zero",
        lambda bench: edited(bench, **{_DOWN: lambda w: w * 0}),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-NEURON-001",
        "half of layer 1's gate projection is zero",
        lambda bench: edited(bench, **{_LAYER + "mlp__gate_proj__weight": _dead_neurons}),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-HEADS-001",
        "the values of layer 1's first key-value head are zero",
        lambda bench: edited(
            bench,
            **{
                _LAYER + "self_attn__v_proj__weight": _dead_head,
                _LAYER + "self_attn__v_proj__bias": _dead_head,
            },
        ),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-RANK-001",
        "every row of the embedding is the same",
        lambda bench: edited(bench, model__embed_tokens__weight=lambda w: w * 0 + w[5]),
        HEALTHY,
    ),
)
