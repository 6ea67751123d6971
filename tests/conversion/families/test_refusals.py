"""What is not understood, or cannot be computed the same, is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.families import (
    apr_tensors,
    config_disagreements,
    config_from_apr,
    config_from_gguf,
    family_of_config,
    family_of_gguf,
    gguf_caveats,
    gguf_fields,
    gguf_tensors,
    huggingface_tensors,
)
from pytest_aprqa.conversion.families.gguf_layout import made_tensor
from pytest_aprqa.conversion.families.links import apr_links, gguf_links
from pytest_aprqa.conversion.families.settings import settings_of
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.encodings import SAFETENSORS_ONLY
from pytest_aprqa.formats.gguf_field import string, uint32
from pytest_aprqa.formats.tensor import Tensor
from tests.conversion.families.published import PUBLISHED
from tests.conversion.families.small_models import infos

LLAMA: dict[str, Any] = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32},
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
}


def tensors_for(config: dict[str, Any]) -> list[Tensor]:
    """Random tensors of the names and shapes that a config calls for."""
    generator = np.random.default_rng(3)
    family = family_of_config(config)
    links = gguf_links(family, settings_of(family, config))
    parts = [part for link in links for part in link.sources]
    return [
        made_tensor(part.name, generator.standard_normal(part.shape, np.float32)) for part in parts
    ]


def without(config: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'; expected one of llama, mistral, qwen2"),
        ({"model_type": None}, "model_type is None; expected one of"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "expected LlamaForCausalLM"),
        ({"quantization_config": {"bits": 4}}, "save the model unquantized"),
        ({"mystery": 3}, "no use for mystery = 3; expected only keys that it knows"),
        ({"hidden_size": "big"}, "hidden_size is 'big'; expected a whole number above 0"),
        ({"hidden_size": 32.0}, "hidden_size is 32.0; expected a whole number above 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True; expected a whole number"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; expected 'silu'"),
        ({"num_attention_heads": 3}, "32 is no multiple of the 3 attention heads"),
        ({"num_key_value_heads": 3}, "2 attention heads are no multiple of 3 key-value heads"),
        ({"layer_types": ["sliding_attention"]}, "layer_types is ['sliding_attention']"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "the rope type 'dynamic' is not"),
        ({"rope_scaling": {"type": "linear"}}, "rope type linear needs factor; it is missing"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2, "odd": 1}},
            "rope type linear has no odd",
        ),
        ({"rope_scaling": 7}, "rope_scaling is 7; expected an object"),
        ({"partial_rotary_factor": 0.5}, "expected 1 (whole heads are rotated)"),
        (
            {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0, "rope_type": "default"}},
            "rope_theta is 5.0 and in rope_parameters 6.0; expected one value",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 3.0}},
            "rope attention_factor is 3.0; expected none, or 1.138",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16}},
            "rope beta_fast is 16; a GGUF file needs 32",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 1.0}},
            "mscale is 1.0 and mscale_all_dim None; a GGUF file of this family needs none",
        ),
    ],
)
def test_a_config_that_is_not_understood(planted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        gguf_fields({**LLAMA, **planted})
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers"])
def test_a_size_that_is_missing(key: str) -> None:
    with pytest.raises(ConversionError, match=f"{key} is missing; the family llama needs it"):
        gguf_fields(without(LLAMA, key))


@pytest.mark.parametrize(
    "planted",
    [
        {"mystery": None},
        {"mystery": False},
        {"mystery": []},
        {"bos_token_id": 1, "torch_dtype": "bfloat16", "use_cache": True},
        {"attention_dropout": 0.1, "initializer_range": 0.02, "pretraining_tp": 1},
    ],
)
def test_keys_that_say_nothing_are_passed_over(planted: dict[str, Any]) -> None:
    assert gguf_fields({**LLAMA, **planted}) == gguf_fields(LLAMA)


@pytest.mark.parametrize(
    ("name", "planted", "message"),
    [
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob is False; a GGUF file"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, "mlp_only_layers is [0]; expected none"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window is True; expected false"),
        ("gemma2", {"query_pre_attn_scalar": 99}, "query_pre_attn_scalar is 99; a GGUF file"),
        ("gemma2", {"tie_word_embeddings": False}, "llama.cpp's head is the embedding"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ("gemma3", {"sliding_window_pattern": 5}, "sliding_window_pattern is 5; expected 6"),
        ("starcoder2", {"use_bias": False}, "llama.cpp loads no file without them"),
        ("falcon", {"alibi": True}, "llama.cpp rotates positions in this family"),
        ("falcon", {"parallel_attn": False}, "attention beside the MLP, never before it"),
        ("falcon", {"bias": True}, "llama.cpp loads no biases of this family"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "expected False"),
        ("gpt2", {"n_ctx": 99}, "n_ctx is 99; expected none or 1024"),
        ("phi4", {"full_attn_mod": 2}, "full_attn_mod is 2; expected 1, or nothing,"),
        ("phi4", {"original_max_position_embeddings": None}, "long_factor"),
        ("deepseek_v2", {"topk_method": "group_limited_greedy"}, "among groups of experts"),
        ("deepseek_v2", {"n_group": 8}, "n_group is 8; a GGUF file"),
        ("deepseek_v2", {"num_hidden_layers": 30}, "llama.cpp takes models of 26 or 27 layers"),
        ("deepseek_v2", {"num_key_value_heads": 2}, "expected 16, as many as heads"),
    ],
)
def test_what_llama_cpp_does_not_compute(name: str, planted: dict[str, Any], message: str) -> None:
    config = json.loads(json.dumps(PUBLISHED[name]))
    if name == "phi4" and "original_max_position_embeddings" in planted:
        planted = {"rope_scaling": {**config["rope_scaling"], "long_factor": [1.0]}}
    assert gguf_fields(config)
    with pytest.raises(ConversionError) as caught:
        gguf_fields({**config, **planted})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_keys_of_published_configs_are_known(name: str) -> None:
    fields = gguf_fields(PUBLISHED[name])
    assert fields["general.architecture"].value == family_of_config(PUBLISHED[name]).arch


def test_every_published_layout_covers_each_value_once() -> None:
    for config in PUBLISHED.values():
        family = family_of_config(config)
        settings = settings_of(family, config)
        for link in (*gguf_links(family, settings), *apr_links(family, settings)):
            sizes = [
                sum(int(np.prod(part.shape)) for part in side)
                for side in (link.sources, link.targets)
            ]
            assert sizes[0] == sizes[1], link
            if link.order is not None:
                assert sizes[0] == link.unit * len(link.order)
                assert (np.sort(link.order) == np.arange(len(link.order))).all()


def test_a_short_window_is_told_of() -> None:
    config = {**PUBLISHED["mistral"], "sliding_window": 4096}
    (line,) = gguf_caveats(config)
    assert "in prompts of more than 4096 tokens it attends to all of them" in line
    assert gguf_caveats({**config, "sliding_window": None}) == []
    assert gguf_caveats(PUBLISHED["gemma2"]) == []


def test_mistral_is_told_from_llama_by_its_window() -> None:
    config = {**PUBLISHED["mistral"], "sliding_window": 4096}
    assert family_of_gguf(gguf_fields(config)).name == "mistral"
    assert family_of_gguf(gguf_fields({**config, "sliding_window": None})).name == "llama"
    with pytest.raises(ConversionError, match="architecture is 'mamba'; expected one of deepseek2"):
        family_of_gguf({"general.architecture": string("mamba")})


def test_tensors_that_are_missing_unexpected_or_misshapen() -> None:
    right = tensors_for(LLAMA)
    assert len(gguf_tensors(LLAMA, right)) == len(right)
    with pytest.raises(ConversionError, match=r"the checkpoint lacks model\.embed_tokens\.weight"):
        gguf_tensors(LLAMA, right[1:])
    odd = made_tensor("model.layers.0.self_attn.sinks", np.ones(4, np.float32))
    with pytest.raises(
        ConversionError, match=r"does not call for: model\.layers\.0\.self_attn\.si"
    ):
        gguf_tensors(LLAMA, [*right, odd])
    with pytest.raises(ConversionError, match=r"in the shape \[32, 32\]; config\.json makes it"):
        gguf_tensors({**LLAMA, "vocab_size": 40}, right)
    whole = replace(right[0], encoding="I32")
    with pytest.raises(ConversionError, match="as I32; expected F32, F16, BF16 or quantized"):
        gguf_tensors(LLAMA, [whole, *right[1:]])
    with pytest.raises(ConversionError, match="occurs twice"):
        apr_tensors(LLAMA, [*right, right[0]])


@pytest.mark.parametrize("encoding", SAFETENSORS_ONLY)
@pytest.mark.parametrize("change", [gguf_tensors, apr_tensors])
def test_what_neither_gguf_nor_apr_has_is_refused(
    change: Callable[..., list[Tensor]], encoding: str
) -> None:
    first, *others = tensors_for(LLAMA)
    with pytest.raises(ConversionError, match=f"embed_tokens.weight as {encoding}; expected F32, "):
        change(LLAMA, [replace(first, encoding=encoding), *others])


def test_without_its_key_a_size_is_what_llama_cpp_takes() -> None:
    """Qwen2 of transformers has 32 key-value heads by default, llama.cpp as many as heads."""
    config = {**PUBLISHED["qwen2"], "num_attention_heads": 8, "num_key_value_heads": 8}
    config |= {"hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 40}
    fields, there = dict(gguf_fields(config)), infos(gguf_tensors(config, tensors_for(config)))
    del fields["qwen2.attention.head_count_kv"]
    assert config_disagreements(config, fields, there) == []
    assert config_from_gguf(fields, there)["num_key_value_heads"] == 8


def test_a_head_size_that_llama_cpp_would_take_otherwise_is_missed() -> None:
    """Gemma 3's heads are not of the hidden size over the heads, which llama.cpp would take."""
    config = PUBLISHED["gemma3"]
    fields = dict(gguf_fields(config))
    del fields["gemma3.attention.key_length"]
    told = [line for line in config_disagreements(config, fields, {}) if "tensor" not in line]
    size = config.get("head_dim", 256)
    assert told == [f"gemma3.attention.key_length is missing; config.json makes it {size}"]


