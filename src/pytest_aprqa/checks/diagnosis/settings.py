"""Diagnose what a derived model says of itself: its config and the files beside the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_aprqa.conversion.portable import PortableModel

GROUPS: Mapping[str, tuple[str, ...]] = {
    "architecture": ("model_type", "architectures"),
    "vocabulary": ("vocab_size",),
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "feed-forward": ("intermediate_size", "n_inner"),
    "heads": ("num_attention_heads", "num_key_value_heads", "head_dim", "n_head"),
    "rope": ("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"),
    "eps": ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "activation": ("hidden_act", "hidden_activation", "activation_function"),
    "context": ("max_position_embeddings", "n_positions"),
    "window": ("sliding_window", "use_sliding_window", "layer_types", "max_window_layers"),
    "tie": ("tie_word_embeddings",),
    "ids": ("bos_token_id", "eos_token_id", "pad_token_id"),
    "scaling": ("embedding_multiplier", "logits_scaling", "residual_multiplier",
                "attention_multiplier", "final_logit_softcapping", "attn_logit_softcapping",
                "query_pre_attn_scalar"),
}  # fmt: skip
"""Keys of config.json by what they mean to the model."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key whose value changed."""

    key: str
    original: Any
    derived: Any

    def __str__(self) -> str:
        return f"{self.key} is {self.derived!r:.60}; the original has {self.original!r:.60}"


def changed_settings(
    original: PortableModel, derived: PortableModel, group: str
) -> tuple[Setting, ...]:
    """The keys of a group whose values differ."""
    return tuple(
        Setting(key, original.config.get(key), derived.config.get(key))
        for key in GROUPS[group]
        if original.config.get(key) != derived.config.get(key)
    )


def said(original: PortableModel, group: str) -> int:
    """How many keys of a group the original has."""
    return sum(original.config.get(key) is not None for key in GROUPS[group])
