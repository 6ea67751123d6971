"""All family tables, found by config.json's model_type or GGUF's general.architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.tables import FAMILIES
from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from pytest_aprqa.conversion.families.family_table import Family
    from pytest_aprqa.formats.gguf_field import GgufField


def family_of_config(config: Mapping[str, Any]) -> Family:
    """The family by model_type; `architectures`, if given, must agree.

    Raises:
        ConversionError: when there is none, listing those there are.
    """
    kind = config.get("model_type")
    for family in FAMILIES:
        if kind in family.model_types:
            break
    else:
        raise ConversionError(
            f"config.json: model_type is {kind!r}; expected one of "
            f"{', '.join(name for family in FAMILIES for name in family.model_types)}"
        )
    named = config.get("architectures")
    if named and not set(named) <= set(family.architectures):
        raise ConversionError(
            f"config.json: architectures is {named!r}; for model_type {kind} expected "
            f"{' or '.join(family.architectures)}: other heads than language models' have no "
            f"conversion"
        )
    return family


def family_of_gguf(fields: Mapping[str, GgufField]) -> Family:
    """The family by general.architecture.

    Llama and Mistral share "llama", and compute the same but for Mistral's sliding window, which
    llama.cpp ignores: with `llama.attention.sliding_window` it is Mistral, else Llama.

    Raises:
        ConversionError: when there is none, listing those there are.
    """
    field = fields.get("general.architecture")
    arch = field.value if field is not None else None
    found = [family for family in FAMILIES if family.arch == arch]
    if not found:
        known = ", ".join(sorted({family.arch for family in FAMILIES}))
        raise ConversionError(
            f"the GGUF file's general.architecture is {arch!r}; expected one of {known}"
        )
    if len(found) > 1:
        sliding = f"{arch}.attention.sliding_window" in fields
        found.sort(key=lambda family: any(o.name == "window" for o in family.options) != sliding)
    return found[0]


def offsets_norms(config: Mapping[str, Any]) -> bool:
    """Whether GGUF keeps some of the family's norms as 1 + weight."""
    return any(rule.plus_one for rule in family_of_config(config).tensors)