def test_a_head_that_contradicts_the_tie() -> None:
    tied = {**LLAMA, "tie_word_embeddings": True}
    tensors = tensors_for(LLAMA)
    assert tensors[-1].name == "lm_head.weight"
    with pytest.raises(ConversionError, match=r"differs from model\.embed_tokens\.weight, but"):
        gguf_tensors(tied, tensors)
    copied = [*tensors[:-1], tensors[0].named("lm_head.weight")]
    names = [tensor.name for tensor in gguf_tensors(tied, copied)]
    assert "output.weight" not in names


def test_rope_factors_that_are_not_the_configs() -> None:
    scaling = {
        **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    }
    config = {**LLAMA, "rope_scaling": scaling}
    there = gguf_tensors(config, tensors_for(config))
    assert there[0].name == "rope_freqs.weight"
    assert len(huggingface_tensors(config, there, {})) == len(there) - 1
    with pytest.raises(ConversionError, match="is not what the rope parameters"):
        huggingface_tensors({**config, "rope_scaling": {**scaling, "factor": 4.0}}, there, {})
    with pytest.raises(
        ConversionError, match=r"has rope_freqs\.weight, which config\.json does not"
    ):
        huggingface_tensors(LLAMA, there, {})
    fields = gguf_fields(config)
    with pytest.raises(ConversionError, match="config_from_gguf needs `values` to read them"):
        config_from_gguf(fields, infos(there))
    odd = np.linspace(1, 7, 8, dtype=np.float32)
    with pytest.raises(ConversionError, match="cannot be told from it: give the model's config"):
        config_from_gguf(fields, infos(there), lambda name: odd)


