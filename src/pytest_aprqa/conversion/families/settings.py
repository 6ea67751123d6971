"""Reading config.json strictly: every key is used, known to be inert, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.family_table import REQUIRED, Settings
from pytest_aprqa.conversion.families.rope import read_rope
from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from pytest_aprqa.conversion.families.family_table import Family, Option

INERT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "who it is, and which library wrote it": (
            *("model_type", "architectures", "transformers_version", "_name_or_path", "name"),
            *("auto_map", "_commit_hash", "license", "is_llama_config", "transformers.js_config"),
            *("unsloth_version", "unsloth_fixed", "tokenizer_class"),
        ),
        "the tokenizer's and the generation's, which travel in their own files": (
            *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id"),
            *("decoder_start_token_id", "suppress_tokens", "max_length", "min_length"),
            *("do_sample", "temperature", "top_k", "top_p", "task_specific_params"),
            *("forced_eos_token_id", "begin_suppress_tokens", "repetition_penalty"),
        ),
        "how weights are stored: the tensors say it themselves": ("dtype", "torch_dtype"),
        "only training uses them": (
            *("initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop"),
            *("embd_pdrop", "attn_pdrop", "residual_dropout", "embedding_dropout", "dropout"),
            *("router_aux_loss_coef", "aux_loss_alpha", "seq_aux", "gradient_checkpointing"),
            *("classifier_dropout", "initializer_factor"),
        ),
        "how it is computed, not what": (
            *("use_cache", "pretraining_tp", "output_attentions", "output_hidden_states"),
            *(
                "return_dict",
                "output_router_logits",
                "_attn_implementation",
                "cache_implementation",
            ),
            *("_attn_implementation_autoset", "attn_implementation", "torchscript"),
            *("ep_size", "chunk_size_feed_forward", "use_return_dict"),
            *("experts_implementation", "_experts_implementation"),
        ),
        "heads of other tasks": (
            *("id2label", "label2id", "num_labels", "problem_type", "summary_type"),
            *("summary_use_proj", "summary_activation"),
            *("summary_first_dropout", "summary_proj_to_labels"),
        ),
    }
)
"""Keys that change no logit, by the reason why not."""
_INERT = frozenset(key for keys in INERT.values() for key in keys)
_KINDS = MappingProxyType(
    {"count": "a whole number above 0", "whole": "a whole number", "number": "a number"}
    | {"flag": "true or false", "text": "a text"}
)


class Reader:
    """A config whose keys are ticked off as they are read."""

    def __init__(self, config: Mapping[str, Any], family: str) -> None:
        self._config = config
        self._read: set[str] = set()
        self.family = family

    def get(self, key: str) -> Any:
        """The value, None when absent."""
        self._read.add(key)
        return self._config.get(key)

    def fail(self, key: str, expected: str) -> ConversionError:
        """An error about a key's value."""
        return ConversionError(
            f"config.json: {key} is {self._config.get(key)!r:.200}; "
            f"expected {expected} for the family {self.family}"
        )

    def left(self, inert: tuple[str, ...]) -> list[str]:
        """Keys that were not read, are not inert, and say something."""
        return [
            key
            for key, value in self._config.items()
            if key not in self._read and key not in _INERT and key not in inert and _says(value)
        ]


def _says(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def settings_of(family: Family, config: Mapping[str, Any]) -> Settings:
    """What the config says of the model, by the tables' names, defaults filled in.

    Raises:
        ConversionError: at a key that is missing, of a wrong kind, or not understood.
    """
    reader = Reader(config, family.name)
    if _says(reader.get("quantization_config")):
        raise ConversionError(
            "config.json: quantization_config is set: the weights are packed for a library; "
            "save the model unquantized (dequantize, then save_pretrained) and convert that"
        )
    settings: dict[str, Any] = {}
    for option in family.options:
        settings[option.name] = _value(reader, option, settings)
    family.early(settings)
    _derive(settings)
    if family.rope is not None:
        read_rope(family.rope, reader, settings)
    family.extra(reader, settings)
    for key, value in family.neutral.items():
        if reader.get(key) not in (None, value):
            raise reader.fail(key, f"{value!r}, or nothing,")
    if left := reader.left(family.inert):
        told = ", ".join(f"{key} = {config[key]!r:.80}" for key in left)
        raise ConversionError(
            f"config.json: the family {family.name} has no use for {told}; expected only keys that "
            f"it knows: if they change the model it cannot be converted, if not remove them"
        )
    return MappingProxyType(settings)


def _value(reader: Reader, option: Option, settings: dict[str, Any]) -> Any:
    value = reader.get(option.key)
    for key in option.also:
        other = reader.get(key)
        if value is not None and other not in (None, value):
            raise reader.fail(key, f"{value!r}, as {option.key} says")
        value = other if value is None else value
    if value is None:
        value = option.default(settings) if callable(option.default) else option.default
        if value is REQUIRED:
            raise ConversionError(
                f"config.json: {option.key} is missing; the family {reader.family} needs it"
            )
        return value
    if not _is_kind(option.kind, value):
        raise reader.fail(option.key, _KINDS[option.kind])
    if option.allowed and value not in option.allowed:
        raise reader.fail(option.key, " or ".join(repr(each) for each in option.allowed))
    return value


def _is_kind(kind: str, value: Any) -> bool:
    if kind in ("count", "whole"):
        least = 1 if kind == "count" else 0
        return isinstance(value, int) and not isinstance(value, bool) and value >= least
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "flag" else str)


def _derive(settings: dict[str, Any]) -> None:
    """Sizes that follow from others: rows of the query and key projections."""
    heads, kv_heads = settings["heads"], settings.setdefault("kv_heads", settings["heads"])
    if settings.get("head_dim") is None:
        if settings["hidden"] % heads:
            raise ConversionError(
                f"config.json: the hidden size {settings['hidden']} is no multiple of the "
                f"{heads} attention heads; expected that, or a head_dim"
            )
        settings["head_dim"] = settings["hidden"] // heads
    if heads % kv_heads:
        raise ConversionError(
            f"config.json: {heads} attention heads are no multiple of {kv_heads} key-value heads"
        )
    settings["q"] = heads * settings["head_dim"]
    settings["kv"] = kv_heads * settings["head_dim"]
    settings["qkv"] = settings["q"] + 2 * settings["kv"]
    if settings.get("inter") is not None:
        settings["inter2"] = 2 * settings["inter"]
    settings["yes"] = True
