"""GGUF files of the embedded model, whole or broken, written with the gguf package alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors import safe_open

from pytest_aprqa.formats.hub import resolve_model

END_OF_TEXT, IM_START, IM_END = 1021, 1022, 1023
_KINDS = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)

Change = Callable[[dict[str, np.ndarray[Any, Any]]], None]


def embedded_directory() -> Path:
    return resolve_model("embedded/aprqa-tiny").directory


def write_gguf(
    path: Path,
    *,
    half: bool = False,
    context: int = 512,
    template: str | None = None,
    without: Collection[str] = (),
    change: Change = lambda tensors: None,
    more: Callable[[Any], None] = lambda writer: None,
    starts: bool = False,
) -> Path:
    """The embedded model in F32, or in F16 with norms and biases in F32.

    `without` are metadata keys to leave out (`eos_token_id`), `template` another chat template,
    `change` what a test does to the tensors, under their GGUF names, `more` what it writes besides,
    `starts` whether a start token is asked for.
    """
    source = embedded_directory()
    config = json.loads((source / "config.json").read_text("utf-8"))
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(context)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, source, without, starts=starts)
    if "chat_template" not in without:
        settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
        writer.add_chat_template(settings["chat_template"] if template is None else template)
    more(writer)
    tensors = _tensors(source, config["num_hidden_layers"])
    change(tensors)
    for name, values in tensors.items():
        narrow = half and values.ndim > 1
        writer.add_tensor(name, values.astype(np.float16) if narrow else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def says(logits: dict[int, float]) -> Change:
    """A change that gives the model these logits after every token, and 0 for all others."""

    def change(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, values in tensors.items():
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                values[:] = 0
        embedding = tensors["token_embd.weight"]
        embedding[:] = 1  # the last norm leaves ones as they are
        tensors["output_norm.weight"][:] = 1
        output = np.zeros_like(embedding)
        for token, logit in logits.items():
            output[token] = logit / embedding.shape[1]
        tensors["output.weight"] = output

    return change


def _add_tokenizer(writer: Any, source: Path, without: Collection[str], *, starts: bool) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocabulary = {**tokenizer["model"]["vocab"], **special}
    tokens = sorted(vocabulary, key=lambda token: int(vocabulary[token]))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([_KINDS[token in special] for token in tokens])
    writer.add_token_merges(
        [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    )
    if "eos_token_id" not in without:
        writer.add_eos_token_id(IM_END)
    if "bos_token_id" not in without:
        writer.add_bos_token_id(END_OF_TEXT)
    writer.add_add_bos_token(starts)


def _tensors(source: Path, layers: int) -> dict[str, np.ndarray[Any, Any]]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, layers)
    found: dict[str, np.ndarray[Any, Any]] = {}
    with safe_open(source / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert stored is not None, name
            found[stored] = file.get_tensor(name).float().numpy()
    return found
