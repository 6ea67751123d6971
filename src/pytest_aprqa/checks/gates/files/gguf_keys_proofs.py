"""Keys of a GGUF file that were changed or left out, written again as a whole file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.files.planting_bytes import file_lab, healthy
from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.domain.model import Format, Quantization

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.files.planting_bytes import Maker
    from pytest_aprqa.checks.gates.lab import Lab
    from pytest_aprqa.formats.gguf_field import GgufField
    from pytest_aprqa.formats.tensor import Tensor

_HEALTHY = healthy(Format.GGUF, Quantization.Q8_0)


def _written(
    fields: Callable[[dict[str, GgufField]], object] = lambda fields: None,
    tensors: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] = lambda tensors: tensors,
) -> Maker:
    """The q8_0 file with its keys edited in place, and other tensors."""

    def make(bench: ProofBench) -> Lab:
        from pytest_aprqa.formats.gguf_file import GgufFile
        from pytest_aprqa.formats.gguf_writer import write_gguf
        from pytest_aprqa.formats.tensor import tensors_of

        source = GgufFile.open(bench.converted(Format.GGUF, Quantization.Q8_0))
        keys = dict(source.fields)
        fields(keys)
        path = bench.place("model.gguf")
        write_gguf(path, fields=keys, tensors=tensors(tensors_of(source)))
        return file_lab(bench, Format.GGUF, path, Quantization.Q8_0)

    return make


def _set(key: str, value: object) -> Maker:
    """Another value of the same type."""
    return _written(lambda keys: keys.update({key: replace(keys[key], value=value)}))


def _without(key: str) -> Maker:
    return _written(lambda keys: keys.pop(key))


def _shorter(key: str) -> Maker:
    """A list without its last entry."""
    return _written(lambda keys: keys.update({key: replace(keys[key], value=keys[key].value[:-1])}))


def _wide(keys: dict[str, GgufField]) -> None:
    keys["qwen2.context_length"] = replace(keys["qwen2.context_length"], type="uint64")


def _row_less(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """An embedding without its last row."""

    def shorter(tensor: Tensor) -> Tensor:
        rows, width = tensor.shape
        return replace(
            tensor,
            shape=(rows - 1, width),
            read=lambda: tensor.read()[: tensor.nbytes // rows * (rows - 1)],
        )

    return tuple(shorter(t) if t.name == "token_embd.weight" else t for t in tensors)


PROOFS = (
    Proof("F-GGUF-ARCH-001", "a file without a context length", _without("qwen2.context_length"),
          _HEALTHY),
    Proof("F-GGUF-TYPE-001", "a context length of 64 bits", _written(_wide), _HEALTHY),
    Proof("F-GGUF-LAYERS-001", "a block_count of 4 over 3 blocks", _set("qwen2.block_count", 4),
          _HEALTHY),
    Proof("F-GGUF-DIMS-001", "an embedding_length of 260 over 256",
          _set("qwen2.embedding_length", 260), _HEALTHY),
    Proof("F-GGUF-HEADS-001", "4 key heads stated over 2", _set("qwen2.attention.head_count_kv", 4),
          _HEALTHY),
    Proof("F-GGUF-EPS-001", "a file without the norm's epsilon",
          _without("qwen2.attention.layer_norm_rms_epsilon"), _HEALTHY),
    Proof("F-GGUF-ROPE-001", "a theta of a million where the model has ten thousand",
          _set("qwen2.rope.freq_base", 1e6), _HEALTHY),
    Proof("F-GGUF-LABEL-001", "a file of q8_0 labelled q4_0", _set("general.file_type", 2),
          _HEALTHY, also=("F-GGUF-QUANT-001",)),
    Proof("F-GGUF-QUANT-001", "a file labelled as the IQ4 that nobody asked for",
          _set("general.file_type", 30), _HEALTHY),
    Proof("F-GGUF-VOCAB-001", "an embedding without its last row", _written(tensors=_row_less),
          _HEALTHY),
    Proof("F-GGUF-LISTS-001", "a list of token types without its last",
          _shorter("tokenizer.ggml.token_type"), _HEALTHY),
    Proof("F-GGUF-IDS-001", "an end token beyond the vocabulary",
          _set("tokenizer.ggml.eos_token_id", 1024), _HEALTHY),
)  # fmt: skip
