"""Files go into GGUF and APR and come back; a file that was changed on one side is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers import (
    apr_tokenizer_disagreements,
    apr_tokenizer_fields,
    files_from_apr,
    files_from_gguf,
    gguf_tokenizer_fields,
    stored_files_of_apr,
    tokenizer_disagreements,
)
from pytest_aprqa.formats.gguf_field import GgufField, array, boolean, string, uint32
from tests.conversion.tokenizers.kinds import KINDS, Kind, kind
from tests.conversion.tokenizers.test_gguf_fields import changed, embedded

Fields = dict[str, GgufField]


def gguf_of(made: Kind) -> Fields:
    return gguf_tokenizer_fields(made.config, made.files)


def apr_of(made: Kind) -> dict[str, Any]:
    """As it is after writing and reading."""
    metadata: dict[str, Any] = json.loads(json.dumps(apr_tokenizer_fields(made.config, made.files)))
    return metadata


def foreign(fields: Fields) -> Fields:
    return {k: v for k, v in fields.items() if not k.startswith(("aprqa.", "tokenizer.hugg"))}


@pytest.mark.parametrize("name", KINDS)
def test_files_come_back_byte_for_byte(name: str) -> None:
    made = kind(name)
    assert tokenizer_disagreements(made.files, gguf_of(made)) == []
    assert files_from_gguf(gguf_of(made)) == made.files
    assert files_from_apr(apr_of(made)) == made.files


def test_disagreements_inside_of_an_apr_file_are_listed_by_its_own_keys() -> None:
    made = kind("qwen2")
    metadata = apr_of(made)
    assert apr_tokenizer_disagreements(stored_files_of_apr(metadata), metadata) == []
    metadata["tokenizer.merges"][1] = "a b"
    metadata["tokenizer.eos_token_id"] += 1
    del metadata["tokenizer.pre_type"]
    found = apr_tokenizer_disagreements(stored_files_of_apr(metadata), metadata)
    assert [line.split(maxsplit=2)[0] for line in found] == [
        "tokenizer.merges[1]",
        "tokenizer.eos_token_id",
        "tokenizer.pre_type",
    ]
    del metadata["tokenizer.vocabulary"]
    assert apr_tokenizer_disagreements(made.files, metadata) == [
        "tokenizer.vocabulary is missing; expected the vocabulary that tokenizer.json has"
    ]


def test_the_embedded_models_files_come_back_byte_for_byte() -> None:
    config, files = embedded()
    assert files_from_gguf(gguf_tokenizer_fields(config, files)) == files
    assert files_from_apr(apr_tokenizer_fields(config, files)) == files


def test_binary_files_are_bytes_in_gguf_and_base64_in_apr() -> None:
    made = kind("llama-2")
    assert gguf_of(made)["aprqa.file.tokenizer.model"].items == "uint8"
    assert set(apr_of(made)["aprqa.file.tokenizer.model"]) == {"base64"}
    assert isinstance(apr_of(made)["aprqa.file.tokenizer_config.json"], str)


def test_apr_has_the_keys_that_its_readers_need() -> None:
    metadata = apr_of(kind("qwen3"))
    tokens = metadata["tokenizer.vocabulary"]
    assert len(tokens) == metadata["tokenizer.vocab_size"] == kind("qwen3").config["vocab_size"]
    assert all(isinstance(token, str) for token in tokens)
    assert metadata["tokenizer.merges"][0].count(" ") == 1
    assert tokens[metadata["tokenizer.eos_token_id"]] == "<|im_end|>"
    assert metadata["tokenizer.pre_type"] == "qwen2"
    assert metadata["chat_template"] == kind("qwen3").files["chat_template.jinja"].decode()
    assert metadata["tokenizer.model_type"] == "BPE"
    assert metadata["tokenizer.model"] == "gpt2"
    sentencepiece = apr_of(kind("llama-2"))
    assert "tokenizer.merges" not in sentencepiece
    assert len(sentencepiece["tokenizer.scores"]) == len(sentencepiece["tokenizer.vocabulary"])


def swapped(values: tuple[Any, ...], at: int = 300) -> tuple[Any, ...]:
    return (*values[:at], values[at + 1], values[at], *values[at + 2 :])


def defects() -> dict[str, tuple[str, Fields]]:
    """What is changed in a file's keys, and how it is told."""
    key = "tokenizer.ggml."
    fields, pieces = gguf_of(kind("qwen2")), gguf_of(kind("llama-2"))
    ranked = gguf_of(kind("llama-2 without tokenizer.model"))
    scores = ranked[f"{key}scores"].value
    tokens, merges = fields[f"{key}tokens"].value, fields[f"{key}merges"].value
    gone = {k: v for k, v in fields.items() if k != f"{key}merges"}
    return {
        "tokens": (
            r"tokenizer.ggml.tokens\[300\] is .*\(2 entries differ\)",
            fields | {f"{key}tokens": array("string", swapped(tokens))},
        ),
        "a merge": (
            r"tokenizer.ggml.merges\[300\]",
            fields | {f"{key}merges": array("string", swapped(merges))},
        ),
        "fewer merges": (
            "merges has 1000 entries, but the files have",
            fields | {f"{key}merges": array("string", merges[:1000])},
        ),
        "no merges": ("merges is missing; the files have", gone),
        "eos": (
            "eos_token_id is 5, but the files have",
            fields | {f"{key}eos_token_id": uint32(5)},
        ),
        "add bos": (
            "add_bos_token is True, but the files have False",
            fields | {f"{key}add_bos_token": boolean(True)},
        ),
        "pre": ("pre is 'llama-bpe', but the files", fields | {f"{key}pre": string("llama-bpe")}),
        "template": (
            "chat_template is 'other', but the files",
            fields | {"tokenizer.chat_template": string("other")},
        ),
        "scores": (
            r"tokenizer.ggml.scores\[300\]",
            pieces | {f"{key}scores": array("float32", swapped(pieces[f"{key}scores"].value))},
        ),
        "order of scores": (
            "has a higher score .*, which tokenizer.json merges first",
            ranked | {f"{key}scores": array("float32", swapped(scores))},
        ),
        "equal scores": (
            "scores are all -1000.0; tokenizer.json merges in an order",
            ranked | {f"{key}scores": array("float32", [-1000.0] * len(scores))},
        ),
        "a file is gone": (
            "aprqa.file.tokenizer_config.json is missing, though",
            {k: v for k, v in fields.items() if k != "aprqa.file.tokenizer_config.json"},
        ),
    }


