"""A config as APR's typed metadata, each fact under its one canonical name, and back.

Names and types: the transformer block of aprender's v2 metadata. A second spelling of a fact makes
realizar take the whole metadata for empty, so none is ever written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.registry import family_of_config
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.conversion.families.tables import FAMILIES
from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from pytest_aprqa.formats.checkpoint import TensorInfo

HALVES, ADJACENT = 2, 0
"""rope_type: rows rotate with those half a head away (Hugging Face's order), or pairwise."""
_NAMES = (
    ("hidden_size", "hidden"),
    ("num_layers", "layers"),
    ("num_heads", "heads"),
    ("num_kv_heads", "kv_heads"),
    ("vocab_size", "vocab"),
    ("intermediate_size", "inter"),
    ("max_position_embeddings", "positions"),
)
_MORE = (
    ("head_dim", "head_dim"),
    ("num_experts", "experts"),
    ("num_experts_per_tok", "experts_used"),
    ("moe_intermediate_size", "expert_inter"),
)


def apr_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The typed metadata of an APR file, in aprender's order; what is not there is left out.

    Raises:
        ConversionError: at a config that is not understood.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    fields: dict[str, Any] = {"architecture": family.name}
    fields["hf_architecture"] = family.architectures[0]
    fields["hf_model_type"] = config["model_type"]
    fields |= {name: settings[key] for name, key in _NAMES}
    if family.rope is not None:
        fields["rope_theta"] = float(settings["theta"])
        fields["rope_type"] = ADJACENT if family.rope.adjacent else HALVES
    fields["rms_norm_eps"] = float(settings["eps"])
    fields |= {name: settings[key] for name, key in _MORE if settings.get(key) is not None}
    if settings["tied"]:
        fields["tied_embeddings"] = True
    return fields


def config_from_apr(
    metadata: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> dict[str, Any]:
    """config.json from typed metadata alone, for the families that it describes in full.

    Raises:
        ConversionError: for other families, a fact that is missing, or rows in pairwise order.
    """
    name = metadata.get("architecture")
    known = {family.name: family for family in FAMILIES if family.apr_config}
    if name not in known:
        raise ConversionError(
            f"the APR file's architecture is {name!r}; without a config.json in it (hf_config) "
            f"only {', '.join(known)} can be told from its metadata"
        )
    family = known[name]
    config: dict[str, Any] = {
        "architectures": list(family.architectures),
        "model_type": family.model_types[0],
        "rope_parameters": {"rope_type": "default", "rope_theta": metadata.get("rope_theta")},
    }
    keys = {option.name: option for option in family.options}
    needed = [(aprs, keys[own].key) for aprs, own in (*_NAMES, ("rms_norm_eps", "eps"))]
    for here, key in [*needed, ("rope_theta", "rope_theta")]:
        if metadata.get(here) is None:
            raise ConversionError(
                f"the APR file's metadata lacks {here}; expected it, for no default is right "
                f"for every model"
            )
        if key != "rope_theta":
            config[key] = metadata[here]
    if metadata.get("rope_type") != HALVES:
        raise ConversionError(
            f"the APR file's rope_type is {metadata.get('rope_type')!r}; expected {HALVES}: "
            f"only then are the rows known to lie in Hugging Face's order"
        )
    if "head_dim" in keys and metadata.get("head_dim") is not None:
        config["head_dim"] = metadata["head_dim"]
    biases = {"attention_bias": "self_attn.q_proj.bias", "mlp_bias": "mlp.gate_proj.bias"}
    for option, tensor in biases.items():
        if option in keys:
            config[option] = f"model.layers.0.{tensor}" in tensors
    config["tie_word_embeddings"] = metadata.get("tied_embeddings") is True
    settings_of(family, config)
    return config
