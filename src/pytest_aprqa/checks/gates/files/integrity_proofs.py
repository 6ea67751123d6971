"""Defects in config.json, index and names that the integrity gates catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting import (
    Tensors,
    sharded,
    untied,
    with_config,
    with_tensors,
)
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.checks.integrity_finding import Expectations

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())
_SHARDED = shared("sharded model", lambda b: b.model_lab(sharded(b, lambda index: None)))


def _indexed(change: Callable[[dict[str, Any]], object]) -> Callable[[ProofBench], Lab]:
    return lambda bench: bench.model_lab(sharded(bench, change))


def _cut(bench: ProofBench) -> Lab:
    directory = bench.copy()
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return bench.model_lab(directory)


def _expecting(**sizes: int) -> Callable[[ProofBench], Lab]:
    return lambda bench: bench.model_lab(expectations=Expectations(**sizes))


def _broken_generation_config(bench: ProofBench) -> Lab:
    directory = bench.copy()
    (directory / "generation_config.json").write_text("[1, 2]", encoding="utf-8")
    return bench.model_lab(directory)


def _without_layer(tensors: Tensors) -> None:
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]


def _other_head(tensors: Tensors) -> None:
    untied(tensors)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * -1


def _lost(index: dict[str, Any]) -> None:
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = "model-00001-of-00002.safetensors"


def _said_more(index: dict[str, Any]) -> None:
    index["metadata"]["total_size"] += 1


PROOFS = (
    Proof("G0-INTEGRITY-CONFIG", "a model_type that nobody knows",
          with_config(model_type="qwen9"), _HEALTHY),
    Proof("G0-VALIDATE-001", "weights that end a thousand bytes early", _cut, _HEALTHY),
    Proof("F-INDEX-STALE-001", "an index that names a tensor of no shard", _indexed(_lost),
          _SHARDED),
    Proof("F-INDEX-SIZE-001", "an index whose total_size is one more", _indexed(_said_more),
          _SHARDED),
    Proof("G0-INTEGRITY-LAYERS", "a config.json that says four layers",
          with_config(num_hidden_layers=4, layer_types=["full_attention"] * 4), _HEALTHY),
    Proof("F-LAYERS-GAP-001", "weights without layer 1", with_tensors(_without_layer), _HEALTHY),
    Proof("G0-INTEGRITY-HIDDEN", "a config.json that says half the hidden size",
          with_config(hidden_size=128, head_dim=32), _HEALTHY),
    Proof("G0-INTEGRITY-VOCAB", "a config.json that says one token less",
          with_config(vocab_size=1023), _HEALTHY),
    Proof("F-CONFIG-FFN-001", "a config.json that says twice the feed-forward size",
          with_config(intermediate_size=1024), _HEALTHY),
    Proof("F-CONFIG-HEADS-001", "a config.json that says four heads of 32",
          with_config(num_attention_heads=4, head_dim=32), _HEALTHY),
    Proof("F-CONFIG-KVHEADS-001", "a config.json that says four key heads",
          with_config(num_key_value_heads=4), _HEALTHY),
    Proof("F-CONFIG-LAYERTYPES-001", "a config.json with two layer types for three layers",
          with_config(layer_types=["full_attention"] * 2), _HEALTHY),
    Proof("F-CONFIG-DTYPE-001", "a config.json that says float32 of bfloat16 weights",
          with_config(dtype="float32"), _HEALTHY),
    Proof("F-CONFIG-EXPECT-001", "a playbook that expects half the hidden size",
          _expecting(hidden_dim=128), _expecting(hidden_dim=256, num_layers=3)),
    Proof("F-CONFIG-GENERATION-001", "a generation_config.json that holds a list",
          _broken_generation_config, _HEALTHY),
    Proof("F-CONFIG-IDS-001", "an end token beyond the vocabulary",
          with_config(eos_token_id=5000), _HEALTHY),
    Proof("F-CONFIG-VALID-001", "a config.json whose layer types are of no known kind",
          with_config(layer_types=["none_such"] * 3), _HEALTHY),
    Proof("G0-TENSOR-001", "weights without the last norm",
          with_tensors(lambda t: t.pop("model.norm.weight")), _HEALTHY),
    Proof("F-TENSOR-SURPLUS-001", "a tensor that no layer has",
          with_tensors(lambda t: t.update({"model.extra.weight": t["model.norm.weight"].clone()})),
          _HEALTHY),
    Proof("F-TENSOR-LOADABLE-001", "a config.json with an activation that nobody knows",
          with_config(hidden_act="none_such"), _HEALTHY),
    Proof("F-TENSOR-TIE-001", "a stored head that differs from the embedding it is tied to",
          with_tensors(_other_head), with_tensors(untied)),
)  # fmt: skip
