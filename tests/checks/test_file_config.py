from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.file_validation import validate_file
from pytest_aprqa.conversion.stored_config import GGUF_CONFIG_KEY as CONFIG_KEY
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.gguf_field import float32, string, uint32
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import Tensor
from tests.checks.model_files import (
    Parts,
    embedded_apr,
    embedded_gguf,
    embedded_source,
    tensor,
)


@pytest.fixture(scope="module")
def gguf_parts() -> Parts:
    """The embedded model as GGUF has it, with its config inside."""
    fields, tensors = embedded_gguf()
    return fields | {CONFIG_KEY: string(json.dumps(embedded_source()[0]))}, tensors


@pytest.fixture(scope="module")
def apr_parts() -> Parts:
    """The embedded model as APR has it, with its config inside."""
    return embedded_apr()


Change = Callable[[dict[str, Any], dict[str, Tensor]], None]


def judged(path: Path, parts: Parts, change: Change | None) -> tuple[list[str], list[str]]:
    """What is found in a file of these parts after a change, and what is not judged."""
    metadata, tensors = dict(parts[0]), {tensor.name: tensor for tensor in parts[1]}
    if change is not None:
        change(metadata, tensors)
    if path.suffix == ".gguf":
        write_gguf(path, fields=metadata, tensors=list(tensors.values()))
    else:
        write_apr(path, metadata=metadata, tensors=list(tensors.values()))
    report = validate_file(path)
    assert {finding.code for finding in report.findings} <= {"config"}
    return [finding.message for finding in report.findings], list(report.not_judged)


