"""Each planted fault in weights or configuration yields the finding that names it."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.checks.integrity import Expectations, inspect_integrity
from pytest_aprqa.checks.integrity_finding import MAX_FINDINGS_PER_CODE
from pytest_aprqa.formats.huggingface import survey_huggingface

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NORM = "model.layers.1.input_layernorm.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"
Edit = Any


def messages(directory: Path) -> list[str]:
    found = [finding.message for finding in inspect_integrity(directory)]
    assert all("\n" not in message for message in found)
    return found


def only(directory: Path) -> str:
    found = messages(directory)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        (
            "qwen2-tied",
            {"hidden_size": 64},
            "config.json says hidden_size 64, but model.embed_tokens.weight has 32 columns",
        ),
        (
            "qwen2-untied",
            {"num_hidden_layers": 4, "layer_types": None},
            "config.json says num_hidden_layers 4, but the weights hold 3 (model.layers.0–2)",
        ),
        (
            "llama",
            {"num_hidden_layers": 2},
            "config.json says num_hidden_layers 2, but the weights hold 3 (model.layers.0–2)",
        ),
        (
            "gpt2",
            {"n_layer": 3},
            "config.json says n_layer 3, but the weights hold 2 (transformer.h.0–1)",
        ),
        (
            "qwen2-untied",
            {"vocab_size": 511},
            "config.json says vocab_size 511, but model.embed_tokens.weight has 512 rows",
        ),
        (
            "qwen3",
            {"num_key_value_heads": 4},
            "config.json says num_key_value_heads 4 of head_dim 16, but "
            "model.layers.0.self_attn.k_proj.weight has 32 rows (2 such heads)",
        ),
        (
            "llama",
            {"num_key_value_heads": 1},
            "config.json says num_key_value_heads 1 of head_dim 8, but "
            "model.layers.0.self_attn.k_proj.weight has 16 rows (2 such heads)",
        ),
        (
            "qwen3",
            {"num_attention_heads": 8},
            "config.json says num_attention_heads 8 of head_dim 16, but "
            "model.layers.0.self_attn.q_proj.weight has 64 rows (4 such heads)",
        ),
        (
            "qwen2-untied",
            {"intermediate_size": 64},
            "config.json says intermediate_size 64, but "
            "model.layers.0.mlp.gate_proj.weight has 48 rows",
        ),
        (
            "qwen2-untied",
            {"tie_word_embeddings": True},
            "model.safetensors: lm_head.weight differs from model.embed_tokens.weight; "
            "expected equal values, as config.json says tie_word_embeddings true",
        ),
        (
            "qwen2-tied",
            {"tie_word_embeddings": False},
            "weights: tensor lm_head.weight of Qwen2ForCausalLM is missing; "
            "config.json does not tie it to the embeddings",
        ),
        (
            "qwen2-tied",
            {"dtype": "float32"},
            "config.json says dtype float32, but most weights are stored as BF16",
        ),
        (
            "llama",
            {"model_type": "made_up"},
            "config.json says model_type 'made_up', which transformers does not know; "
            "expected an architecture that needs no remote code",
        ),
        (
            "llama",
            {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
            "config.json: auto_map names code to run; expected none: "
            "{'AutoModelForCausalLM': 'modeling_x.X'}",
        ),
        (
            "llama",
            {"eos_token_id": 512},
            "config.json: eos_token_id 512; expected a token id below 512",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_config(
    broken: Callable[..., Path],
    edit_json: Edit,
    model: str,
    changes: dict[str, Any],
    expected: str,
) -> None:
    directory = broken(model)
    edit_json(directory / "config.json", **changes)
    if "eos_token_id" in changes:
        (directory / "generation_config.json").unlink()
        edit_json(directory / "tokenizer_config.json", eos_token=None)
    assert [
        message.replace("8 (hidden_size 32 / num_attention_heads 4)", "8")
        for message in messages(directory)
    ] == [expected]


def test_several_wrong_numbers_are_each_named(broken: Callable[..., Path], edit_json: Edit) -> None:
    directory = broken("llama")
    wrong = {"hidden_size": 64, "num_hidden_layers": 14, "vocab_size": 896}
    edit_json(directory / "config.json", **wrong)
    assert messages(directory) == [
        "config.json says hidden_size 64, but model.embed_tokens.weight has 32 columns",
        "config.json says vocab_size 896, but model.embed_tokens.weight has 512 rows",
        "config.json says num_hidden_layers 14, but the weights hold 3 (model.layers.0–2)",
    ]


def test_absurd_layer_count_builds_no_model(broken: Callable[..., Path], edit_json: Edit) -> None:
    directory = broken("llama")
    edit_json(directory / "config.json", num_hidden_layers=10**9)
    assert "the weights hold 3 (model.layers.0–2)" in only(directory)


def test_wrong_expectation(models: Callable[[str], Path]) -> None:
    found = inspect_integrity(models("llama"), expectations=Expectations(num_kv_heads=8))
    assert [finding.message for finding in found] == [
        "config.json says num_key_value_heads 2, but the playbook expects 8"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "the file does not exist; expected a JSON object"),
        (b"{'no': json}", "not JSON (Expecting property name"),
        (b"[1, 2]", "holds a JSON list; expected an object"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "not JSON (maximum recursion depth"),
    ],
)
def test_unreadable_config(
    broken: Callable[..., Path], content: bytes | None, expected: str
) -> None:
    directory = broken("llama")
    (directory / "config.json").unlink()
    if content is not None:
        (directory / "config.json").write_bytes(content)
    assert expected in only(directory)


@pytest.mark.parametrize("model", ["qwen2-untied", "qwen2-tied", "llama"])
@pytest.mark.parametrize(("value", "shown"), [("nan", "NaN"), ("inf", "Inf"), ("-inf", "-Inf")])
def test_not_finite(
    broken: Callable[..., Path], resave: Edit, model: str, value: str, shown: str
) -> None:
    directory = broken(model)

    def plant(tensors: dict[str, Any]) -> None:
        tensors[GATE][7, 3] = float(value)
        tensors[GATE][9, 0] = float(value)

    resave(directory, plant)
    dtype = {"qwen2-untied": "F16", "qwen2-tied": "BF16", "llama": "F32"}[model]
    assert only(directory) == (
        f"model.safetensors: {GATE} has {shown} at [7, 3], the first of 2 not finite "
        f"among 1536 values ({dtype}); expected finite values"
    )


def change_norm(tensors: dict[str, Any]) -> None:
    tensors[NORM].zero_()


def negate_norm(tensors: dict[str, Any]) -> None:
    tensors[NORM].zero_().neg_()


def remove_norm(tensors: dict[str, Any]) -> None:
    del tensors[NORM]


def add_tensor(tensors: dict[str, Any]) -> None:
    tensors["model.layers.1.extra.weight"] = tensors[NORM].clone()


def transpose_gate(tensors: dict[str, Any]) -> None:
    tensors[GATE] = tensors[GATE].t().contiguous()


def transpose_embedding(tensors: dict[str, Any]) -> None:
    name = "model.embed_tokens.weight"
    tensors[name] = tensors[name].t().contiguous()


def drop_biases(tensors: dict[str, Any]) -> None:
    del tensors["model.layers.2.self_attn.q_proj.bias"]


ZERO = f"model.safetensors: {NORM} is zero in all its 32 values (F16); expected trained values"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (change_norm, ZERO),
        (negate_norm, ZERO),
        (remove_norm, f"weights: tensor {NORM} of Qwen2ForCausalLM is missing"),
        (
            add_tensor,
            "model.safetensors: tensor model.layers.1.extra.weight is no part of "
            "Qwen2ForCausalLM; expected no such tensor",
        ),
        (
            transpose_gate,
            f"model.safetensors: {GATE} has shape [32, 48]; "
            "expected [48, 32] of Qwen2ForCausalLM (transposed?)",
        ),
        (
            drop_biases,
            "weights: tensor model.layers.2.self_attn.q_proj.bias of Qwen2ForCausalLM is missing",
        ),
    ],
)
def test_wrong_tensors(
    broken: Callable[..., Path], resave: Edit, edit: Callable[..., None], expected: str
) -> None:
    directory = broken("qwen2-untied")
    resave(directory, edit)
    assert only(directory) == expected


def test_transposed_embedding(broken: Callable[..., Path], resave: Edit) -> None:
    directory = broken("qwen2-untied")
    resave(directory, transpose_embedding)
    assert (
        "model.safetensors: model.embed_tokens.weight has shape [32, 512]; "
        "expected [512, 32] of Qwen2ForCausalLM (transposed?)"
    ) in messages(directory)


def test_one_bad_expert_is_named(broken: Callable[..., Path], resave: Edit) -> None:
    directory = broken("mixtral")
    name = "model.layers.1.block_sparse_moe.experts.2.w2.weight"

    def cut(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name][:, :40].contiguous()

    resave(directory, cut)
    assert only(directory) == (
        f"{name} has shape [32, 40], but 11 like it have [32, 48]; "
        "so MixtralForCausalLM cannot be loaded"
    )


def test_missing_expert(broken: Callable[..., Path], resave: Edit) -> None:
    directory = broken("mixtral")

    def remove(tensors: dict[str, Any]) -> None:
        for part in ("w1", "w2", "w3"):
            del tensors[f"model.layers.1.block_sparse_moe.experts.3.{part}.weight"]

    resave(directory, remove)
    assert "model.layers.1.mlp.experts" in messages(directory)[0]


def test_findings_are_bounded(broken: Callable[..., Path], resave: Edit) -> None:
    directory = broken("llama")

    def zero(tensors: dict[str, Any]) -> None:
        for tensor in tensors.values():
            tensor.zero_()

    resave(directory, zero)
    found = messages(directory)
    assert len(found) == MAX_FINDINGS_PER_CODE + 1
    assert found[-1] == "and 22 more findings of this kind"


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "training_args.bin",
        "model.pt",
        "weights.pth",
        "last.ckpt",
        "state.pkl",
        "deep/down/state.joblib",
    ],
)
def test_pickle_by_name(broken: Callable[..., Path], name: str) -> None:
    path = broken("llama") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"anything")
    assert only(path.parents[name.count("/")]) == (
        f"{name}: a file with a pickle's name, which can run code when loaded; "
        "expected only safetensors weights"
    )


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_under_another_name(broken: Callable[..., Path], protocol: int) -> None:
    directory = broken("llama")
    content = pickle.dumps({"weights": [1.0, 2.0]}, protocol=protocol)
    (directory / "notes.txt").write_bytes(content)
    assert only(directory).startswith("notes.txt: a Python pickle, which can run code")


def test_torch_archive_under_another_name(broken: Callable[..., Path]) -> None:
    directory = broken("llama")
    with zipfile.ZipFile(directory / "README.md", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "README.md: a zip archive with a pickle (torch.save)" in only(directory)


def test_code_beside_the_weights(broken: Callable[..., Path]) -> None:
    directory = broken("llama")
    (directory / "modeling_x.py").write_text("")
    assert only(directory) == (
        "modeling_x.py: code beside the weights; expected a model that needs none"
    )


@pytest.mark.parametrize("name", ["tokenizer_config.json", "preprocessor_config.json"])
def test_nested_auto_map(broken: Callable[..., Path], edit_json: Edit, name: str) -> None:
    path = broken("llama") / name
    if not path.exists():
        path.write_text("{}")
    edit_json(path, deeper=[{"auto_map": {"AutoProcessor": "x.X"}}])
    assert f"{name}: deeper[0].auto_map names code to run" in only(path.parent)


def test_file_cut_short(broken: Callable[..., Path]) -> None:
    path = broken("llama") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "the file is cut short" in only(path.parent)


def test_header_of_an_exabyte(broken: Callable[..., Path]) -> None:
    path = broken("llama") / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    assert f"the header claims {2**60} bytes, but" in only(path.parent)


def test_missing_shard(broken: Callable[..., Path]) -> None:
    directory = broken("qwen2-sharded")
    shard = sorted(directory.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"weights file '{shard.name}' does not exist" in only(directory)


def test_tensor_in_two_shards(broken: Callable[..., Path]) -> None:
    directory = broken("qwen2-sharded")
    first, second = sorted(directory.glob("model-*.safetensors"))[:2]
    shutil.copy(first, second)
    _, found = survey_huggingface(directory)
    assert found[0] in messages(directory)
    assert any(f"is in {first.name} and again in {second.name}" in text for text in found)
    assert any(f"should be in {second.name}, but it is in no shard" in text for text in found)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_shard_name_that_leads_out(broken: Callable[..., Path], name: str) -> None:
    directory = broken("qwen2-sharded")
    index = directory / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][NORM] = name
    index.write_text(json.dumps(content))
    assert any("leads out of the model's directory" in text for text in messages(directory))


def test_missing_directory(tmp_path: Path) -> None:
    assert "there is no such directory" in only(tmp_path / "nothing")


def test_empty_directory(tmp_path: Path) -> None:
    found = messages(tmp_path)
    assert len(found) == 3
    assert "config.json: the file does not exist" in found[0]
    assert "neither model.safetensors nor model.safetensors.index.json" in found[1]
    assert "there is no tokenizer.json" in found[2]
