"""llama.cpp's tokenizer over the smallest model that it loads."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from pytest_aprqa.formats.gguf_field import GgufField

_WIDTH = 32
_SIZES = {"context_length": 64, "embedding_length": _WIDTH, "block_count": 1}
_SIZES |= {"feed_forward_length": _WIDTH}
_SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{name}_norm.weight": (_WIDTH,) for name in ("output", "blk.0.attn", "blk.0.ffn")},
    **{f"blk.0.attn_{name}.weight": (_WIDTH, _WIDTH) for name in ("q", "k", "v", "output")},
    **{f"blk.0.ffn_{name}.weight": (_WIDTH, _WIDTH) for name in ("gate", "up", "down")},
}


def write_vocabulary(path: Path, fields: Mapping[str, GgufField], *, name: str = "test") -> None:
    """A GGUF file with these fields, and the least that llama.cpp wants besides."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    for key, value in _SIZES.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    for key, field in fields.items():
        if field.type == "array":
            assert field.items is not None
            if field.value:  # the writer leaves empty arrays out, as llama.cpp's converter does
                kind = gguf.GGUFValueType[field.items.upper()]
                writer.add_key_value(key, list(field.value), gguf.GGUFValueType.ARRAY, kind)
        else:
            writer.add_key_value(key, field.value, gguf.GGUFValueType[field.type.upper()])
    for tensor, shape in _SHAPES.items():
        writer.add_tensor(tensor, np.zeros(shape, dtype=np.float32))
    rows = len(fields["tokenizer.ggml.tokens"].value)
    writer.add_tensor("token_embd.weight", np.zeros((rows, _WIDTH), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@functools.cache
def _library() -> Any:
    import cyllama.llama.llama_cpp as library

    library.disable_logging()
    library.llama_backend_init()
    return library


class LlamaTokenizer:
    """The tokenizer of a file that `write_vocabulary` wrote."""

    def __init__(self, path: Path) -> None:
        library = _library()
        settings = library.LlamaModelParams()
        settings.n_gpu_layers = 0
        # Not vocab_only: b9190 then aborts the process when cyllama asks for the number of heads.
        self._model = library.LlamaModel(str(path), settings)
        self._vocab = self._model.get_vocab()

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        return list(self._vocab.tokenize(text, add_special=special, parse_special=True))

    def text(self, ids: list[int]) -> str:
        return str(self._vocab.detokenize(ids, 4096 * 16, False, True))
