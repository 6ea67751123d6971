"""Defects in single tensors that the gates over values catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Edit, Proof, ProofBench, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pytest_aprqa.checks.gates.lab import Lab

UP = "model__layers__1__mlp__up_proj__weight"
EMBEDDING = "model__embed_tokens__weight"
_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())


def _with(**edits: Edit) -> Callable[[ProofBench], Lab]:
    return lambda bench: bench.model_lab(bench.copy(**edits))


def _set(where: Any, value: float) -> Edit:
    def edit(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values[where] = value
        return values

    return edit


def _scattered(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Zeros in three of four places, and in no whole row or column."""
    flat = values.reshape(-1)
    for offset in (0, 1, 2):
        flat[offset::4] = 0
    rows, columns = values.shape
    for place in range(max(rows, columns)):  # a value left in every row and column
        values[place % rows, place % columns] = 0.01
    return values


def _duplicated(bench: ProofBench) -> Lab:
    from safetensors.torch import load_file, save_file

    directory = bench.copy()
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.{}.self_attn.q_proj.weight"
    tensors[name.format(2)] = tensors[name.format(1)].clone()
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
    return bench.model_lab(directory)


def _without_values(bench: ProofBench) -> Lab:
    return bench.model_lab(bench.copy(**{UP: lambda values: values[:0]}))


PROOFS = (
    Proof("F-INT-003", "a NaN in an up projection", _with(**{UP: _set((3, 5), float("nan"))}),
          _HEALTHY),
    Proof("F-DENSITY-INF-001", "an infinity in an up projection",
          _with(**{UP: _set((3, 5), float("inf"))}), _HEALTHY),
    Proof("F-DENSITY-ZERO-001", "a norm of zeros",
          _with(model__layers__1__input_layernorm__weight=lambda w: w * 0), _HEALTHY),
    Proof("F-DENSITY-CONST-001", "an up projection of one value",
          _with(**{UP: lambda w: w * 0 + 0.5}), _HEALTHY),
    Proof("F-DENSITY-DUP-001", "the query projection of layer 1 in the place of layer 2's",
          _duplicated, _HEALTHY),
    Proof("F-DENSITY-EMBED-001", "zeros in three quarters of the embedding's rows",
          _with(**{EMBEDDING: _set(slice(256, None), 0.0)}), _HEALTHY),
    Proof("F-DENSITY-ROW-001", "zeros in a quarter of an up projection's rows",
          _with(**{UP: _set(slice(0, 128), 0.0)}), _HEALTHY),
    Proof("F-DENSITY-COLUMN-001", "zeros in a quarter of an up projection's columns",
          _with(**{UP: _set((slice(None), slice(0, 64)), 0.0)}), _HEALTHY),
    Proof("F-DENSITY-SPARSE-001", "zeros scattered over three quarters of an up projection",
          _with(**{UP: _scattered}), _HEALTHY),
    Proof("F-VALID-POST-001", "an up projection scaled up and moved by a thousand",
          _with(**{UP: lambda w: w * 1e4 + 1000}), _HEALTHY),
    Proof("F-DENSITY-EMPTY-001", "an up projection without rows", _without_values, _HEALTHY),
)  # fmt: skip
