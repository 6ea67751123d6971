"""A config's hyper-parameters as GGUF keys, of the types that llama.cpp's loader asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.registry import family_of_config
from pytest_aprqa.conversion.families.rope import check_rope_limits, rope_fields
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.gguf_field import GgufField, boolean, float32, string, uint32

if TYPE_CHECKING:
    from pytest_aprqa.conversion.families.family_table import Family, Option, Settings

KIND_TYPES = MappingProxyType(
    {"count": "uint32", "whole": "uint32", "number": "float32", "flag": "bool", "text": "string"}
)
_MAKERS: Mapping[str, Callable[[Any], GgufField]] = MappingProxyType(
    {"uint32": uint32, "float32": float32, "bool": boolean, "string": string}
)


def gguf_fields(config: Mapping[str, Any]) -> dict[str, GgufField]:
    """Every hyper-parameter key as llama.cpp's converter writes it; not the tokenizer's.

    Raises:
        ConversionError: at a config that is not understood, or that llama.cpp cannot compute.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    check_limits(family, settings)
    return dict(fields_of(family, settings, implied=False))


def gguf_caveats(config: Mapping[str, Any]) -> list[str]:
    """One line for each thing that llama.cpp computes otherwise only in some prompts."""
    family = family_of_config(config)
    settings = settings_of(family, config)
    window = settings.get("window")
    if not family.window_ignored or not window or window >= settings["positions"]:
        return []
    return [
        f"llama.cpp ignores the sliding window of the family {family.name}: in prompts of more "
        f"than {window} tokens it attends to all of them, transformers to the last {window}"
    ]


def fields_of(family: Family, settings: Settings, *, implied: bool) -> dict[str, GgufField]:
    """The keys; with `implied` also those that only other converters write."""
    fields = {"general.architecture": string(family.arch)}
    for option in family.options:
        if option.gguf and settings[option.name] is not None:
            fields[f"{family.arch}.{option.gguf}"] = field_of(option, settings[option.name])
    for key in family.keys:
        value = settings.get(key.setting)
        if value is not None and (implied or not key.implied):
            fields[f"{family.arch}.{key.name}"] = _MAKERS[key.type](value)
    if family.rope is not None:
        for name, field in rope_fields(family.rope, settings).items():
            fields[f"{family.arch}.{name}"] = field
    return fields


def field_of(option: Option, value: Any) -> GgufField:
    """An option's value with its GGUF type."""
    return _MAKERS[KIND_TYPES[option.kind]](value)


def check_limits(family: Family, settings: Settings) -> None:
    """Refuse what llama.cpp would compute otherwise than transformers.

    Raises:
        ConversionError: with llama.cpp's reason.
    """
    if family.rope is not None:
        check_rope_limits(family.rope, settings)
    keys = {option.name: option.key for option in family.options}
    for limit in family.limits:
        value = settings[limit.setting]
        values = limit.values
        values = (settings[values],) if isinstance(values, str) else values
        if value not in values:
            expected = " or ".join(repr(each) for each in values)
            raise ConversionError(
                f"config.json: {keys.get(limit.setting, limit.setting)} is {value!r}; a GGUF file "
                f"of the family {family.name} needs {expected}: {limit.reason}"
            )
