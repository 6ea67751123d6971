"""A portable model as a file: a Hugging Face directory, a GGUF file or an APR file."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families import (
    apr_fields,
    apr_tensors,
    family_of_config,
    gguf_fields,
    gguf_keeps_f32,
    gguf_tensors,
)
from pytest_aprqa.conversion.portable import ConversionError, PortableModel
from pytest_aprqa.conversion.reading import DTYPE_NAMES, with_dtype
from pytest_aprqa.conversion.stored_config import (
    APR_CONFIG_KEY,
    GGUF_CONFIG_KEY,
    SOURCE_DTYPES_KEY,
    gguf_json,
    source_dtypes_value,
)
from pytest_aprqa.conversion.tokenizers import (
    apr_tokenizer_fields,
    general_name_part,
    gguf_tokenizer_fields,
)
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.formats.apr_rules import EMBEDDINGS, PORTABLE
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import FLOATS, encoding_of
from pytest_aprqa.formats.gguf_field import string, uint32
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.safetensors_writer import write_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.formats.tensor import Progress, Tensor

PLAIN = MappingProxyType(
    {Quantization.F32: "F32", Quantization.F16: "F16", Quantization.BF16: "BF16"}
)
"""The quantizations that are none: matrices in one float encoding."""
APR_OWN = MappingProxyType({Quantization.Q8_0: "APR_Q8", Quantization.Q4_0: "APR_Q4"})
"""APR's own encodings by the quantization that they stand for: as many bits, other scales."""
APR_BY_QUANTIZER = (Quantization.Q4_K_M, Quantization.Q6_K)
"""What APR keeps in llama.cpp's own blocks."""
APR_SMALLEST = 1024
"""Elements below which aprender's quantizer leaves a tensor alone."""
_FILE_TYPES = MappingProxyType(
    {
        **{"F32": 0, "F16": 1, "BF16": 32, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9},
        **{"Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18},
    }
)
"""`general.file_type` (llama_ftype in llama.cpp's llama.h) by the encoding of most weights."""
_BLOCK_FORMAT_VERSION = 2
"""`general.quantization_version`: GGML_QNT_VERSION in llama.cpp's ggml.h."""


def write_directory(
    model: PortableModel, draft: Path, encoding: str | None, progress: Progress | None
) -> None:
    """Fill an existing directory with config.json, the tokenizer's files and safetensors.

    `encoding` None leaves every tensor as it is; with another, floats become it. config.json names
    the encoding of most matrices: a model that came over a wider file is wider now.
    """
    tensors = [_cast(tensor, encoding) for tensor in model.tensors]
    kind = _most(tensors)
    config = with_dtype(model.config, kind) if kind in DTYPE_NAMES else model.config
    for name, data in model.files.items():
        (draft / name).write_bytes(data)
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (draft / "config.json").write_text(text + "\n", encoding="utf-8")
    write_safetensors(draft, tensors, metadata={"format": "pt"}, progress=progress)


def write_gguf_file(
    model: PortableModel, path: Path, encoding: str | None, progress: Progress | None
) -> None:
    """Write a GGUF file that llama.cpp runs, with what brings the original back inside.

    `encoding` None keeps the matrices' own; APR's own blocks, which GGUF has not, become F32.
    """
    made = [
        _cast(tensor, None if gguf_keeps_f32(tensor.name, tensor.shape) else encoding)
        for tensor in gguf_tensors(model.config, model.tensors)
    ]
    made = [t if encoding_of(t.encoding).by_row else t.as_encoding("F32") for t in made]
    # One encoding for the matrices alone decides how the file is called.
    kind = _most(made)
    fields = gguf_fields(model.config)
    fields |= {
        "general.name": string(_name(model)),
        "general.file_type": uint32(_FILE_TYPES[kind]),
    }
    if not encoding_of(kind).plain:
        fields["general.quantization_version"] = uint32(_BLOCK_FORMAT_VERSION)
    fields |= gguf_tokenizer_fields(model.config, model.files)
    fields[GGUF_CONFIG_KEY] = gguf_json(model.config)
    if dtypes := _narrower(model, cast=encoding is not None):
        fields[SOURCE_DTYPES_KEY] = gguf_json(source_dtypes_value(dtypes))
    write_gguf(path, fields=fields, tensors=made, progress=progress)


def write_apr_file(
    model: PortableModel,
    path: Path,
    quantization: Quantization | None,
    progress: Progress | None,
) -> None:
    """Write an APR file that aprender and realizar load, all of the model inside.

    `quantization` is a plain one or one of APR's own; None keeps what APR can hold of the tensors'
    encodings, and decodes the rest to F32.
    """
    plain = None if quantization is None else PLAIN.get(quantization)
    own = None if quantization is None else APR_OWN.get(quantization)
    if quantization is not None and plain is None and own is None:
        raise ConversionError(f"{quantization}: not an encoding of APR's own")
    made = [_apr_encoded(t, plain, own) for t in apr_tensors(model.config, model.tensors)]
    fields = apr_fields(model.config)
    metadata: dict[str, Any] = {
        "model_type": fields["architecture"],
        **dict.fromkeys(("license", "data_source", "data_license")),
        "total_size": sum(tensor.nbytes for tensor in made),
        "param_count": sum(math.prod(tensor.shape) for tensor in made),
        **fields,
        **apr_tokenizer_fields(model.config, model.files),
        APR_CONFIG_KEY: model.config,
    }
    if dtypes := _narrower(model, cast=quantization is not None):
        metadata[SOURCE_DTYPES_KEY] = source_dtypes_value(dtypes)
    write_apr(path, metadata=metadata, tensors=made, progress=progress)


def _name(model: PortableModel) -> str:
    """`general.name`: "phi-3" in it, or "phi3", is what llama.cpp tokenizes as Phi-3's by.

    Phi-4 is of the family phi3 with another tokenizer; llama.cpp refuses it by that name.
    """
    part = general_name_part(model.config, model.files)
    return part or family_of_config(model.config).name.replace("phi3", "phi")


def mixed_for_apr(original: PortableModel, quantized: PortableModel) -> PortableModel:
    """The original with every tensor in its quantized blocks that APR can hold.

    llama.cpp falls back to blocks of 32 where rows are no multiple of 256; APR has none of those
    that both its readers understand, so such tensors stay as they were, and so do those that lie
    transposed in Hugging Face's layout and APR's (GPT-2's).
    """
    there = {tensor.name: tensor for tensor in quantized.tensors}
    mixed = [
        there[tensor.name] if there[tensor.name].encoding in ("Q4_K", "Q6_K") else tensor
        for tensor in original.tensors
    ]
    if all(
        now is was or _is_looked_up(now) for now, was in zip(mixed, original.tensors, strict=True)
    ):
        raise ConversionError(
            "no tensor has rows of a multiple of 256 values, which APR's Q4_K and Q6_K need; "
            "expected another model, or q8_0 or q4_0"
        )
    return replace(original, tensors=tuple(mixed))


def _apr_encoded(tensor: Tensor, plain: str | None, own: str | None) -> Tensor:
    if tensor.encoding not in PORTABLE:
        tensor = tensor.as_encoding("F32")
    if len(tensor.shape) < 2 or "norm" in tensor.name:
        return tensor
    if own is not None:
        # The fast paths of both readers look rows of the embedding and the head up as floats.
        if _is_looked_up(tensor) or math.prod(tensor.shape) < APR_SMALLEST:
            return tensor
        return _encoded(tensor, own)
    return _cast(tensor, plain)


def _is_looked_up(tensor: Tensor) -> bool:
    """Whether it is the embedding or the head, under APR's names or Hugging Face's."""
    return any(part in tensor.name for part in (*EMBEDDINGS, "lm_head", "wte", "word_embeddings"))


def _cast(tensor: Tensor, encoding: str | None) -> Tensor:
    """The tensor in that float encoding; itself with None, and where it holds no floats."""
    if encoding is None or (tensor.encoding not in FLOATS and encoding_of(tensor.encoding).plain):
        return tensor
    return _encoded(tensor, encoding)


def _encoded(tensor: Tensor, encoding: str) -> Tensor:
    """The tensor in another encoding; which one does not fit in it is told when it is read."""
    if encoding == tensor.encoding:
        return tensor
    other = tensor.as_encoding(encoding)

    def read() -> np.ndarray[Any, Any]:
        try:
            return other.read()
        except CheckpointError as error:
            raise ConversionError(f"tensor {tensor.name}: {error}") from error

    return replace(other, read=read)


def _narrower(model: PortableModel, *, cast: bool) -> Mapping[str, str]:
    """What the original had in less than F32, as far as this file can give it back.

    When matrices are cast only vectors, which are not, can return to what they were.
    """
    now = {
        tensor.name: model.source_dtypes.get(tensor.name, tensor.encoding)
        for tensor in model.tensors
        if tensor.encoding in FLOATS and (not cast or len(tensor.shape) < 2)
    }
    return {name: dtype for name, dtype in now.items() if dtype in FLOATS and dtype != "F32"}


def _most(tensors: Sequence[Tensor]) -> str:
    """The encoding of most of the matrices' values; blocks go before floats."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.shape) > 1 and tensor.encoding in _FILE_TYPES:
            counts[tensor.encoding] += math.prod(tensor.shape)
    return max(counts, key=lambda name: (counts[name], name)) if counts else "F32"
