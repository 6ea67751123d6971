"""The GGUF metadata of a tokenizer: what llama.cpp reads, and the files themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.embedded_files import embedded_fields
from pytest_aprqa.conversion.tokenizers.pretokenizers import PreTokenizer, candidates
from pytest_aprqa.conversion.tokenizers.sentencepiece_model import read_pieces
from pytest_aprqa.conversion.tokenizers.source import (
    SPACE,
    SourceTokenizer,
    added_around,
    chat_templates,
    loaded_tokenizer,
    read_source,
    special_ids,
)
from pytest_aprqa.conversion.tokenizers.vocabulary import (
    TokenList,
    byte_level_list,
    sentencepiece_list,
)
from pytest_aprqa.formats.gguf_field import GgufField, array, boolean, string, uint32

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "eom": "tokenizer.ggml.eom_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}
"""By name, the key of each special token's id (the misspelling is the format's)."""
END_TEXTS = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>"),
        *("<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>"),
        *("[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>"),
        *("<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    }
)
"""Tokens at which llama.cpp stops by their text (src/llama-vocab.cpp, special_eog_ids).

It makes each of them a control token, whatever its type in the file."""


def gguf_tokenizer_fields(
    config: Mapping[str, Any], files: Mapping[str, bytes]
) -> dict[str, GgufField]:
    """Every GGUF metadata field of a tokenizer, by key.

    Args:
        config: config.json; `vocab_size` (rows of the embedding) is required, `model_type` chooses
            between llama.cpp's names for the same pre-tokenizer, and its special ids count where
            the files name none.
        files: The tokenizer's files by name; tokenizer.json is required.

    Returns:
        The `tokenizer.ggml.*` keys that llama.cpp reads, `tokenizer.chat_template`,
        `tokenizer.huggingface.json`, and every file under `aprqa.file.<name>`: bytes that are not
        UTF-8 as an array of uint8.

    Raises:
        ConversionError: A file is missing or malformed, or llama.cpp has no tokenizer that gives
            the same ids; the message says what stands in the way.
    """
    return ggml_fields(config, files) | embedded_fields(files)


def ggml_fields(config: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, GgufField]:
    """The fields of `gguf_tokenizer_fields` without the embedded files."""
    try:
        return _ggml_fields(config, files)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConversionError(
            f"tokenizer.json or a file beside it is malformed ({error!r}); expected files as "
            f"transformers saves them"
        ) from error


def _ggml_fields(config: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, GgufField]:
    source = read_source(config, files)
    if source.byte_level:
        fields = _byte_level_fields(source)
    else:
        fields = _sentencepiece_fields(source, files)
    specials = special_ids(source)
    bos, eos = added_around(source, specials)
    fields["tokenizer.ggml.add_bos_token"] = boolean(bos)
    fields["tokenizer.ggml.add_eos_token"] = boolean(eos)
    for name, number in (specials | _further_ends(source, specials)).items():
        fields[ID_KEYS[name]] = uint32(number)
    return fields | _template_fields(chat_templates(files))


def general_name_part(config: Mapping[str, Any], files: Mapping[str, bytes]) -> str | None:
    """What `general.name` has to contain so that llama.cpp tokenizes as tokenizer.json does.

    "phi-3" if special tokens of a SentencePiece vocabulary swallow the spaces after them (rstrip):
    GGUF has no key for that, and llama.cpp goes by the model's name (src/llama-vocab.cpp). None
    if nothing is needed. A name with "phi-3" or "phi3" must not be given to a model without the
    tokens </s>, <unk>, <s> and <|endoftext|>: llama.cpp then refuses the file.
    """
    source = read_source(config, files)
    swallows = any(token.special and token.rstrip for token in source.added.values())
    return "phi-3" if swallows and not source.byte_level else None


def _byte_level_fields(source: SourceTokenizer) -> dict[str, GgufField]:
    normalizer = source.tokenizer.get("normalizer")
    # llama.cpp has no normalizer; NFC is let through, as it changes only texts that are not in it.
    if normalizer and _flat(normalizer) not in ([], [{"type": "NFC"}]):
        raise ConversionError(
            f"tokenizer.json: llama.cpp does not do what the normalizer "
            f"{json.dumps(normalizer, ensure_ascii=False)} does; expected none or NFC"
        )
    split = [merge for merge in source.merges if " " in "".join(merge)]
    if split:
        raise ConversionError(
            f"tokenizer.json: merge {split[0]!r} has a space in it; expected GPT-2's byte alphabet"
        )
    fields = {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(_pre_name(source)),
    }
    fields |= _list_fields(byte_level_list(source))
    merges = [f"{left} {right}" for left, right in source.merges]
    return fields | {"tokenizer.ggml.merges": array("string", merges)}


def _list_fields(tokens: TokenList) -> dict[str, GgufField]:
    fields = {
        "tokenizer.ggml.tokens": array("string", tokens.texts),
        "tokenizer.ggml.token_type": array("int32", tokens.types),
    }
    if tokens.scores is not None:
        fields["tokenizer.ggml.scores"] = array("float32", tokens.scores)
    return fields


def _pre_name(source: SourceTokenizer) -> str:
    """llama.cpp's name for this pre-tokenizer, and for whether merges are ignored."""
    known = candidates(source.tokenizer)
    ignores = bool(source.tokenizer["model"].get("ignore_merges", False))
    alike = [each for each in known if each.ignore_merges == ignores]
    if not alike and not _merges_reach_all(source):
        raise ConversionError(
            f"tokenizer.json: model.ignore_merges is {ignores} and merges do not reach every "
            f"token, but llama.cpp's {known[0].name} takes it as {known[0].ignore_merges}; "
            f"expected a pre-tokenizer that llama.cpp treats alike"
        )
    return _named_for(alike[0] if alike else known[0], source.config)


