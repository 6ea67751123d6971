"""config.json from a GGUF file's own keys and shapes, and where the two contradict."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.family_table import REQUIRED
from pytest_aprqa.conversion.families.gguf_keys import fields_of
from pytest_aprqa.conversion.families.links import gguf_links
from pytest_aprqa.conversion.families.registry import family_of_config, family_of_gguf
from pytest_aprqa.conversion.families.rope import Values, rope_tensors
from pytest_aprqa.conversion.families.rope_from_gguf import rope_config, tidy
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from pytest_aprqa.conversion.families.family_table import Family, Option, Settings
    from pytest_aprqa.formats.checkpoint import TensorInfo
    from pytest_aprqa.formats.gguf_field import GgufField

_TOKENS = MappingProxyType(
    {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
)


def config_from_gguf(
    fields: Mapping[str, GgufField],
    tensors: Mapping[str, TensorInfo],
    values: Values | None = None,
) -> dict[str, Any]:
    """The config.json with which transformers builds the model that the file describes.

    Args:
        fields: the file's metadata.
        tensors: its tensors' shapes.
        values: reads a tensor's float32 values; asked only for rope factors.

    Raises:
        ConversionError: at a missing key, or one that the family's table does not account for.
    """
    family = family_of_gguf(fields)
    config: dict[str, Any] = {
        "architectures": list(family.architectures[:1]),
        "model_type": family.model_types[0],
    }
    for key, name in _TOKENS.items():  # null, not the class's default, where the file has none
        field = fields.get(f"tokenizer.ggml.{name}_token_id")
        config[key] = None if field is None else field.value
    settings: dict[str, Any] = {}
    for option in family.options:
        value = _found(family, option, settings, fields, tensors)
        settings[option.name] = value
        config[option.key] = value
    keys = {key.removeprefix(f"{family.arch}."): field.value for key, field in fields.items()}
    family.restore(config, settings, keys, tensors)
    if family.rope is not None:
        config.update(rope_config(family, settings, fields, tensors, values))
    if problems := config_disagreements(config, fields, tensors):
        raise ConversionError(
            "no config.json gives what the GGUF file's keys say:\n" + "\n".join(problems)
        )
    return config


def _found(
    family: Family,
    option: Option,
    settings: Settings,
    fields: Mapping[str, GgufField],
    tensors: Mapping[str, TensorInfo],
) -> Any:
    """An option's value: from its key, a tensor's presence or shape, or the only one there is."""
    key = f"{family.arch}.{option.gguf}"
    if option.gguf and key in fields:
        value = fields[key].value
        return tidy(value) if option.kind == "number" else value
    if option.tensor:
        there = option.tensor.lstrip("!") in tensors
        return there != option.tensor.startswith("!")
    if option.shape is not None:
        name, dimension = option.shape
        if name not in tensors or len(tensors[name].shape) <= dimension:
            raise ConversionError(f"the GGUF file lacks the tensor {name}, or its dimensions")
        return tensors[name].shape[dimension]
    if option.gguf and not option.optional:
        raise ConversionError(
            f"the GGUF file lacks the key {key}, which the family {family.name} needs"
        )
    if option.optional and (assumed := _assumed_sizes(settings).get(option.gguf)) is not None:
        return assumed  # what llama.cpp takes, whatever transformers' default is
    default = option.default(settings) if callable(option.default) else option.default
    if default is REQUIRED:
        raise ConversionError(f"the GGUF file does not say {option.key}")
    return default


def config_disagreements(
    config: Mapping[str, Any],
    fields: Mapping[str, GgufField],
    tensors: Mapping[str, TensorInfo],
) -> list[str]:
    """One line for each key or tensor of a GGUF file that contradicts the config.

    Raises:
        ConversionError: when the config itself is not understood.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    wanted = fields_of(family, settings, implied=False)
    known = fields_of(family, settings, implied=True)
    problems = []
    for key, field in fields.items():
        if key in known:
            if not same_value(field, known[key]):
                told, here = known[key].value, field.value
                problems.append(f"{key} is {here!r:.80}; config.json makes it {told!r:.80}")
        elif key.startswith(f"{family.arch}."):
            problems.append(
                f"{key} is {field.value!r:.80}; config.json says nothing of it, nor does the "
                f"table of the family {family.name}"
            )
    for key, field in wanted.items():
        name = key.removeprefix(f"{family.arch}.")
        if key not in fields and not _may_lack(name, field.value, settings):
            problems.append(f"{key} is missing; config.json makes it {field.value!r:.80}")
    return problems + _tensor_disagreements(family, settings, tensors)


def _may_lack(name: str, value: Any, settings: Settings) -> bool:
    """Whether llama.cpp does the same without the key: its loader's defaults, or no use at all."""
    import numpy as np

    if name in ("tensor_data_layout", "use_parallel_residual", "vocab_size"):
        return True
    defaults = {
        **_assumed_sizes(settings),
        "attention.sliding_window": 0,
        "rope.dimension_count": settings["head_dim"],
        "rope.freq_base": 10_000.0,
        "rope.freq_base_swa": 10_000.0,
        "rope.scaling.attn_factor": 1.0,
        "rope.scaling.original_context_length": settings["positions"],
        "expert_weights_scale": 1.0,
    }
    return name in defaults and bool(np.float32(defaults[name]) == np.float32(value))


def _assumed_sizes(settings: Settings) -> dict[str, int]:
    """Sizes that llama.cpp takes where their keys are missing (llama-model.cpp, load_hparams)."""
    if settings.get("heads") is None or settings.get("hidden") is None:
        return {}
    size = settings["hidden"] // settings["heads"]
    return {
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.head_count_kv": settings["heads"],
    }


def same_value(one: GgufField, other: GgufField) -> bool:
    """Equal values; floats as float32, whole numbers of whatever width."""
    import numpy as np

    if isinstance(one.value, float) or isinstance(other.value, float):
        if not all(isinstance(each.value, float | int) for each in (one, other)):
            return False
        return bool(np.float32(one.value) == np.float32(other.value))
    return bool(one.value == other.value)


def _tensor_disagreements(
    family: Family, settings: Settings, tensors: Mapping[str, TensorInfo]
) -> list[str]:
    shapes = {
        part.name: part.shape for link in gguf_links(family, settings) for part in link.targets
    }
    for name, factors in rope_tensors(settings).items():
        shapes[name] = factors.shape
    if settings["tied"] and "output.weight" in tensors:
        shapes["output.weight"] = tensors["output.weight"].shape
    problems = [
        f"tensor {name} has the shape {list(tensors[name].shape)}; "
        f"config.json makes it {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    problems += [
        f"tensor {name} is missing; config.json calls for it"
        for name in shapes
        if name not in tensors
    ]
    return problems + [
        f"tensor {name} is there; config.json does not call for it"
        for name in tensors
        if name not in shapes
    ]
