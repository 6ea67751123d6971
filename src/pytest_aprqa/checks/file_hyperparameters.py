"""A model's numbers under one set of names, whatever format's words the file uses for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format

if TYPE_CHECKING:
    from collections.abc import Mapping

# Our name; config.json's words; GGUF's keys after the architecture; APR's key.
_NAMES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "layers",
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        ("block_count",),
        ("num_layers",),
    ),
    ("hidden_size", ("hidden_size", "n_embd", "d_model"), ("embedding_length",), ("hidden_size",)),
    (
        "intermediate_size",
        ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim"),
        ("feed_forward_length",),
        ("intermediate_size",),
    ),
    (
        "attention_heads",
        ("num_attention_heads", "n_head", "n_heads"),
        ("attention.head_count",),
        ("num_heads",),
    ),
    (
        "key_value_heads",
        ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
        ("attention.head_count_kv",),
        ("num_kv_heads",),
    ),
    ("head_size", ("head_dim",), ("attention.key_length",), ("head_dim",)),
    ("vocabulary_size", ("vocab_size",), ("vocab_size",), ("vocab_size",)),
    (
        "context_length",
        ("max_position_embeddings", "n_positions", "n_ctx"),
        ("context_length",),
        ("max_position_embeddings",),
    ),
    ("rope_theta", ("rope_theta",), ("rope.freq_base",), ("rope_theta",)),
    ("rope_scaling", (), ("rope.scaling.type",), ()),
    (
        "norm_epsilon",
        ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
        ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"),
        ("rms_norm_eps",),
    ),
    (
        "experts",
        ("num_local_experts", "num_experts", "n_routed_experts"),
        ("expert_count",),
        ("num_experts",),
    ),
    (
        "experts_per_token",
        ("num_experts_per_tok",),
        ("expert_used_count",),
        ("num_experts_per_tok",),
    ),
    ("tied_embeddings", ("tie_word_embeddings",), (), ("tied_embeddings",)),
)
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")


def architecture_of(kind: Format, metadata: Mapping[str, Any]) -> str | None:
    """The family by the format's own word: `model_type`, `general.architecture`, `architecture`."""
    key = {
        Format.SAFETENSORS: "model_type",
        Format.GGUF: "general.architecture",
        Format.APR: "architecture",
    }[kind]
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def hyperparameters(kind: Format, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that the metadata states, under our names; what is not stated is left out.

    `metadata` is config.json for safetensors, the key-value pairs of a GGUF or APR file.
    """
    if kind is Format.SAFETENSORS:
        section = next((key for key in _TEXT_SECTIONS if isinstance(metadata.get(key), dict)), "")
        source = metadata[section] if section else metadata
        found = {ours: _first(source, words) for ours, words, _, _ in _NAMES}
        return _stated(found | _rope(source))
    if kind is Format.GGUF:
        prefix = architecture_of(kind, metadata)
        found = {
            ours: _first(metadata, tuple(f"{prefix}.{key}" for key in keys))
            for ours, _, keys, _ in _NAMES
        }
        return _stated(found)
    return _stated({ours: _first(metadata, keys) for ours, _, _, keys in _NAMES})


def _first(source: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((source[key] for key in keys if source.get(key) is not None), None)


def _rope(source: Mapping[str, Any]) -> dict[str, Any]:
    """Theta and scaling, which transformers 5 keeps in `rope_parameters`."""
    found: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        section = source.get(key)
        if not isinstance(section, dict):
            continue
        if isinstance(section.get("rope_theta"), int | float):
            found["rope_theta"] = section["rope_theta"]
        kind = section.get("rope_type", section.get("type"))
        if isinstance(kind, str) and kind != "default":
            found["rope_scaling"] = kind
    return found


def _stated(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there; a list with one value for each layer as that value, if equal."""
    return {name: _single(value) for name, value in found.items() if value is not None}


def _single(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(item == value[0] for item in value):
        return value[0]
    return list(value) if isinstance(value, tuple) else value