def other_layers(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    fields["qwen2.block_count"] = uint32(4)


def other_theta(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    fields["qwen2.rope.freq_base"] = float32(5000.0)


def unknown_key(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    fields["qwen2.attention.scale"] = float32(0.5)


def lost_key(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del fields["qwen2.feed_forward_length"]


def lost_groups(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del fields["qwen2.attention.head_count_kv"]


def lost_tensor(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del tensors["blk.1.ffn_up.weight"]


def turned_tensor(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    name = "blk.0.ffn_down.weight"
    tensors[name] = tensor(name, tensors[name].values().T)


def surplus_tensor(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["blk.0.extra.weight"] = tensor("blk.0.extra.weight", [1.0, 2.0])


def broken_config(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    fields[CONFIG_KEY] = string("[]")


def config_of_another_kind(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    fields[CONFIG_KEY] = uint32(1)


GGUF_DEFECTS = [
    (other_layers, "qwen2.block_count is 4; config.json makes it 3"),
    (other_theta, "qwen2.rope.freq_base is 5000.0; config.json makes it 10000.0"),
    (unknown_key, "qwen2.attention.scale is 0.5; config.json says nothing of it"),
    (lost_key, "qwen2.feed_forward_length is missing; config.json makes it 512"),
    (lost_groups, "qwen2.attention.head_count_kv is missing; config.json makes it 2"),
    (lost_tensor, "tensor blk.1.ffn_up.weight is missing; config.json calls for it"),
    (
        turned_tensor,
        "tensor blk.0.ffn_down.weight has the shape [512, 256]; config.json makes it [256, 512]",
    ),
    (surplus_tensor, "tensor blk.0.extra.weight is there; config.json does not call for it"),
    (broken_config, "holds a JSON list; expected an object"),
    (config_of_another_kind, "is no text; expected a JSON object as text"),
]


def test_a_healthy_gguf_file_agrees_with_its_config(tmp_path: Path, gguf_parts: Parts) -> None:
    assert judged(tmp_path / "m.gguf", gguf_parts, None) == ([], [])


@pytest.mark.parametrize(("change", "told"), GGUF_DEFECTS)
def test_what_a_gguf_file_says_twice_must_agree(
    tmp_path: Path, gguf_parts: Parts, change: Change, told: str
) -> None:
    messages, notes = judged(tmp_path / "m.gguf", gguf_parts, change)
    assert notes == []
    (message,) = messages
    assert message.startswith("m.gguf: ")
    assert told in message


def from_elsewhere(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del fields[CONFIG_KEY]


def test_a_gguf_file_without_config_is_judged_by_its_keys(
    tmp_path: Path, gguf_parts: Parts
) -> None:
    assert judged(tmp_path / "m.gguf", gguf_parts, from_elsewhere) == ([], [])

    def lost(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from_elsewhere(fields, tensors)
        lost_tensor(fields, tensors)

    messages, _ = judged(tmp_path / "m.gguf", gguf_parts, lost)
    assert messages == ["m.gguf: tensor blk.1.ffn_up.weight is missing; config.json calls for it"]

    def unknown(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from_elsewhere(fields, tensors)
        unknown_key(fields, tensors)

    messages, notes = judged(tmp_path / "m.gguf", gguf_parts, unknown)
    assert messages == []
    assert any("qwen2.attention.scale is 0.5" in note for note in notes)


def test_a_lost_number_of_key_value_heads_is_found_without_config(
    tmp_path: Path, gguf_parts: Parts
) -> None:
    """Without the key llama.cpp takes as many as heads, 8, but the tensors have rows for 2."""

    def change(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from_elsewhere(fields, tensors)
        lost_groups(fields, tensors)

    messages, _ = judged(tmp_path / "m.gguf", gguf_parts, change)
    assert messages[0] == (
        "m.gguf: tensor blk.0.attn_k.weight has the shape [64, 256]; config.json makes it "
        "[256, 256]"
    )
    assert messages[-1] == "and 4 more findings of this kind"  # 3 layers; k, v; biases


def test_a_gguf_file_of_an_unknown_family_is_not_judged(tmp_path: Path, gguf_parts: Parts) -> None:
    def change(fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        fields["general.architecture"] = string("unheard-of")

    messages, (note,) = judged(tmp_path / "m.gguf", gguf_parts, change)
    assert messages == []
    assert note.startswith(
        "keys against tensors: the GGUF file's general.architecture is 'unheard-of'; expected one"
    )


def other_eps(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    metadata["rms_norm_eps"] = 1e-5


def other_layer_count(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    metadata["num_layers"] = 2


def lost_apr_tensor(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def another_head(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    values = tensors["lm_head.weight"].values().copy()
    values[5, 5] += np.float32(0.5)
    tensors["lm_head.weight"] = tensor("lm_head.weight", values).as_encoding("BF16")


def listed_config(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    metadata["hf_config"] = [1]


APR_DEFECTS = [
    (other_eps, "rms_norm_eps is 1e-05; config.json makes it 1e-06"),
    (other_layer_count, "num_layers is 2; config.json makes it 3"),
    (lost_apr_tensor, "model.layers.1.mlp.up_proj.weight"),
    (
        another_head,
        "tensor lm_head.weight differs from model.embed_tokens.weight, but config.json ties them",
    ),
    (listed_config, "hf_config is no object; expected config.json in it"),
]


def test_a_healthy_apr_file_agrees_with_its_config(tmp_path: Path, apr_parts: Parts) -> None:
    assert judged(tmp_path / "m.apr", apr_parts, None) == ([], [])


@pytest.mark.parametrize(("change", "told"), APR_DEFECTS)
def test_what_an_apr_file_says_twice_must_agree(
    tmp_path: Path, apr_parts: Parts, change: Change, told: str
) -> None:
    (message,), notes = judged(tmp_path / "m.apr", apr_parts, change)
    assert notes == []
    assert message.startswith("m.apr: ")
    assert told in message


def test_an_apr_file_without_config_or_architecture_is_not_judged(
    tmp_path: Path, apr_parts: Parts
) -> None:
    def change(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del metadata["hf_config"]
        metadata["architecture"] = "unheard-of"

    messages, (note,) = judged(tmp_path / "m.apr", apr_parts, change)
    assert messages == []
    assert note.startswith("metadata against tensors: the APR file's architecture is 'unheard-of'")
