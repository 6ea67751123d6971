"""Tensors scaled, shifted, turned over and struck, which the gates over their spread catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting import Tensors, untied, with_tensors
from pytest_aprqa.checks.gates.proof import Edit, Proof, ProofBench, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())
_LAYER = "model__layers__1__"


def _with(name: str, edit: Edit) -> Callable[[ProofBench], Lab]:
    return lambda bench: bench.model_lab(bench.copy(**{name: edit}))


def _struck(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One value far beyond the rest, too few to change the spread of all."""
    values[3, 5] = 1200 * float((values**2).mean()) ** 0.5
    return values


def _huge_head(tensors: Tensors) -> None:
    untied(tensors)
    tensors["lm_head.weight"] *= 1e4


PROOFS = (
    Proof("F-DIST-ATTENTION-001", "a value projection of layer 1 ten times too large",
          _with(f"{_LAYER}self_attn__v_proj__weight", lambda w: w * 10), _HEALTHY),
    Proof("F-DIST-MLP-001", "a down projection of layer 1 ten times too small",
          _with(f"{_LAYER}mlp__down_proj__weight", lambda w: w / 10), _HEALTHY),
    Proof("F-DIST-NORM-001", "a norm of layer 1 a thousand times too large",
          _with(f"{_LAYER}input_layernorm__weight", lambda w: w * 1000), _HEALTHY),
    Proof("F-DIST-NORM-002", "the last norm with its sign turned",
          _with("model__norm__weight", lambda w: -w), _HEALTHY),
    Proof("F-DIST-CENTER-001", "an up projection shifted by its own spread",
          _with(f"{_LAYER}mlp__up_proj__weight", lambda w: w + w.std()), _HEALTHY),
    Proof("F-DIST-SPIKE-001", "one weight of an up projection 1200 times its spread",
          _with(f"{_LAYER}mlp__up_proj__weight", _struck), _HEALTHY),
    Proof("F-DIST-EMBED-001", "an embedding ten thousand times too small",
          _with("model__embed_tokens__weight", lambda w: w / 1e4), _HEALTHY),
    Proof("F-DIST-HEAD-001", "a head ten thousand times too large", with_tensors(_huge_head),
          shared("untied model", with_tensors(untied))),
)  # fmt: skip
