"""A tokenizer.json and its companions made from a GGUF file's `tokenizer.ggml` keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.gguf_fields import END_TEXTS, ID_KEYS
from pytest_aprqa.conversion.tokenizers.pretokenizers import named, tokenizer_json_of
from pytest_aprqa.conversion.tokenizers.source import SPACE, SPECIAL_NAMES
from pytest_aprqa.conversion.tokenizers.vocabulary import TokenType, merges_from_scores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.formats.gguf_field import GgufField

_KEY = "tokenizer.ggml."
_DEFAULT_IDS = {"llama": {"bos": 1, "eos": 2, "unk": 0}, "gpt2": {}}
"""The ids that llama.cpp takes where the file names none."""
_ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)


def rebuilt_tokenizer(fields: Mapping[str, GgufField]) -> bytes:
    """A tokenizer.json that gives the ids that llama.cpp gives.

    Raises ConversionError for tokenizer models other than gpt2 and llama, for pre-tokenizers that
    are not known, and for keys that are missing or contradict each other.
    """
    model, texts, types = _model(fields), _array(fields, "tokens"), _for_each(fields, "token_type")
    parts = _byte_level_parts if model == "gpt2" else _sentencepiece_parts
    added = [
        {
            "id": number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[number] != TokenType.USER_DEFINED,
        }
        for number, text in enumerate(texts)
        if types[number] in _ADDED
    ]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    tokenizer |= parts(fields, texts, types)
    tokenizer["post_processor"] = _post_processor(fields, texts)
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def rebuilt_companions(fields: Mapping[str, GgufField]) -> dict[str, bytes]:
    """tokenizer_config.json, generation_config.json and, if there is one, chat_template.jinja.

    Generation stops at EOS and at the control tokens at which llama.cpp stops.
    """
    texts, types = _array(fields, "tokens"), _for_each(fields, "token_type")
    ids = _ids(fields, len(texts))
    bos, eos = _adds(fields)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {f"{n}_token": texts[ids[n]] if n in ids else None for n in SPECIAL_NAMES}
    settings |= {"add_bos_token": bos, "add_eos_token": eos, "clean_up_tokenization_spaces": False}
    stops = [ids[name] for name in ("eos", "eot", "eom") if name in ids]
    stops += [
        number
        for number, text in enumerate(texts)
        if text in END_TEXTS and types[number] == TokenType.CONTROL
    ]
    generation: dict[str, Any] = {"eos_token_id": list(dict.fromkeys(stops))} if stops else {}
    generation |= {f"{n}_token_id": ids[n] for n in ("bos", "pad") if n in ids}
    files = {"generation_config.json": _json(generation)}
    if "tokenizer.chat_templates" in fields:
        settings["chat_template"] = [
            {"name": name, "template": _template(fields, name)}
            for name in ("default", *fields["tokenizer.chat_templates"].value)
            if _template(fields, name) is not None
        ]
    elif "tokenizer.chat_template" in fields:
        files["chat_template.jinja"] = str(fields["tokenizer.chat_template"].value).encode()
    return files | {"tokenizer_config.json": _json(settings)}


def _template(fields: Mapping[str, GgufField], name: str) -> Any:
    key = "tokenizer.chat_template" + ("" if name == "default" else f".{name}")
    return fields[key].value if key in fields else None


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _model(fields: Mapping[str, GgufField]) -> str:
    model = fields[f"{_KEY}model"].value if f"{_KEY}model" in fields else None
    if model not in _DEFAULT_IDS:
        raise ConversionError(
            f"tokenizer.ggml.model is {model!r}; expected gpt2 or llama, for which a "
            f"tokenizer.json can be rebuilt. Convert from the original files"
        )
    return str(model)


def _array(fields: Mapping[str, GgufField], name: str) -> tuple[Any, ...]:
    value = fields[_KEY + name].value if _KEY + name in fields else None
    if not isinstance(value, tuple):
        raise ConversionError(
            f"{_KEY}{name} is {'missing' if value is None else 'no array'}; expected an array, "
            f"without which a tokenizer.json cannot be rebuilt"
        )
    return value


def _for_each(fields: Mapping[str, GgufField], name: str) -> tuple[Any, ...]:
    """An array with an entry for each token."""
    values, count = _array(fields, name), len(_array(fields, "tokens"))
    if len(values) != count:
        raise ConversionError(
            f"{_KEY}{name} has {len(values)} entries and {_KEY}tokens {count}; expected one for "
            f"each token"
        )
    return values


def _ids(fields: Mapping[str, GgufField], count: int) -> dict[str, int]:
    ids = dict(_DEFAULT_IDS[_model(fields)])
    ids |= {name: int(fields[key].value) for name, key in ID_KEYS.items() if key in fields}
    for name, number in ids.items():
        if not 0 <= number < count:
            raise ConversionError(
                f"{ID_KEYS[name]} is {number}; expected an id from 0 to {count - 1}, as "
                f"there are {count} tokens"
            )
    return ids


def _adds(fields: Mapping[str, GgufField]) -> tuple[bool, bool]:
    """Whether BOS and EOS are added: as the file says, else as llama.cpp does by default."""
    key = f"{_KEY}add_bos_token"
    if key in fields:
        bos = bool(fields[key].value)
    elif _model(fields) == "llama":
        bos = True
    else:
        bos = named(_pre(fields)).adds_bos
    key = f"{_KEY}add_eos_token"
    return bos, key in fields and bool(fields[key].value)


def _pre(fields: Mapping[str, GgufField]) -> str:
    return str(fields[f"{_KEY}pre"].value) if f"{_KEY}pre" in fields else "(none)"


def _byte_level_parts(
    fields: Mapping[str, GgufField], texts: tuple[Any, ...], types: tuple[Any, ...]
) -> dict[str, Any]:
    known = named(_pre(fields))
    merges = []
    for merge in _array(fields, "merges"):
        left, space, right = merge[1:].partition(" ")
        if not space:
            raise ConversionError(f"tokenizer.ggml.merges: {merge!r} is no two texts")
        merges.append([merge[0] + left, right])
    merged = {part for left, right in merges for part in (left, right, left + right)}
    vocabulary = {
        text: number
        for number, text in enumerate(texts)
        if _is_token(number, text, types) and (types[number] not in _ADDED or text in merged)
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    return {
        "normalizer": {"type": "NFC"} if _pre(fields) in known.nfc else None,
        "pre_tokenizer": tokenizer_json_of(known),
        "decoder": byte_level | {"use_regex": True},
        "model": _bpe(vocabulary, merges) | {"ignore_merges": known.ignore_merges},
    }


def _sentencepiece_parts(
    fields: Mapping[str, GgufField], texts: tuple[Any, ...], types: tuple[Any, ...]
) -> dict[str, Any]:
    scores = _for_each(fields, "scores")
    plain = {
        text: (number, float(scores[number]))
        for number, text in enumerate(texts)
        if types[number] in (TokenType.NORMAL, TokenType.UNUSED) and _is_token(number, text, types)
    }
    mergeable = {score for text, (_, score) in plain.items() if len(text) > 1}
    if len(mergeable) == 1 and len(plain) > 1:
        raise ConversionError(
            f"tokenizer.ggml.scores are all {mergeable.pop()}, so which merges go first is lost; "
            f"expected SentencePiece's scores. Convert from the original files"
        )
    prefix = f"{_KEY}add_space_prefix"
    prepends = bool(fields[prefix].value) if prefix in fields else True
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": SPACE}] if prepends else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prepends:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    vocabulary = {text: n for n, text in enumerate(texts) if _is_token(n, text, types)}
    unknown = _ids(fields, len(texts)).get("unk")
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(vocabulary, merges_from_scores(plain))
        | {"byte_fallback": True, "fuse_unk": True}
        | {"unk_token": None if unknown is None else texts[unknown]},
    }


def _is_token(number: int, text: str, types: tuple[Any, ...]) -> bool:
    """Not a slot that the converter filled up."""
    return types[number] != TokenType.UNUSED or text != f"[PAD{number}]"


def _bpe(vocabulary: Mapping[str, int], merges: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": merges,
    }


def _post_processor(fields: Mapping[str, GgufField], texts: tuple[Any, ...]) -> Any:
    ids = _ids(fields, len(texts))
    around: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    specials = {}
    for name, wanted in zip(("bos", "eos"), _adds(fields), strict=True):
        if not wanted:
            continue
        if name not in ids:
            raise ConversionError(
                f"tokenizer.ggml.add_{name}_token holds, but {ID_KEYS[name]} is missing; expected "
                f"the id of the token to add"
            )
        text = texts[ids[name]]
        token = {"SpecialToken": {"id": text, "type_id": 0}}
        around = [token, *around] if name == "bos" else [*around, token]
        specials[text] = {"id": text, "ids": [ids[name]], "tokens": [text]}
    if not specials:
        return None
    second = [{kind: {**what, "type_id": 1}} for part in around for kind, what in part.items()]
    for part in second:
        if "Sequence" in part:
            part["Sequence"]["id"] = "B"
    return {
        "type": "TemplateProcessing",
        "single": around,
        "pair": [*around, *second],
        "special_tokens": specials,
    }
