"""llama.cpp's logits, in process: float32 keys and values, no flash attention, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyllama.llama.llama_cpp as llama
import numpy as np

llama.disable_logging()
llama.llama_backend_init()


class _Model(llama.LlamaModel):  # type: ignore[misc]
    """get_logits_ith asks the model for n_vocab."""

    @property
    def n_vocab(self) -> int:
        return int(self.get_vocab().n_vocab)


def logits(path: Path, ids: list[int]) -> np.ndarray[Any, Any]:
    """Float32 [tokens, vocabulary]."""
    chosen = llama.LlamaModelParams()
    chosen.n_gpu_layers = 0
    model = _Model(str(path), chosen)
    context = llama.LlamaContextParams()
    context.n_ctx = context.n_batch = context.n_ubatch = 256
    context.n_threads = context.n_threads_batch = 1
    context.type_k = context.type_v = 0
    context.flash_attn_type = 0
    running = llama.LlamaContext(model, context)
    batch = llama.LlamaBatch(n_tokens=256, embd=0, n_seq_max=1)
    batch.set_batch(ids, 0, True)
    running.decode(batch)
    return np.array([running.get_logits_ith(each) for each in range(len(ids))], np.float32)
