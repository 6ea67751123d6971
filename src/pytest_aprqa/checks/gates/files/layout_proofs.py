"""Misshapen tensors that the layout gates catch, each in its role."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.files.planting import (
    Tensors,
    fused,
    rewritten,
    untied,
    with_tensors,
)
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())
_FUSED = shared("fused model", lambda bench: bench.model_lab(fused(bench)))
_ATTENTION, _MLP = "model.layers.1.self_attn.", "model.layers.1.mlp."


def _shorter(name: str, *, columns: bool = False) -> Callable[[ProofBench], Lab]:
    """The tensor without its last four rows, or columns."""

    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name][:, :-4] if columns else tensors[name][:-4]

    return with_tensors(change)


def _headed(bench: ProofBench, change: Callable[[Tensors], object]) -> Lab:
    """A model with a head of its own, edited."""

    def both(tensors: Tensors) -> None:
        untied(tensors)
        change(tensors)

    directory = rewritten(bench, both)
    bench.edit_json(
        directory / "config.json", lambda config: config.update(tie_word_embeddings=False)
    )
    return bench.model_lab(directory)


def _shorter_head(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-4]


def _fused_wrongly(bench: ProofBench) -> Lab:
    from safetensors.torch import load_file, save_file

    path = fused(bench) / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.self_attn.qkv_proj.weight"
    tensors[name] = tensors[name][:-4].contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    return bench.model_lab(path.parent)


def _transposed(tensors: Tensors) -> None:
    name = f"{_ATTENTION}k_proj.weight"
    tensors[name] = tensors[name].T


PROOFS = (
    Proof("F-LAYOUT-EMBED-001", "an embedding without its last four rows",
          _shorter("model.embed_tokens.weight"), _HEALTHY),
    Proof("F-LAYOUT-CONTRACT-002", "a head without its last four rows",
          lambda bench: _headed(bench, _shorter_head),
          lambda bench: _headed(bench, lambda tensors: None)),
    Proof("F-LAYOUT-Q-001", "a query projection without its last four rows",
          _shorter(f"{_ATTENTION}q_proj.weight"), _HEALTHY),
    Proof("F-LAYOUT-K-001", "a key projection without its last four rows",
          _shorter(f"{_ATTENTION}k_proj.weight"), _HEALTHY),
    Proof("F-LAYOUT-V-001", "a value projection without its last four rows",
          _shorter(f"{_ATTENTION}v_proj.weight"), _HEALTHY),
    Proof("F-LAYOUT-O-001", "an output projection without its last four columns",
          _shorter(f"{_ATTENTION}o_proj.weight", columns=True), _HEALTHY),
    Proof("F-LAYOUT-GATE-001", "a gate projection without its last four rows",
          _shorter(f"{_MLP}gate_proj.weight"), _HEALTHY),
    Proof("F-LAYOUT-UP-001", "an up projection without its last four rows",
          _shorter(f"{_MLP}up_proj.weight"), _HEALTHY),
    Proof("F-LAYOUT-DOWN-001", "a down projection without its last four columns",
          _shorter(f"{_MLP}down_proj.weight", columns=True), _HEALTHY),
    Proof("F-LAYOUT-CONTRACT-003", "a norm without its last four values",
          _shorter("model.layers.1.input_layernorm.weight"), _HEALTHY),
    Proof("F-LAYOUT-BIAS-001", "a bias without its last four values",
          _shorter(f"{_ATTENTION}q_proj.bias"), _HEALTHY),
    Proof("F-LAYOUT-CONTRACT-001", "a fused projection without its last four rows",
          _fused_wrongly, _FUSED),
    Proof("G0-LAYOUT-001", "a key projection stored transposed", with_tensors(_transposed),
          _HEALTHY, also=("F-LAYOUT-SIBLINGS-001",)),
    Proof("F-LAYOUT-SIBLINGS-001", "an up projection of one layer with fewer rows than the others",
          _shorter(f"{_MLP}up_proj.weight"), _HEALTHY),
)  # fmt: skip