@pytest.mark.parametrize("name", defects())
def test_keys_that_disagree_with_the_files_are_told(name: str) -> None:
    message, fields = defects()[name]
    with pytest.raises(ConversionError, match=message):
        files_from_gguf(fields)


def test_a_template_that_only_the_keys_have_is_told() -> None:
    made = kind("gpt2")
    files = {name: data for name, data in made.files.items() if name != "chat_template.jinja"}
    assert tokenizer_disagreements(files, gguf_of(made)) == [
        "tokenizer.chat_template is there, but the files have no chat template"
    ]


def test_missing_tokens_are_told() -> None:
    assert tokenizer_disagreements(kind("gpt2").files, {}) == [
        "tokenizer.ggml.tokens is missing; expected the vocabulary that tokenizer.json has"
    ]


def test_ids_that_only_config_json_names_are_no_disagreement() -> None:
    made = changed(kind("gpt2"), config={"pad_token_id": 7})
    assert gguf_of(made)["tokenizer.ggml.padding_token_id"].value == 7
    assert files_from_gguf(gguf_of(made)) == made.files


@pytest.mark.parametrize("name", ["qwen2", "llama-2", "deepseek-v2"])
def test_apr_and_gguf_rebuild_the_same_files(name: str) -> None:
    made = kind(name)
    metadata = {k: v for k, v in apr_of(made).items() if not k.startswith("aprqa.")}
    assert files_from_apr(metadata) == files_from_gguf(foreign(gguf_of(made)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokenizer.vocabulary", [1, 2], "tokenizer.vocabulary: is no list of string"),
        ("tokenizer.eos_token_id", "2", "tokenizer.eos_token_id is '2'; expected int"),
        ("tokenizer.eos_token_id", True, "tokenizer.eos_token_id is True; expected int"),
        ("tokenizer.eos_token_id", 5, "tokenizer.eos_token_id is 5, but the files have"),
        ("aprqa.file.tokenizer.json", {"base64": "%"}, "aprqa.file.tokenizer.json: no base64"),
        ("chat_template", "other", "chat_template is 'other', but the files"),
    ],
)
def test_apr_keys_that_are_wrong_are_told(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        files_from_apr(apr_of(kind("qwen2")) | {key: value})


def test_a_foreign_tokenizer_json_is_kept_and_its_companions_are_rebuilt() -> None:
    made = kind("llama-3")
    fields = {k: v for k, v in gguf_of(made).items() if not k.startswith("aprqa.")}
    files = files_from_gguf(fields)
    assert files["tokenizer.json"] == made.files["tokenizer.json"]
    settings = json.loads(files["tokenizer_config.json"])
    assert settings["bos_token"] == "<|begin_of_text|>"
    assert settings["add_bos_token"] is True


def test_llama_cpps_defaults_hold_where_a_foreign_file_says_nothing() -> None:
    key = "tokenizer.ggml."
    silent = (f"{key}add_", f"{key}bos", f"{key}eos", f"{key}unk")
    fields = {
        k: v for k, v in foreign(gguf_of(kind("llama-2"))).items() if not k.startswith(silent)
    }
    rebuilt = Tokenizer.from_str(
        files_from_gguf(
            fields
            | {
                f"{key}add_bos_token": boolean(True),
                f"{key}add_eos_token": boolean(False),
                f"{key}add_space_prefix": boolean(True),
                f"{key}bos_token_id": uint32(1),
                f"{key}eos_token_id": uint32(2),
                f"{key}unknown_token_id": uint32(0),
            }
        )["tokenizer.json"].decode()
    )
    assert rebuilt.encode("a").ids[0] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokenizer.ggml.model": string("bert")}, "tokenizer.ggml.model is 'bert'; expected gpt2"),
        ({"tokenizer.ggml.pre": string("superbpe")}, "the pre-tokenizer 'superbpe' is not known"),
        ({"tokenizer.ggml.tokens": string("x")}, "tokens is a string; expected an array of string"),
        ({"tokenizer.ggml.merges": array("int32", [1])}, "merges is an array of int32; expected"),
        ({"tokenizer.ggml.eos_token_id": string("2")}, "eos_token_id is a string; expected int16"),
        ({"tokenizer.ggml.token_type": array("int32", [1])}, "has 1 entries"),
        ({"tokenizer.ggml.eos_token_id": uint32(99999)}, "expected an id from 0 to 1535"),
        ({"tokenizer.ggml.merges": array("string", ["ab"])}, "'ab' is no two texts"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(fields: Fields, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        files_from_gguf(foreign(gguf_of(kind("qwen2"))) | fields)