def _named_for(known: PreTokenizer, config: Mapping[str, Any]) -> str:
    return known.names.get(str(config.get("model_type")), known.name)


def _merges_reach_all(source: SourceTokenizer) -> bool:
    """Whether merges alone make every token of its text, so that ignoring them is no change."""
    model = {**source.tokenizer["model"], "ignore_merges": False}
    encoder = loaded_tokenizer({"version": "1.0", "added_tokens": [], "model": model})
    texts = list(model["vocab"])
    return all(len(each.ids) == 1 for each in encoder.encode_batch(texts))


def _sentencepiece_fields(
    source: SourceTokenizer, files: Mapping[str, bytes]
) -> dict[str, GgufField]:
    model = source.tokenizer["model"]
    if not model.get("byte_fallback") or model.get("ignore_merges"):
        raise ConversionError(
            "tokenizer.json: no ByteLevel pre-tokenizer, and model.byte_fallback is "
            f"{bool(model.get('byte_fallback'))}, model.ignore_merges is "
            f"{bool(model.get('ignore_merges'))}; expected byte fallback and merges that count, as "
            "llama.cpp's SentencePiece tokenizer has it"
        )
    pieces = read_pieces(files["tokenizer.model"]) if "tokenizer.model" in files else None
    fields = {
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.pre": string("default"),
        "tokenizer.ggml.add_space_prefix": boolean(_adds_space(source)),
    }
    return fields | _list_fields(sentencepiece_list(source, pieces))


def _adds_space(source: SourceTokenizer) -> bool:
    """Whether a text gets a space in front; nothing else may happen but spaces becoming ▁."""
    normalizer, cut = source.tokenizer.get("normalizer"), source.tokenizer.get("pre_tokenizer")
    prepends = {"type": "Prepend", "prepend": SPACE}
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = _flat(normalizer)
    harmless = cut is None or (
        cut.get("type") == "Split"
        and cut.get("pattern") == {"String": " "}  # no space is left after the normalizer
        and cut.get("behavior") == "MergedWithPrevious"
    )
    if harmless and steps in ([prepends, replaces], [replaces, prepends]):
        return True
    if harmless and steps == [replaces]:
        return False
    scheme = _metaspace_scheme(source, cut)
    if scheme is not None and not steps:
        return scheme != "never"
    raise ConversionError(
        f"tokenizer.json: llama.cpp's SentencePiece tokenizer does not do what the normalizer "
        f"{json.dumps(normalizer, ensure_ascii=False)} and the pre-tokenizer "
        f"{json.dumps(cut, ensure_ascii=False)} do; expected spaces to become {SPACE} (Replace or "
        f"Metaspace without cutting), with or without one in front"
    )


def _metaspace_scheme(source: SourceTokenizer, cut: Mapping[str, Any] | None) -> str | None:
    """The prepend_scheme of a Metaspace that does not cut into merges; None if it is none."""
    if cut is None or cut.get("type") != "Metaspace" or cut.get("replacement") != SPACE:
        return None
    crosses = any(SPACE in token[1:] for token in source.tokenizer["model"]["vocab"])
    if cut.get("split", True) and crosses:
        return None
    return str(
        cut.get("prepend_scheme", "always" if cut.get("add_prefix_space", True) else "never")
    )


def _flat(normalizer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if normalizer is None:
        return []
    if normalizer.get("type") == "Sequence":
        return [step for part in normalizer["normalizers"] for step in _flat(part)]
    return [normalizer]


def _further_ends(source: SourceTokenizer, specials: Mapping[str, int]) -> dict[str, int]:
    """Where generation stops besides EOS, for what llama.cpp does not know by its text.

    GGUF has two places for these (eot, eom). Raises ConversionError if there are more.
    """
    stops = source.generation.get("eos_token_id", source.config.get("eos_token_id"))
    numbers = stops if isinstance(stops, list) else [] if stops is None else [stops]
    for number in numbers:
        if number not in source.tokens:
            raise ConversionError(
                f"generation_config.json: eos_token_id {number!r} is no token of the model"
            )
    unknown = [
        number
        for number in numbers
        if number != specials.get("eos") and source.tokens[number] not in END_TEXTS
    ]
    names = [name for name in ("eos", "eot", "eom") if name not in specials]
    if len(unknown) > len(names):
        texts = ", ".join(repr(source.tokens[number]) for number in unknown)
        raise ConversionError(
            f"generation_config.json: generation stops at {texts} besides EOS, which llama.cpp "
            f"does not know by name; expected at most two of these, as GGUF has no more places"
        )
    return dict(zip(names, unknown, strict=False))


def _template_fields(templates: Mapping[str, str]) -> dict[str, GgufField]:
    fields = {}
    others = [name for name in templates if name != "default"]
    if "default" in templates:
        fields["tokenizer.chat_template"] = string(templates["default"])
    for name in others:
        fields[f"tokenizer.chat_template.{name}"] = string(templates[name])
    if others:
        fields["tokenizer.chat_templates"] = array("string", others)
    return fields
