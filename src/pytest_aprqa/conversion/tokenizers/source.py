"""A tokenizer as its Hugging Face files describe it, read once and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPACE = "\u2581"
"""What SentencePiece writes for a space (LOWER ONE EIGHTH BLOCK)."""
SPECIAL_NAMES = ("bos", "eos", "unk", "sep", "pad", "mask")
"""The special tokens that both sides name."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is found in the text before anything else is done to it."""

    content: str
    special: bool
    rstrip: bool = False


@dataclass(frozen=True, slots=True)
class SourceTokenizer:
    """tokenizer.json and its companions as objects; every id is below `vocab_size`."""

    tokenizer: Mapping[str, Any]
    """tokenizer.json."""
    settings: Mapping[str, Any]
    """tokenizer_config.json."""
    generation: Mapping[str, Any]
    """generation_config.json."""
    config: Mapping[str, Any]
    """config.json."""
    vocab_size: int
    """Rows of the embedding."""
    tokens: Mapping[int, str]
    """Text by id, the added tokens included."""
    added: Mapping[int, AddedToken]
    merges: tuple[tuple[str, str], ...]
    byte_level: bool
    """Whether merges run over bytes in GPT-2's alphabet, else over SentencePiece's text."""

    def id_of(self, text: str) -> int | None:
        """The id of a token by its text; an added token goes first."""
        for known in (self.added, self.tokens):
            for number, token in known.items():
                if (token.content if isinstance(token, AddedToken) else token) == text:
                    return number
        return None


def read_source(config: Mapping[str, Any], files: Mapping[str, bytes]) -> SourceTokenizer:
    """Read the tokenizer's files.

    Raises ConversionError for missing or malformed files, for kinds of tokenizer that llama.cpp
    does not have, and for ids without a row in the embedding.
    """
    if "tokenizer.json" not in files:
        raise ConversionError(
            "tokenizer.json is not there; expected it beside config.json. Save the tokenizer with "
            "transformers (AutoTokenizer.from_pretrained(...).save_pretrained(...)) to make one"
        )
    tokenizer = json_file(files, "tokenizer.json")
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else model
        raise ConversionError(
            f"tokenizer.json: model.type is {kind!r}; expected 'BPE' (byte-level as in GPT-2 or "
            f"with byte fallback as in Llama 2), the kinds that these conversions know"
        )
    _refuse_unsupported(model)
    byte_level = "ByteLevel" in _types(tokenizer.get("pre_tokenizer"))
    size = vocab_size_of(config)
    tokens, added = _tokens_of(tokenizer, size, byte_level)
    settings = json_file(files, "special_tokens_map.json") | json_file(
        files, "tokenizer_config.json"
    )
    return SourceTokenizer(
        tokenizer,
        settings,
        json_file(files, "generation_config.json"),
        config,
        size,
        tokens,
        added,
        tuple(_pair(merge) for merge in model.get("merges") or ()),
        byte_level,
    )


def _tokens_of(
    tokenizer: Mapping[str, Any], size: int, byte_level: bool
) -> tuple[dict[int, str], dict[int, AddedToken]]:
    """Texts and added tokens by id, as far as the embedding has rows.

    A SentencePiece model may name added tokens beyond (Gemma 3 does, for images that its text
    models cannot see); they are left to tokenizer.json.
    """
    added = {
        int(token["id"]): AddedToken(
            token["content"], bool(token.get("special")), bool(token.get("rstrip"))
        )
        for token in tokenizer.get("added_tokens") or ()
    }
    tokens = {int(number): text for text, number in tokenizer["model"].get("vocab", {}).items()}
    tokens |= {number: token.content for number, token in added.items()}
    beyond = {number: text for number, text in tokens.items() if number >= size}
    if any(byte_level or number not in added for number in beyond):
        number = max(beyond)
        raise ConversionError(
            f"tokenizer.json: token {beyond[number]!r} has id {number}, but config.json's "
            f"vocab_size is {size}; expected a row in the embedding for every token"
        )
    return (
        {number: text for number, text in tokens.items() if number < size},
        {number: token for number, token in added.items() if number < size},
    )


