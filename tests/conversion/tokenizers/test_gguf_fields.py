"""The GGUF keys of a tokenizer, as llama.cpp's converter would write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pytest_aprqa
from pytest_aprqa.conversion.portable import TOKENIZER_FILES, ConversionError
from pytest_aprqa.conversion.tokenizers import general_name_part, gguf_tokenizer_fields
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from tests.conversion.tokenizers.kinds import KINDS, REPLACE, Kind, kind
from tests.conversion.tokenizers.llama_vocab import LlamaTokenizer, write_vocabulary

EMBEDDED = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
PRE_NAMES = {
    "llama-3": "llama-bpe",
    "mistral-nemo": "tekken",
    "qwen2": "qwen2",
    "qwen3": "qwen2",
    "phi-4": "dbrx",
    "phi-4-mini": "gpt-4o",
    "granite": "refact",
    "olmo2": "dbrx",
    "starcoder2": "starcoder",
    "stablelm": "stablelm2",
    "falcon": "falcon",
    "deepseek-v2": "deepseek-llm",
    "gpt2": "gpt-2",
}


def embedded() -> tuple[dict[str, Any], dict[str, bytes]]:
    paths = (EMBEDDED / name for name in TOKENIZER_FILES)
    files = {path.name: path.read_bytes() for path in paths if path.is_file()}
    return json.loads((EMBEDDED / "config.json").read_bytes()), files


def values(made: Kind) -> dict[str, Any]:
    fields = gguf_tokenizer_fields(made.config, made.files)
    return {key.removeprefix("tokenizer.ggml."): field.value for key, field in fields.items()}


def changed(made: Kind, *, config: dict[str, Any] | None = None, **parts: dict[str, Any]) -> Kind:
    """The kind with top-level members of its JSON files replaced; files by stem."""
    files = dict(made.files)
    for stem, members in parts.items():
        whole = json.loads(files[f"{stem}.json"])
        files[f"{stem}.json"] = json.dumps(whole | members).encode()
    return Kind({**made.config, **(config or {})}, files)


def test_the_embedded_model_has_llama_cpps_keys(tmp_path: Path) -> None:
    config, files = embedded()
    fields = gguf_tokenizer_fields(config, files)
    assert len(fields["tokenizer.ggml.tokens"].value) == 1024
    plain = {
        key.removeprefix("tokenizer.ggml."): (field.type, field.value)
        for key, field in fields.items()
        if key.startswith("tokenizer.ggml.") and field.type != "array"
    }
    assert plain == {
        "model": ("string", "gpt2"),
        "pre": ("string", "qwen2"),
        "add_bos_token": ("bool", False),
        "add_eos_token": ("bool", False),
        "bos_token_id": ("uint32", 1021),
        "eos_token_id": ("uint32", 1023),
        "padding_token_id": ("uint32", 1021),
    }
    assert fields["tokenizer.ggml.token_type"].value == (1,) * 1021 + (3,) * 3
    assert fields["tokenizer.ggml.merges"].value[0] == "Ġ a"


def test_the_embedded_models_ids_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = tmp_path / "model.gguf"
    write_vocabulary(path, gguf_tokenizer_fields(*embedded()))
    llama, original = LlamaTokenizer(path), AutoTokenizer.from_pretrained(EMBEDDED)
    differing = [
        text
        for text in ADVERSARIAL_TEXTS
        if llama.ids(text, special=True) != original(text)["input_ids"]
    ]
    assert len(differing) == 5  # those that are not in NFC
    assert "cafe\u0301 nai\u0308ve re\u0301sume\u0301" in differing


@pytest.mark.parametrize(("name", "pre"), PRE_NAMES.items())
def test_each_family_has_llama_cpps_name_for_its_pre_tokenizer(name: str, pre: str) -> None:
    assert values(kind(name))["pre"] == pre


@pytest.mark.parametrize("name", KINDS)
def test_every_row_of_the_embedding_has_a_token(name: str) -> None:
    made = kind(name)
    found = values(made)
    size = made.config["vocab_size"]
    assert len(found["tokens"]) == len(set(found["tokens"])) == len(found["token_type"]) == size
    assert len(found.get("scores", found["tokens"])) == size
    padded = [i for i, kind_ in enumerate(found["token_type"]) if kind_ == 5]
    assert [found["tokens"][i] for i in padded] == [f"[PAD{i}]" for i in padded]
    assert padded


def test_types_of_a_sentencepiece_vocabulary() -> None:
    found = values(kind("gemma"))
    types = dict(zip(found["tokens"], found["token_type"], strict=True))
    assert types["<0x0A>"] == 6
    assert types["<unk>"] == types["<s>"] == types["<start_of_turn>"] == types["<pad>"] == 3
    assert types["  "] == types["<table>"] == types["\n\n"] == 4
    assert types["▁the"] == 1
    assert found["add_space_prefix"] is False


def test_scores_are_those_of_tokenizer_model_or_the_ranks() -> None:
    found, ranked = values(kind("llama-2")), values(kind("llama-2 without tokenizer.model"))
    assert found["tokens"] == ranked["tokens"]
    scores = dict(zip(found["tokens"], found["scores"], strict=True))
    ranks = dict(zip(ranked["tokens"], ranked["scores"], strict=True))
    assert scores["<s>"] == ranks["<s>"] == -1000.0
    assert scores["[PAD1119]"] == ranks["[PAD1119]"] == -10000.0
    merged = [text for text, rank in ranks.items() if -1000 < rank < 0]
    assert sorted(merged, key=scores.__getitem__) == sorted(merged, key=ranks.__getitem__)


def test_added_tokens_that_are_not_special_are_user_defined() -> None:
    found = values(kind("qwen3"))
    types = dict(zip(found["tokens"], found["token_type"], strict=True))
    assert types["<think>"] == 4
    assert types["<|fim_prefix|>"] == 3


def test_an_added_token_that_looks_special_is_control() -> None:
    assert (
        dict(zip(*(values(kind("deepseek-v2"))[k] for k in ("tokens", "token_type")), strict=True))[
            "<|User|>"
        ]
        == 3
    )


def test_bos_is_added_where_the_post_processor_does() -> None:
    assert values(kind("llama-3"))["add_bos_token"] is True
    assert values(kind("gpt2"))["add_bos_token"] is False


def test_tokenizer_config_does_not_count_for_what_is_added() -> None:
    """As in transformers, which drops these keys where there is a tokenizer.json."""
    made = changed(kind("llama-3"), tokenizer_config={"add_bos_token": False})
    assert values(made)["add_bos_token"] is True
    made = changed(kind("gpt2"), tokenizer_config={"add_bos_token": True, "bos_token": "!"})
    assert values(made)["add_bos_token"] is False
    assert values(made)["bos_token_id"] == made.tokenizer.token_to_id("!")


def test_eos_is_added_where_the_post_processor_does() -> None:
    made = kind("gpt2")
    eos, number = "<|endoftext|>", made.tokenizer.token_to_id("<|endoftext|>")
    after: dict[str, Any] = {
        "type": "RobertaProcessing",
        "sep": [eos, number],
        "cls": [eos, number],
    }
    after |= {"trim_offsets": True, "add_prefix_space": False}
    both = changed(made, tokenizer={"post_processor": after}, tokenizer_config={"bos_token": eos})
    found = values(both)
    assert (found["add_bos_token"], found["add_eos_token"]) == (True, True)


def test_a_post_processor_that_adds_something_else_is_refused() -> None:
    made = changed(kind("llama-3"), tokenizer_config={"bos_token": "<|eot_id|>"})
    with pytest.raises(ConversionError, match=r"the post-processor adds tokens .* before a text"):
        values(made)


def test_ids_of_config_json_count_where_the_files_name_none() -> None:
    made = changed(kind("gpt2"), config={"pad_token_id": 7, "eos_token_id": 3})
    assert values(made)["padding_token_id"] == 7
    assert values(made)["eos_token_id"] == made.tokenizer.token_to_id("<|endoftext|>")


def test_stops_that_llama_cpp_does_not_know_by_name_have_keys() -> None:
    made = kind("qwen2")
    eos = made.tokenizer.token_to_id("<|im_end|>")
    end = made.tokenizer.token_to_id("<|endoftext|>")
    made = changed(made, generation_config={"eos_token_id": [eos, end, 5, 6]})
    found = values(made)
    assert (found["eos_token_id"], found["eot_token_id"], found["eom_token_id"]) == (eos, 5, 6)


def test_more_stops_than_gguf_has_places_are_refused() -> None:
    made = changed(kind("qwen2"), generation_config={"eos_token_id": [5, 6, 7]})
    with pytest.raises(ConversionError, match="generation stops at '&', \"'\", '\\(' besides EOS"):
        values(made)


def test_only_swallowed_spaces_need_a_name() -> None:
    needed = {name: general_name_part(kind(name).config, kind(name).files) for name in KINDS}
    assert {name for name, part in needed.items() if part is not None} == {"phi-3"}
    assert needed["phi-3"] == "phi-3"


def test_named_chat_templates_have_their_keys() -> None:
    made = kind("gpt2")
    files = {name: data for name, data in made.files.items() if name != "chat_template.jinja"}
    templates = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    made = changed(Kind(made.config, files), tokenizer_config={"chat_template": templates})
    fields = gguf_tokenizer_fields(made.config, made.files)
    assert fields["tokenizer.chat_template"].value == "d"
    assert fields["tokenizer.chat_template.tool_use"].value == "t"
    assert fields["tokenizer.chat_templates"].value == ("tool_use",)


def refusals() -> dict[str, tuple[Kind, str]]:
    gpt2, llama = kind("gpt2"), kind("llama-2")
    merges = json.loads(llama.files["tokenizer.json"])["model"]["merges"]
    model = json.loads(llama.files["tokenizer.json"])["model"]
    byte_model = json.loads(gpt2.files["tokenizer.json"])["model"]
    twice = byte_model | {"vocab": {**byte_model["vocab"], "<|endoftext|>": 3}}
    without = {name: data for name, data in llama.files.items() if name != "tokenizer.model"}
    fewer = changed(
        Kind(llama.config, without), tokenizer={"model": model | {"merges": merges[1:]}}
    )
    backwards = changed(llama, tokenizer={"model": model | {"merges": merges[::-1]}})
    lowercase = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}
    return {
        "tokenizer.json is not there": (Kind(gpt2.config, {}), "expected it beside config.json"),
        "not readable as JSON": (
            Kind(gpt2.config, {"tokenizer.json": b"{"}),
            "tokenizer.json: not",
        ),
        "no object": (Kind(gpt2.config, {"tokenizer.json": b"[]"}), "expected a JSON object"),
        "unigram": (
            changed(gpt2, tokenizer={"model": {"type": "Unigram"}}),
            "model.type is 'Unigram'",
        ),
        "no vocabulary": (
            changed(gpt2, tokenizer={"model": {"type": "BPE", "vocab": [1]}}),
            "is malformed .*expected files as transformers saves them",
        ),
        "a step that does not load": (
            changed(gpt2, tokenizer={"post_processor": {"type": "Other"}}),
            "the tokenizers library does not load it",
        ),
        "dropout": (
            changed(gpt2, tokenizer={"model": byte_model | {"dropout": 0.1}}),
            "model.dropout is 0.1, which llama.cpp does not do",
        ),
        "too few rows": (
            changed(gpt2, config={"vocab_size": 300}),
            "but config.json's vocab_size is 300",
        ),
        "no vocab_size": (
            changed(gpt2, config={"vocab_size": None}),
            "vocab_size is None; expected",
        ),
        "eos is no token": (
            changed(gpt2, tokenizer_config={"eos_token": "<none>"}),
            "eos_token '<none>' is no token of the model",
        ),
        "pad beyond": (
            changed(gpt2, config={"pad_token_id": 99999}),
            "pad_token_id 99999 is no token",
        ),
        "lowercase": (
            changed(gpt2, tokenizer={"normalizer": lowercase}),
            "llama.cpp does not do what the normalizer .*Lowercase",
        ),
        "a token twice": (
            changed(gpt2, tokenizer={"model": twice}),
            "are both '<.endoftext.>'",
        ),
        "a merge is missing": (fewer, "are tokens and so is .*, but no merge joins them"),
        "merges in another order": (backwards, "has a higher score than .*Remove tokenizer.model"),
        "cuts at spaces": (
            changed(llama, tokenizer={"normalizer": None, "pre_tokenizer": metaspace}),
            "does not do what the normalizer null and the pre-tokenizer .*Metaspace",
        ),
        "lowercase before spaces": (
            changed(llama, tokenizer={"normalizer": {**lowercase, "normalizers": [REPLACE] * 2}}),
            "expected spaces to become ▁",
        ),
        "no byte fallback": (
            changed(llama, tokenizer={"model": model | {"byte_fallback": False}}),
            "model.byte_fallback is False",
        ),
        "not UTF-8": (
            Kind(gpt2.config, {**gpt2.files, "chat_template.jinja": b"\xff"}),
            "chat_template.jinja: not UTF-8",
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_what_llama_cpp_cannot_do_is_refused(name: str) -> None:
    made, message = refusals()[name]
    with pytest.raises(ConversionError, match=message):
        values(made)
