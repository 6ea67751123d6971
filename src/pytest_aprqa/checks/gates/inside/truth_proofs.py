"""The gates against the ground truth's inside are seen to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.layers_proofs import HEALTHY
from pytest_aprqa.checks.gates.proof import Proof, ProofBench

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_HEAD = 32
_LAST = "model__layers__2__self_attn__"


def _against_the_original(bench: ProofBench, **edits: Any) -> Lab:
    """An engine over an edited copy; the ground truth is the embedded model."""
    return bench.target_lab(engine=bench.engine(bench.copy(**edits)))


def _halved(weight: Any) -> Any:
    weight[::2] = 0
    return weight


def _heads_swapped(axis: int) -> Any:
    """The first two heads, which share their keys and values, in the other order."""

    def swap(weight: Any) -> Any:
        import numpy as np

        order = np.arange(weight.shape[axis])
        order[: 2 * _HEAD] = np.roll(order[: 2 * _HEAD], _HEAD)
        return weight.take(order, axis=axis)

    return swap


def _larger_stream(bench: ProofBench) -> Lab:
    """All that enters the stream is a quarter larger: the norms hide it from the logits."""
    names = ["model__embed_tokens__weight"]
    for layer in range(3):
        names.append(f"model__layers__{layer}__self_attn__o_proj__weight")
        names.append(f"model__layers__{layer}__mlp__down_proj__weight")
    return _against_the_original(bench, **{name: lambda w: w * 1.25 for name in names})


PROOFS = (
    Proof(
        "F-TRACE-DIFF-001",
        "half of the rows of layer 2's down projection are zero, its output as long as before",
        lambda bench: _against_the_original(
            bench, model__layers__2__mlp__down_proj__weight=lambda w: _halved(w) * 2**0.5
        ),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-DIFF-002",
        "everything that enters the stream is a quarter larger",
        _larger_stream,
        HEALTHY,
    ),
    Proof(
        "F-TRACE-DIFF-003",
        "two heads of layer 2 in the other order, with their rows and columns",
        lambda bench: _against_the_original(
            bench,
            **{
                _LAST + "q_proj__weight": _heads_swapped(0),
                _LAST + "q_proj__bias": _heads_swapped(0),
                _LAST + "o_proj__weight": _heads_swapped(1),
            },
        ),
        HEALTHY,
    ),
)
