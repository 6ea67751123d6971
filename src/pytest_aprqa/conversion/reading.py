"""Any model file as a portable model: config, tokenizer and tensors as Hugging Face has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families import (
    config_from_apr,
    config_from_gguf,
    huggingface_tensors,
    tensors_from_apr,
)
from pytest_aprqa.conversion.portable import TOKENIZER_FILES, ConversionError, PortableModel
from pytest_aprqa.conversion.stored_config import (
    stored_config,
    stored_config_problems,
    stored_source_dtypes,
)
from pytest_aprqa.conversion.tokenizers import files_from_apr, files_from_gguf
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.checkpoint import read_json_object
from pytest_aprqa.formats.encodings import encoding_of
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import HuggingFaceCheckpoint
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.tensor import tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.formats.checkpoint import Checkpoint

DTYPE_KEYS = ("dtype", "torch_dtype")
"""Where config.json names the dtype: transformers 5, and before."""
DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_portable(path: Path, *, decode_to: str | None = "F32") -> PortableModel:
    """The model in a Hugging Face directory, a GGUF file or an APR file, from that alone.

    Quantized tensors are decoded to `decode_to` when they are read, and the config then names that
    dtype; with None they stay quantized, as far as Hugging Face's layout leaves their blocks whole.

    Raises:
        CheckpointError: the file cannot be read.
        ConversionError: its family, tokenizer or layout is not understood, or its config and its
            own keys contradict each other.
    """
    checkpoint = open_checkpoint(path)
    if isinstance(checkpoint, HuggingFaceCheckpoint):
        return _from_directory(checkpoint)
    if not isinstance(checkpoint, (GgufFile, AprFile)):
        raise ConversionError(
            f"{path}: a lone safetensors file has no config.json; expected its directory"
        )
    try:
        return _from_file(checkpoint, decode_to)
    except ConversionError as error:
        lines = str(error).splitlines()
        raise ConversionError("\n".join(f"{path}: {line}" for line in lines)) from error


def is_quantized(checkpoint: Checkpoint) -> bool:
    """Whether any tensor is stored in blocks."""
    return any(not encoding_of(info.dtype).plain for info in checkpoint.tensors.values())


def with_dtype(config: Mapping[str, Any], encoding: str) -> dict[str, Any]:
    """The config with its dtype changed, under the name that it has there."""
    keys = [key for key in DTYPE_KEYS if key in config] or list(DTYPE_KEYS[:1])
    return {**config, **dict.fromkeys(keys, DTYPE_NAMES[encoding])}


def _from_directory(checkpoint: HuggingFaceCheckpoint) -> PortableModel:
    directory = checkpoint.path
    config = read_json_object(directory / "config.json")
    files = {
        name: (directory / name).read_bytes()
        for name in TOKENIZER_FILES
        if (directory / name).is_file()
    }
    return PortableModel(config, files, tensors_of(checkpoint))


def _from_file(file: GgufFile | AprFile, decode_to: str | None) -> PortableModel:
    config = stored_config(file)
    if config is None:
        config = _derived_config(file)
    elif problems := stored_config_problems(file, config):
        raise ConversionError("\n".join(problems))
    if isinstance(file, GgufFile):
        files, back = files_from_gguf(file.fields), huggingface_tensors
    else:
        files, back = files_from_apr(file.metadata), tensors_from_apr
    dtypes = stored_source_dtypes(file)
    decoding = decode_to is not None and is_quantized(file)
    if decoding:  # one dtype for the whole model, or no engine would know what to run it in
        dtypes, config = {}, with_dtype(config, decode_to or "F32")
    tensors = back(config, tensors_of(file), dtypes, decode_to=decode_to)
    if decoding and decode_to is not None:
        tensors = [tensor.as_encoding(decode_to) for tensor in tensors]
    # What was decoded from blocks keeps its values in F32, whatever the original was in.
    now = {tensor.name: tensor.encoding for tensor in tensors}
    dtypes = {name: dtype for name, dtype in dtypes.items() if now.get(name) == dtype}
    return PortableModel(config, files, tuple(tensors), dtypes)


def _derived_config(file: GgufFile | AprFile) -> dict[str, Any]:
    if not isinstance(file, GgufFile):
        return config_from_apr(file.metadata, file.tensors)

    def values(name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.concatenate([np.empty(0, np.float32), *file.float32_chunks(name)])

    return config_from_gguf(file.fields, file.tensors, values)
