"""Each family's small model, through llama.cpp and through every conversion and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from pytest_aprqa.conversion.families import (
    FAMILIES,
    apr_fields,
    apr_tensors,
    config_disagreements,
    config_from_apr,
    config_from_gguf,
    family_of_config,
    gguf_fields,
    gguf_tensors,
    huggingface_tensors,
    tensors_from_apr,
)
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.gguf_field import GgufField
from pytest_aprqa.formats.tensor import Tensor
from tests.conversion.families import llama_cpp
from tests.conversion.families.cases import CASES
from tests.conversion.families.small_models import (
    TOKENS,
    VOCAB,
    Case,
    SmallModel,
    contents,
    dummy_tokenizer,
    infos,
    logits_of_files,
    make,
    nmse,
    values,
    write_model,
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    made: SmallModel = make(request.param, tmp_path_factory.mktemp("model"))
    return made


def halved(model: SmallModel) -> tuple[list[Tensor], dict[str, str]]:
    """The model as it would be published, in BF16, and its encodings."""
    narrow = [tensor.as_encoding("BF16") for tensor in model.tensors]
    return narrow, {tensor.name: "BF16" for tensor in narrow}


def test_every_family_has_a_model() -> None:
    made = {family_of_config({"model_type": case.model_type}).name for case in CASES}
    assert made == {family.name for family in FAMILIES}
    assert len(FAMILIES) == 15


def test_llama_cpp_computes_what_transformers_does(model: SmallModel, tmp_path: Path) -> None:
    write_model(tmp_path / "m.gguf", model)
    found = llama_cpp.logits(tmp_path / "m.gguf", TOKENS)
    assert nmse(found, model.logits) < model.case.floor


def test_gguf_holds_bfloat16_and_gives_it_back(model: SmallModel) -> None:
    narrow, dtypes = halved(model)
    there = gguf_tensors(model.config, narrow)
    assert {t.encoding for t in there if len(t.shape) == 1 or "norm" in t.name} == {"F32"}
    assert contents(huggingface_tensors(model.config, there, dtypes)) == contents(narrow)


def test_gguf_to_safetensors_to_gguf_is_bit_for_bit(model: SmallModel) -> None:
    there = gguf_tensors(model.config, model.tensors)
    back = huggingface_tensors(model.config, there, {})
    assert contents(gguf_tensors(model.config, back)) == contents(there)


def test_apr_to_safetensors_to_apr_is_bit_for_bit(model: SmallModel) -> None:
    narrow, dtypes = halved(model)
    there = apr_tensors(model.config, narrow)
    back = tensors_from_apr(model.config, there, dtypes)
    assert contents(back) == contents(narrow)
    assert contents(apr_tensors(model.config, back)) == contents(there)
    assert {t.encoding for t in there if len(t.shape) == 1} == {"F32"}


def test_apr_has_a_head_and_nothing_fused(model: SmallModel) -> None:
    names = {tensor.name for tensor in apr_tensors(model.config, model.tensors)}
    assert {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"} <= names
    assert not [n for n in names if "qkv" in n or "gate_up" in n or "query_key" in n]


def test_transformers_builds_the_same_model_from_the_gguf_file_alone(
    model: SmallModel, tmp_path: Path
) -> None:
    there = gguf_tensors(model.config, model.tensors)
    fields = {**gguf_fields(model.config), **dummy_tokenizer(VOCAB)}
    config = config_from_gguf(fields, infos(there), values(there))
    back = huggingface_tensors(config, there, {})
    assert nmse(logits_of_files(tmp_path / "m", config, back), model.logits) < 1e-12


def test_quantized_rows_move_without_being_requantized(model: SmallModel) -> None:
    """Moving then decoding is decoding then moving; where values must change, it is refused."""
    packed = [quantized(tensor) for tensor in model.tensors]
    plain = [tensor.as_encoding("F32") for tensor in packed]
    if model.case.model_type in ("gpt2", "deepseek_v2"):
        with pytest.raises(ConversionError, match="must be transposed, which only plain values"):
            [tensor.read() for tensor in gguf_tensors(model.config, packed)]
        return
    moved = gguf_tensors(model.config, packed)
    assert "Q8_0" in {tensor.encoding for tensor in moved}
    assert contents([t.as_encoding("F32") for t in moved]) == contents(
        gguf_tensors(model.config, plain)
    )
    assert (
        contents(huggingface_tensors(model.config, moved, {}))[packed[0].name]
        == (contents(packed)[packed[0].name])
    )


def test_quantized_tensors_are_decoded_where_asked(model: SmallModel) -> None:
    """However late: the values are those of decoding everything first."""
    there = [quantized(tensor) for tensor in gguf_tensors(model.config, model.tensors)]
    dtypes = {tensor.name: "BF16" for tensor in model.tensors if len(tensor.shape) > 1}
    back = huggingface_tensors(model.config, there, dtypes, decode_to="F32")
    plain = [tensor.as_encoding("F32") for tensor in there]
    assert contents(back) == contents(huggingface_tensors(model.config, plain, {}))
    apr = [quantized(tensor) for tensor in apr_tensors(model.config, model.tensors)]
    back = tensors_from_apr(model.config, apr, {}, decode_to="F32")
    plain = [tensor.as_encoding("F32") for tensor in apr]
    assert contents(back) == contents(tensors_from_apr(model.config, plain, {}))


def quantized(tensor: Tensor) -> Tensor:
    if len(tensor.shape) == 1 or tensor.shape[-1] % 32:
        return tensor
    packed = quants.quantize(tensor.values(), GGMLQuantizationType.Q8_0).reshape(-1)
    return replace(tensor, encoding="Q8_0", read=lambda: np.ascontiguousarray(packed))


def test_the_config_agrees_with_its_own_gguf_file(model: SmallModel) -> None:
    there = infos(gguf_tensors(model.config, model.tensors))
    assert config_disagreements(model.config, gguf_fields(model.config), there) == []


def test_any_other_value_of_any_key_disagrees(model: SmallModel) -> None:
    fields, there = gguf_fields(model.config), infos(gguf_tensors(model.config, model.tensors))
    for key, field in fields.items():
        planted = {**fields, key: replace(field, value=other(field))}
        problems = config_disagreements(model.config, planted, there)
        assert any(problem.startswith(f"{key} is {other(field)!r}") for problem in problems), key


def other(field: GgufField) -> object:
    if isinstance(field.value, bool):
        return not field.value
    if isinstance(field.value, str):
        return field.value + "x"
    return field.value + 1


def test_apr_metadata_has_each_fact_once(model: SmallModel) -> None:
    fields = apr_fields(model.config)
    assert fields["architecture"] == family_of_config(model.config).name
    assert fields["hidden_size"] == 64
    assert fields["vocab_size"] == VOCAB
    aliases = {"num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "n_embd"}
    aliases |= {"num_key_value_heads", "layer_norm_eps", "norm_eps", "context_length", "n_ctx"}
    assert not aliases & set(fields)
    whole = {key for key, value in fields.items() if isinstance(value, int)}
    assert {"hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size"} <= whole


SIMPLE = [
    case
    for case in CASES
    if case.model_type in ("llama", "mistral", "qwen2", "qwen3")
    and "rope_parameters" not in case.options
]


@pytest.mark.parametrize("case", SIMPLE, ids=lambda case: case.name)
def test_transformers_builds_the_same_model_from_apr_metadata(case: Case, tmp_path: Path) -> None:
    model = make(case, tmp_path / "made")
    there = apr_tensors(model.config, model.tensors)
    config = config_from_apr(apr_fields(model.config), infos(there))
    back = tensors_from_apr(config, there, {})
    found = logits_of_files(tmp_path / "m", config, back)
    assert nmse(found, model.logits) < 1e-12