def test_a_gguf_file_with_a_key_that_no_config_accounts_for() -> None:
    fields, there = gguf_fields(LLAMA), infos(gguf_tensors(LLAMA, tensors_for(LLAMA)))
    assert config_from_gguf(fields, there)["hidden_size"] == 32
    planted = {**fields, "llama.expert_count": uint32(8)}
    with pytest.raises(ConversionError, match=r"llama\.expert_count is 8; config\.json says no"):
        config_from_gguf(planted, there)
    vendor = {**fields, "somebody.note": string("hello")}
    assert config_from_gguf(vendor, there) == config_from_gguf(fields, there)


def test_a_gguf_file_without_a_key() -> None:
    fields, there = gguf_fields(LLAMA), infos(gguf_tensors(LLAMA, tensors_for(LLAMA)))
    for key in ("block_count", "attention.layer_norm_rms_epsilon"):
        with pytest.raises(ConversionError, match=f"lacks the key llama.{key}"):
            config_from_gguf({k: v for k, v in fields.items() if k != f"llama.{key}"}, there)
    implied = ("rope.dimension_count", "attention.key_length", "attention.value_length")
    fewer = {k: v for k, v in fields.items() if k.removeprefix("llama.") not in implied}
    assert config_disagreements(LLAMA, fewer, there) == []
    (problem,) = config_disagreements({**LLAMA, "rope_theta": 5e5}, fewer, there)
    assert problem == "llama.rope.freq_base is 10000.0; config.json makes it 500000.0"


