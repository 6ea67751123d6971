"""Rules on the names and types of an APR file's metadata fields.

aprender's reader knows typed fields by one spelling (struct AprV2Metadata), realizar's accepts
others for the same (AprMetadata) and silently drops all metadata when one field comes twice or has
another type. Hence one spelling, and the type that both expect.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEXTS = (
    *("model_type", "name", "description", "author", "license", "data_source", "data_license"),
    *("version", "source", "original_format", "created_at", "chat_template", "chat_format"),
    *("architecture", "hf_architecture", "hf_model_type"),
)
COUNTS = (
    *("total_size", "param_count", "hidden_size", "num_layers", "num_heads", "num_kv_heads"),
    *("vocab_size", "intermediate_size", "max_position_embeddings", "rope_type", "head_dim"),
    *("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
)
NUMBERS = ("rope_theta", "rms_norm_eps")
NOT_NULL = ("model_type", "total_size", "param_count")
"""Fields that must not be null where they are written."""
CHAT_FORMATS = ("chatml", "llama2", "mistral", "phi", "alpaca", "custom", "raw")
SPECIAL_TOKENS = (
    *("bos_token", "eos_token", "unk_token", "pad_token", "im_start_token", "im_end_token"),
)
ALIASES = MappingProxyType(
    {
        alias: field
        for field, aliases in {
            "hidden_size": ("hidden_dim", "d_model", "n_embd"),
            "num_layers": ("n_layers", "num_hidden_layers", "n_layer"),
            "num_heads": ("n_heads", "num_attention_heads", "n_head"),
            "num_kv_heads": ("n_kv_heads", "num_key_value_heads"),
            "vocab_size": ("n_vocab",),
            "intermediate_size": ("ffn_dim", "intermediate_dim", "n_inner"),
            "max_position_embeddings": ("max_seq_len", "context_length", "n_ctx"),
            "rms_norm_eps": ("layer_norm_eps", "norm_eps"),
        }.items()
        for alias in aliases
    }
)
"""Other spellings that realizar takes for a field, by that spelling."""
_UNSIGNED_MAX = 2**64 - 1


def is_count(value: Any) -> bool:
    """Whether a value is a JSON integer that fits 64 bits unsigned (true is none)."""
    return type(value) is int and 0 <= value <= _UNSIGNED_MAX


def is_number(value: Any) -> bool:
    """Whether a value is a finite JSON number."""
    return type(value) in (int, float) and math.isfinite(value)


def field_problems(metadata: Mapping[Any, Any]) -> list[str]:
    """One line for each field that a reader would misread or refuse."""
    problems = [f"key {key!r:.40} is no text" for key in metadata if not isinstance(key, str)]
    problems += (
        f"{alias} is another spelling of {field}; write {field} only"
        for alias, field in ALIASES.items()
        if alias in metadata
    )
    if metadata.get("model_type") is None:
        problems.append("model_type is missing; expected a text such as 'Llama'")
    tests: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
        (TEXTS, lambda value: isinstance(value, str), "a text"),
        (COUNTS, is_count, "an integer of at least 0"),
        (NUMBERS, is_number, "a finite number"),
    )
    for fields, test, expected in tests:
        for field in fields:
            value = metadata.get(field)
            absent = value is None and not (field in metadata and field in NOT_NULL)
            if not absent and not test(value):
                problems.append(f"{field} is {value!r:.40}; expected {expected}")
    return problems + _objects(metadata)


def _objects(metadata: Mapping[Any, Any]) -> list[str]:
    """Fields that hold objects or one of a few names."""
    problems = []
    chat = metadata.get("chat_format")
    if isinstance(chat, str) and chat not in CHAT_FORMATS:
        problems.append(f"chat_format is {chat!r:.40}; expected one of {', '.join(CHAT_FORMATS)}")
    if metadata.get("quantization") is not None:
        problems.append(
            "quantization is set; readers differ in what it must hold, and each tensor's "
            "dtype says it; leave it out"
        )
    special = metadata.get("special_tokens")
    if special is not None and not (
        isinstance(special, dict)
        and all(
            key in SPECIAL_TOKENS and (value is None or isinstance(value, str))
            for key, value in special.items()
        )
    ):
        problems.append(
            f"special_tokens is {special!r:.80}; expected texts under {', '.join(SPECIAL_TOKENS)}"
        )
    shards = metadata.get("sharding")
    if shards is not None and not (
        isinstance(shards, dict)
        and all(is_count(shards.get(key)) for key in ("shard_count", "shard_index", "total_size"))
    ):
        problems.append(
            f"sharding is {shards!r:.80}; expected shard_count, shard_index and total_size"
        )
    return problems