def json_file(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """A file's JSON object; {} if it is not there. Raises ConversionError if it is malformed."""
    if name not in files:
        return {}
    try:
        value = json.loads(files[name])
    except ValueError as error:
        raise ConversionError(f"{name}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{name}: holds {type(value).__name__}; expected a JSON object")
    return value


def vocab_size_of(config: Mapping[str, Any]) -> int:
    """config.json's vocab_size, the text model's where there are several."""
    inner = config.get("text_config")
    size = config.get("vocab_size") or (inner.get("vocab_size") if inner else None)
    if not isinstance(size, int) or size < 1:
        raise ConversionError(
            f"config.json: vocab_size is {size!r}; expected the number of rows of the embedding"
        )
    return size


def _refuse_unsupported(model: Mapping[str, Any]) -> None:
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ConversionError(
                f"tokenizer.json: model.{name} is {model[name]!r}, which llama.cpp does not do; "
                f"expected none"
            )


def _types(part: Mapping[str, Any] | None) -> list[str]:
    if part is None:
        return []
    inner = part.get("pretokenizers") or part.get("normalizers") or ()
    return [str(part.get("type")), *(kind for each in inner for kind in _types(each))]


def _pair(merge: object) -> tuple[str, str]:
    """A merge in either spelling: "left right", or the two in a list."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) for p in parts):
        return parts[0], parts[1]
    raise ConversionError(f"tokenizer.json: merge {merge!r} is malformed; expected two texts")


def special_ids(source: SourceTokenizer) -> dict[str, int]:
    """By name (bos, eos, ...), the ids of the special tokens that the files name.

    tokenizer_config.json and special_tokens_map.json name texts and go first, config.json names
    ids: the order of llama.cpp's converter (gguf.SpecialVocab). Raises ConversionError for a
    text that is no token and for an id that is out of range.
    """
    found = {}
    inner = source.config.get("text_config") or {}
    for name in SPECIAL_NAMES:
        entry = source.settings.get(f"{name}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(text, str):
            number = source.id_of(text)
            where = f"tokenizer_config.json: {name}_token {text!r}"
        else:
            number = source.config.get(f"{name}_token_id", inner.get(f"{name}_token_id"))
            where = f"config.json: {name}_token_id {number!r}"
            if not isinstance(number, int) or number < 0:
                continue
        if number is None or number >= source.vocab_size:
            raise ConversionError(
                f"{where} is no token of the model; expected one of tokenizer.json with an id "
                f"below {source.vocab_size} (vocab_size)"
            )
        found[name] = number
    return found


def added_around(source: SourceTokenizer, specials: Mapping[str, int]) -> tuple[bool, bool]:
    """Whether the tokenizer puts BOS before and EOS after a text.

    tokenizer.json's post-processor decides, seen by letting it encode a text: transformers since
    5.0 drops tokenizer_config.json's add_bos_token and add_eos_token where there is a
    tokenizer.json (PreTrainedTokenizerBase._from_pretrained). Raises ConversionError for anything
    else that it adds.
    """
    if source.tokenizer.get("post_processor") is None:
        return False, False
    # The post-processor alone, around one letter: the whole vocabulary takes seconds to load.
    model = {"type": "BPE", "vocab": {"a": source.vocab_size}, "merges": []}
    parts = {"version": "1.0", "added_tokens": [], "model": model}
    encoder = loaded_tokenizer(parts | {"post_processor": source.tokenizer["post_processor"]})
    plain = [source.vocab_size]
    full = encoder.encode("a", add_special_tokens=True).ids
    start = next((i for i in range(len(full)) if full[i : i + len(plain)] == plain), None)
    if start is None:
        raise ConversionError(
            f"tokenizer.json: the post-processor makes {full} of the tokens {plain}; expected it "
            f"to add tokens around them, which is all that llama.cpp can do"
        )
    before, after = full[:start], full[start + len(plain) :]
    for name, ids in (("bos", before), ("eos", after)):
        if ids and ids != [specials.get(name)]:
            raise ConversionError(
                f"tokenizer.json: the post-processor adds tokens {ids} "
                f"{'before' if name == 'bos' else 'after'} a text; expected none or the "
                f"{name}_token ({specials.get(name)}), which is all that llama.cpp can add"
            )
    return bool(before), bool(after)


def loaded_tokenizer(tokenizer: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes; ConversionError if it does not load."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(tokenizer))
    except Exception as error:  # the library raises nothing narrower
        raise ConversionError(
            f"tokenizer.json: the tokenizers library does not load it: {error}"
        ) from error


def chat_templates(files: Mapping[str, bytes]) -> dict[str, str]:
    """By name, the chat templates; `default` is the one without a name.

    chat_template.jinja goes before tokenizer_config.json, as in transformers, and
    chat_template.json, which only processors read, comes last.
    """
    if "chat_template.jinja" in files:
        try:
            return {"default": files["chat_template.jinja"].decode()}
        except UnicodeDecodeError as error:
            raise ConversionError(f"chat_template.jinja: not UTF-8: {error}") from error
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = json_file(files, name).get("chat_template")
        if isinstance(template, str):
            return {"default": template}
        if isinstance(template, list):
            return {each["name"]: each["template"] for each in template}
        if isinstance(template, dict):
            return dict(template)
    return {}
