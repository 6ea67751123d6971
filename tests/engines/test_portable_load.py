"""A model run from its portable form alone."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.portable import PortableModel
from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.engine import Engine, LoadFailed
from pytest_aprqa.engines.portable_load import dtype_of, load_portable
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from pytest_aprqa.engines.transformers_quiet import quiet
from pytest_aprqa.formats.tensor import Tensor
from tests.engines.portable_models import portable, re_encoded, with_config

ASK = "What is 2 + 2?"
IDS = tuple(range(40, 90))


@pytest.fixture(scope="module")
def model(model_directory: Path) -> PortableModel:
    return portable(model_directory)


def _load(model: PortableModel, **settings: Any) -> TransformersEngine:
    given = {"backend": Backend.CPU, "threads": 1, "label": "apr", "file": "m.apr", **settings}
    return load_portable(model, **given)


def _refused(model: PortableModel) -> str:
    with pytest.raises(LoadFailed) as caught:
        _load(model)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("m.apr: ")
    return str(caught.value)


def test_it_is_the_model_of_the_directory(model: PortableModel, engine: TransformersEngine) -> None:
    found: Engine = _load(model)
    assert np.array_equal(found.logits(IDS), engine.logits(IDS))
    for request in (
        GenerationRequest(prompt=ASK, max_tokens=24),
        GenerationRequest(messages=(Message("user", ASK),), max_tokens=24),
        GenerationRequest(prompt=ASK, max_tokens=24, temperature=1.0, seed=3),
    ):
        one, other = found.generate(request), engine.generate(request)
        assert (one.text, one.token_ids) == (other.text, other.token_ids)
        assert one.rendered_prompt == other.rendered_prompt
    assert found.context_length == engine.context_length


def test_it_says_what_ran(model: PortableModel) -> None:
    told = _load(re_encoded(model, matrices="Q8_0", vectors="F32")).describe()
    assert told["engine"].startswith("transformers 5.")
    assert told["engine"].endswith(" over apr")
    assert told["file"] == "m.apr"
    assert told["weights"] == "16 Q8_0, 11 F32"
    assert told["dtype"] == "float32"
    assert "file" not in _load(model, file="").describe()


@pytest.mark.parametrize(
    ("matrices", "vectors", "declared", "dtype"),
    [
        ("BF16", "BF16", "bfloat16", "bfloat16"),
        ("BF16", "F32", "bfloat16", "bfloat16"),
        ("BF16", "F32", None, "bfloat16"),
        ("F16", "F32", "float16", "float16"),
        ("F16", "F32", "bfloat16", "float32"),
        ("F32", "F32", "bfloat16", "float32"),
        ("F32", "F32", "float32", "float32"),
        ("Q8_0", "F32", "bfloat16", "float32"),
        ("APR_Q8", "F32", "float16", "float32"),
    ],
)
def test_the_dtype_that_loses_nothing(
    model: PortableModel, matrices: str, vectors: str, declared: str | None, dtype: str
) -> None:
    stored = with_config(re_encoded(model, matrices=matrices, vectors=vectors), dtype=declared)
    assert dtype_of(stored) == dtype


def test_the_older_name_of_the_dtype_counts(model: PortableModel) -> None:
    stored = with_config(re_encoded(model, matrices="F16", vectors="F32"), dtype=None)
    assert dtype_of(with_config(stored, torch_dtype="float16")) == "float16"
    assert dtype_of(with_config(stored, torch_dtype="bfloat16")) == "float32"


def test_widened_norms_are_narrowed_bit_for_bit(
    model: PortableModel, engine: TransformersEngine
) -> None:
    widened = _load(re_encoded(model, matrices="BF16", vectors="F32"))
    assert widened.describe()["dtype"] == "bfloat16"
    assert np.array_equal(widened.logits(IDS), engine.logits(IDS))


def test_quantized_weights_are_computed_with_as_decoded(
    model: PortableModel, model_directory: Path
) -> None:
    stored = re_encoded(model, matrices="Q8_0", vectors="F32")
    found = _load(stored)
    reference = load(model_directory, backend=Backend.CPU, dtype="float32", threads=1)
    parameters = dict(found._model.named_parameters())
    for tensor in stored.tensors:
        assert np.array_equal(parameters[tensor.name].detach().numpy(), tensor.values())
    expected = reference.logits(IDS)
    error = ((found.logits(IDS) - expected) ** 2).mean() / (expected**2).mean()
    assert 0 < error < 0.02  # eight bits, in a model whose weights were made large


def test_another_dtype_can_be_asked_for(model: PortableModel) -> None:
    assert _load(model, dtype="float32").describe()["dtype"] == "float32"
    with pytest.raises(EngineUnavailable, match=r"unknown dtype 'int3'; expected one of float32"):
        _load(model, dtype="int3")


def test_a_missing_tensor_is_named(model: PortableModel) -> None:
    kept = tuple(t for t in model.tensors if t.name != "model.layers.1.mlp.up_proj.weight")
    assert _refused(replace(model, tensors=kept)) == (
        "m.apr: the weights do not fit config.json: 1 missing (model.layers.1.mlp.up_proj.weight)"
    )


def test_unexpected_and_misshapen_tensors_are_named(model: PortableModel) -> None:
    first = model.tensors[0]
    norm = next(t for t in model.tensors if t.name == "model.norm.weight")
    short = norm.derived((3,), lambda values: values[:3], encoding="BF16")
    others = tuple(t for t in model.tensors if t is not norm)
    told = _refused(replace(model, tensors=(*others, short, first.named("extra.weight"))))
    assert "1 unexpected (extra.weight)" in told
    assert "1 of another shape (model.norm.weight is 3, config says 64)" in told


def test_a_tensor_that_occurs_twice(model: PortableModel) -> None:
    told = _refused(replace(model, tensors=(*model.tensors, model.tensors[2])))
    assert told == f"m.apr: tensor {model.tensors[2].name} occurs twice; expected it once"


def test_an_unknown_architecture(model: PortableModel) -> None:
    assert "model type `nosuch`" in _refused(with_config(model, model_type="nosuch"))


def test_no_tokenizer(model: PortableModel) -> None:
    files = {"generation_config.json": model.files["generation_config.json"]}
    assert "no usable tokenizer: text becomes no tokens" in _refused(replace(model, files=files))


def test_code_is_not_run(model: PortableModel, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\n".encode()
    custom = with_config(model, model_type="nosuch", auto_map={"AutoConfig": "configuration_x.C"})
    told = _refused(replace(custom, files={**model.files, "configuration_x.py": code}))
    assert "custom code" in told
    assert not ran.exists()


def test_the_ends_of_an_answer_are_the_models_own(model: PortableModel) -> None:
    assert _load(model)._end_ids == {256, 258}
    files = {n: data for n, data in model.files.items() if n != "generation_config.json"}
    without = _load(replace(model, files=files))
    assert without._end_ids == {258}  # of config.json and the tokenizer


def test_no_file_is_left_and_none_is_needed(
    model: PortableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = _load(model)
    assert list(tmp_path.iterdir()) == []
    answer = engine.generate(GenerationRequest(messages=(Message("user", ASK),), max_tokens=1))
    assert answer.completion_tokens == 1


def test_every_tensor_is_given_back_when_it_is_copied(model: PortableModel) -> None:
    told: list[str] = []

    def watched(tensor: Tensor) -> Tensor:
        def read() -> np.ndarray[Any, Any]:
            told.append(f"read {tensor.name}")
            return tensor.read()

        return replace(tensor, read=read, done=lambda: told.append(f"done {tensor.name}"))

    _load(replace(model, tensors=tuple(map(watched, model.tensors))))
    expected = [f"{step} {tensor.name}" for tensor in model.tensors for step in ("read", "done")]
    assert told == expected


def test_experts_are_gathered(tmp_path: Path, model: PortableModel) -> None:
    # transformers keeps a layer's experts in one tensor and files keep them apart.
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    untyped_config: Any = Qwen3MoeConfig
    config = untyped_config(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        eos_token_id=258,
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(1)
        untyped: Any = Qwen3MoeForCausalLM(config)
        untyped.save_pretrained(tmp_path)
    for name, data in model.files.items():
        (tmp_path / name).write_bytes(data)
    stored = portable(tmp_path)
    assert any(".experts.3.down_proj." in tensor.name for tensor in stored.tensors)
    reference = load(tmp_path, backend=Backend.CPU, threads=1)
    assert np.array_equal(_load(stored).logits(IDS), reference.logits(IDS))
    kept = tuple(t for t in stored.tensors if ".1.mlp.experts.3.down_proj." not in t.name)
    assert len(kept) == len(stored.tensors) - 1
    assert "do not fit config.json" in _refused(replace(stored, tensors=kept))
