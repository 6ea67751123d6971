"""Tensors of a model between Hugging Face's layout and APR's: split, norms in F32, a real head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_aprqa.conversion.families.gguf_layout import (
    HEAD,
    by_name,
    check_tensors,
    drop_copy,
    weights_of,
)
from pytest_aprqa.conversion.families.links import apr_links
from pytest_aprqa.conversion.families.moving import forward, returned
from pytest_aprqa.conversion.families.registry import family_of_config
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.formats.tensor import Tensor


def apr_tensors(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Hugging Face's tensors under APR's canonical names.

    Fused query, key and value matrices and fused gate and up matrices are split, norms and
    biases become F32, and lm_head is a copy of the embedding where the config ties them.

    Raises:
        ConversionError: at a missing, unexpected or misshapen tensor.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    links = list(apr_links(family, settings))
    found = weights_of(family, tensors)
    if settings["tied"]:
        drop_copy(found, HEAD, links[0].sources[0].name)
    check_tensors(found, [part for link in links for part in link.sources], "the checkpoint")
    made = []
    for link in links:
        made += forward(link, [found[part.name] for part in link.sources])
    if settings["tied"]:
        made.append(made[0].named(HEAD))
    return made


def tensors_from_apr(
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
    source_dtypes: Mapping[str, str],
    *,
    decode_to: str | None = None,
) -> list[Tensor]:
    """An APR file's tensors under Hugging Face's names: fused again, without the copied head.

    Float tensors named in `source_dtypes` return to that encoding, which fails when read if it
    cannot hold a value. Quantized tensors stay as they are, or are decoded to `decode_to`.

    Raises:
        ConversionError: at a missing, unexpected or misshapen tensor.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    links = list(apr_links(family, settings))
    found = by_name(tensors)
    if settings["tied"]:
        drop_copy(found, HEAD, links[0].targets[0].name)
    check_tensors(found, [part for link in links for part in link.targets], "the APR file")
    made = []
    for link in links:
        there = [found[part.name] for part in link.targets]
        made += returned(link, there, source_dtypes, decode_to)
    return made
