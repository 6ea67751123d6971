"""A healthy model gives no finding; a false alarm would be as bad as a miss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.checks.architecture import compare_architecture
from pytest_aprqa.checks.integrity import Expectations, inspect, inspect_integrity
from pytest_aprqa.formats.huggingface import INDEX_FILE, open_huggingface

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "qwen2-tied",
    "qwen2-untied",
    "qwen2-sharded",
    "qwen3",
    "llama",
    "mistral",
    "gemma2",
    "gemma3",
    "phi3",
    "gpt2",
    "gpt-neox",
    "mixtral",
    "starcoder2",
)
EMBEDDED = Path(__file__).parents[2] / "src" / "pytest_aprqa" / "models" / "aprqa-tiny"


@pytest.mark.parametrize("name", NAMES)
def test_healthy_model_has_no_findings(models: Callable[[str], Path], name: str) -> None:
    report = inspect(models(name))
    assert report.findings == ()
    assert report.not_judged == ()
    assert report.healthy


def test_sharded_models_are_sharded(models: Callable[[str], Path]) -> None:
    for name in ("qwen2-sharded", "starcoder2"):
        assert (models(name) / INDEX_FILE).is_file()
        assert len(open_huggingface(models(name)).files) > 1


def test_embedded_model_has_no_findings() -> None:
    report = inspect(EMBEDDED)
    assert report.findings == ()
    assert report.not_judged == ()


def test_expectations_that_are_met(models: Callable[[str], Path]) -> None:
    expectations = Expectations(
        hidden_dim=32,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=512,
        intermediate_dim=48,
    )
    assert inspect_integrity(models("qwen2-tied"), expectations=expectations) == ()


def test_expectation_that_config_leaves_unsaid_is_not_judged(
    models: Callable[[str], Path],
) -> None:
    report = inspect(models("gpt2"), expectations=Expectations(num_kv_heads=4))
    assert report.findings == ()
    assert report.not_judged == ("expected num_kv_heads 4: config.json has no num_key_value_heads",)


def test_hub_cache_links_are_followed(models: Callable[[str], Path], tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    shutil.copytree(models("qwen2-sharded"), blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert inspect_integrity(snapshot) == ()


def test_padded_embedding(broken: Callable[..., Path], resave: Any) -> None:
    """520 rows for 512 tokens: padding to a multiple of 8."""
    directory = broken("qwen2-tied")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"vocab_size": 520}))

    def pad(tensors: dict[str, Any]) -> None:
        import torch

        embedding = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = torch.cat([embedding, embedding[:8]])

    resave(directory, pad)
    assert inspect_integrity(directory) == ()


def test_stored_copy_of_tied_embedding(broken: Callable[..., Path], resave: Any) -> None:
    directory = broken("qwen2-tied")

    def copy(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    resave(directory, copy)
    assert inspect_integrity(directory) == ()


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("gpt2", "transformer.h.0.attn.masked_bias", ()),
    ],
)
def test_buffers_of_old_versions(
    broken: Callable[..., Path], resave: Any, model: str, name: str, shape: tuple[int, ...]
) -> None:
    directory = broken(model)

    def add(tensors: dict[str, Any]) -> None:
        import torch

        tensors[name] = torch.ones(shape)

    resave(directory, add)
    assert inspect_integrity(directory) == ()


def test_zero_bias_is_legal(broken: Callable[..., Path], resave: Any) -> None:
    directory = broken("qwen2-tied")

    def zero(tensors: dict[str, Any]) -> None:
        tensors["model.layers.0.self_attn.q_proj.bias"].zero_()

    resave(directory, zero)
    assert inspect_integrity(directory) == ()


def test_sentencepiece_alone_is_not_judged(broken: Callable[..., Path]) -> None:
    directory = broken()
    (directory / "tokenizer.json").rename(directory / "tokenizer.model")
    report = inspect(directory)
    assert report.findings == ()
    assert report.not_judged == ("tokenizer: tokenizer.model without tokenizer.json",)


def test_multimodal_configuration_is_recognized(tmp_path: Path) -> None:
    """Gemma 3 with a vision tower keeps the language model's sizes under text_config."""
    from safetensors.torch import save_file
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    vision |= {"num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    untyped: Any = Gemma3Config
    config = untyped(text_config=text, vision_config=vision)
    config.save_pretrained(tmp_path)
    model: Any = Gemma3ForConditionalGeneration(config)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state.pop("lm_head.weight")  # tied
    save_file(state, tmp_path / "model.safetensors")
    content = json.loads((tmp_path / "config.json").read_text())
    tensors = open_huggingface(tmp_path).tensors
    assert not compare_architecture(content, tensors)
    content["text_config"]["num_hidden_layers"] = 3
    content["text_config"].pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert any(
        "config.json says text_config.num_hidden_layers 3, but the weights hold 2" in f.message
        for f in inspect_integrity(tmp_path)
    )