def test_tensors_of_a_gguf_file_that_a_config_contradicts() -> None:
    fields, there = gguf_fields(LLAMA), infos(gguf_tensors(LLAMA, tensors_for(LLAMA)))
    missing = {name: info for name, info in there.items() if name != "blk.0.ffn_up.weight"}
    assert config_disagreements(LLAMA, fields, missing) == [
        "tensor blk.0.ffn_up.weight is missing; config.json calls for it"
    ]
    more = {**there, "blk.0.x.weight": replace(there["output.weight"], name="blk.0.x.weight")}
    assert config_disagreements(LLAMA, fields, more) == [
        "tensor blk.0.x.weight is there; config.json does not call for it"
    ]


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ({"architecture": "phi3"}, "architecture is 'phi3'; without a config.json in it"),
        ({"rope_theta": None}, "metadata lacks rope_theta; expected it, for no default is right"),
        ({"hidden_size": None}, "metadata lacks hidden_size"),
        ({"rope_type": 0}, "rope_type is 0; expected 2"),
    ],
)
def test_apr_metadata_that_does_not_say_enough(planted: dict[str, Any], message: str) -> None:
    metadata = {
        **{"architecture": "qwen2", "hidden_size": 32, "num_layers": 1, "num_heads": 2},
        **{"num_kv_heads": 2, "vocab_size": 32, "intermediate_size": 64},
        **{"max_position_embeddings": 64, "rope_theta": 1e4, "rope_type": 2},
        "rms_norm_eps": 1e-6,
    }
    assert config_from_apr(metadata, {})["model_type"] == "qwen2"
    with pytest.raises(ConversionError) as caught:
        config_from_apr({**metadata, **planted}, {})
    assert message in str(caught.value)


def test_gpt2_as_published_has_no_prefix_and_carries_masks(tmp_path: Path) -> None:
    config = {**PUBLISHED["gpt2"], "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 40}
    right = tensors_for(config)
    bare = [tensor.named(tensor.name.removeprefix("transformer.")) for tensor in right]
    mask = made_tensor("h.0.attn.bias", np.ones((1, 1, 4, 4), np.float32))
    there = gguf_tensors(config, [*bare, mask])
    assert [t.name for t in there] == [t.name for t in gguf_tensors(config, right)]
