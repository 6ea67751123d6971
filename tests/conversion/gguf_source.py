"""A small F16 GGUF file whose every byte is fixed by arithmetic, for the quantizer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, INNER, TOKENS = 2, 256, 512, 96
_MATRICES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH // 2, WIDTH),
    "attn_v": (WIDTH // 2, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (INNER, WIDTH),
    "ffn_up": (INNER, WIDTH),
    "ffn_down": (WIDTH, INNER),
}


def write_source(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(TOKENS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, shape in _shapes().items():
        values = _values(len(name), shape)
        writer.add_tensor(name, values.astype(np.float16) if len(shape) > 1 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (TOKENS, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{n}.weight": shape for n, shape in _MATRICES.items()}
        shapes |= {f"blk.{layer}.{n}_norm.weight": (WIDTH,) for n in ("attn", "ffn")}
    return shapes | {"output_norm.weight": (WIDTH,), "output.weight": (TOKENS, WIDTH)}


def _values(salt: int, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Bell-shaped without a library's generator: sums of three hashes of the place.

    Knuth's multiplicative hash (The Art of Computer Programming 3, 6.4).
    """
    place = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(salt << 32)
    total = np.zeros(place.size, np.float64)
    for factor in (2654435761, 2246822519, 3266489917):
        mixed = (place * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
        mixed = ((mixed ^ (mixed >> np.uint64(15))) * np.uint64(668265263)) & np.uint64(0xFFFFFFFF)
        total += (mixed >> np.uint64(8)).astype(np.float64) / 2**24 - 0.5
    return (total / 8).astype(np.float32).reshape(shape)
