"""Tensors of a model between Hugging Face's names and layout and llama.cpp's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.gguf_keys import check_limits
from pytest_aprqa.conversion.families.links import Part, gguf_links
from pytest_aprqa.conversion.families.moving import forward, returned
from pytest_aprqa.conversion.families.registry import family_of_config
from pytest_aprqa.conversion.families.rope import ROPE_TENSORS, rope_tensors
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS
from pytest_aprqa.formats.encodings import FLOATS, SAFETENSORS_ONLY, encoding_of
from pytest_aprqa.formats.tensor import Tensor

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.families.family_table import Family

HEAD, EMBEDDING = "lm_head.weight", "token_embd.weight"
_SHOWN = 4


def gguf_tensors(config: Mapping[str, Any], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Hugging Face's tensors as a GGUF file has them: rope factors, embedding, layers, head.

    One-dimensional tensors, norms, routers and learned positions become F32; all others keep
    their encoding, quantized ones too: rows are moved, not their values.

    Raises:
        ConversionError: at a missing, unexpected or misshapen tensor, at what llama.cpp cannot
            compute, and where a quantized tensor's values would have to change.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    check_limits(family, settings)
    links = list(gguf_links(family, settings))
    found = weights_of(family, tensors)
    embedding = links[0].sources[0].name
    if settings["tied"]:
        drop_copy(found, HEAD, embedding)
    check_tensors(found, [part for link in links for part in link.sources], "the checkpoint")
    made = [made_tensor(name, values) for name, values in rope_tensors(settings).items()]
    for link in links:
        made += forward(link, [found[part.name] for part in link.sources])
    if settings["tied"] and family.head_needed:
        made.append(found[embedding].named("output.weight"))
    return made


def huggingface_tensors(
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
    source_dtypes: Mapping[str, str],
    *,
    decode_to: str | None = None,
) -> list[Tensor]:
    """A GGUF file's tensors under Hugging Face's names and in its layout.

    Float tensors named in `source_dtypes` (by Hugging Face's names) return to that encoding,
    which fails when read if it cannot hold a value. Quantized tensors stay as they are, or are
    decoded to the float encoding `decode_to`.

    Raises:
        ConversionError: at a missing, unexpected or misshapen tensor, or rope factors that are
            not the config's.
    """
    family = family_of_config(config)
    settings = settings_of(family, config)
    links = list(gguf_links(family, settings))
    found = by_name(tensors)
    _check_rope({name: found.pop(name) for name in ROPE_TENSORS if name in found}, settings)
    if settings["tied"]:
        drop_copy(found, "output.weight", EMBEDDING)
    check_tensors(found, [part for link in links for part in link.targets], "the GGUF file")
    made = []
    for link in links:
        there = [found[part.name] for part in link.targets]
        made += returned(link, there, source_dtypes, decode_to)
    return made


def made_tensor(name: str, values: np.ndarray[Any, Any]) -> Tensor:
    """A small F32 tensor that is in no file."""
    import numpy as np

    return Tensor(name, "F32", values.shape, lambda: values.reshape(-1).view(np.uint8))


def by_name(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """The tensors by name; a name that occurs twice is an error."""
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in found:
            raise ConversionError(f"tensor {tensor.name} occurs twice; expected it once")
        found[tensor.name] = tensor
    return found


def weights_of(family: Family, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Hugging Face's tensors by full name, without buffers that are no weights."""
    found = by_name(tensors)
    if family.prefix and not any(name.startswith(family.prefix) for name in found):
        found = {
            name if name == HEAD else family.prefix + name: tensor.named(family.prefix + name)
            for name, tensor in found.items()
        }
    buffers = family.buffers or r".*\.rotary_emb\.inv_freq"
    return {name: tensor for name, tensor in found.items() if not re.fullmatch(buffers, name)}


def drop_copy(found: dict[str, Tensor], copy: str, original: str) -> None:
    """Leave out a head that is the embedding again; one that differs is an error."""
    head, embedding = found.pop(copy, None), found.get(original)
    if head is None or embedding is None:
        return
    same = head.encoding == embedding.encoding and head.shape == embedding.shape
    same = same and _same_bytes(head.read(), embedding.read())
    head.done()
    embedding.done()
    if not same:
        raise ConversionError(
            f"tensor {copy} differs from {original}, but config.json ties them "
            f"(tie_word_embeddings); expected a copy, or the config to say false"
        )


def _same_bytes(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Compared piece by piece: the comparison itself takes no memory to speak of."""
    import numpy as np

    return all(
        np.array_equal(one[start : start + CHUNK_ELEMENTS], other[start : start + CHUNK_ELEMENTS])
        for start in range(0, one.size, CHUNK_ELEMENTS)
    )


def check_tensors(found: Mapping[str, Tensor], parts: Sequence[Part], where: str) -> None:
    """Exactly these tensors, in these shapes.

    Raises:
        ConversionError: naming what is missing, not expected, or of another shape.
    """
    wanted = {part.name: part.shape for part in parts}
    problems = []
    for what, names in (
        ("lacks", [name for name in wanted if name not in found]),
        ("has tensors that its config does not call for:", [n for n in found if n not in wanted]),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            problems.append(f"{where} {what} {', '.join(names[:_SHOWN])}{more}")
    problems += [
        f"{where} has {name} as {tensor.encoding}; expected {', '.join(FLOATS)} or quantized blocks"
        for name, tensor in found.items()
        if tensor.encoding in SAFETENSORS_ONLY
        or (encoding_of(tensor.encoding).plain and tensor.encoding not in FLOATS)
    ]
    problems += [
        f"{where} has {name} in the shape {list(found[name].shape)}; config.json makes it "
        f"{list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    if problems:
        raise ConversionError("\n".join(problems))


def _check_rope(found: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    import numpy as np

    wanted = rope_tensors(settings)
    for name in {*found, *wanted}:
        if name not in found or name not in wanted:
            has, says = ("lacks", "calls for") if name in wanted else ("has", "does not call for")
            raise ConversionError(f"the GGUF file {has} {name}, which config.json {says}")
        values = found[name].values()
        if values.shape != wanted[name].shape or not np.allclose(values, wanted[name], rtol=1e-5):
            raise ConversionError(
                f"the GGUF file's {name} is not what the rope parameters of config.json make it"
            )
