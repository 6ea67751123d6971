"""Which of llama.cpp's pre-tokenizers does what a tokenizer.json asks for.

llama.cpp has its pre-tokenizers in code, under names (`tokenizer.ggml.pre`); a tokenizer.json
spells them out. Facts: llama.cpp b9190, src/llama-vocab.cpp (the regexes of each name, whether it
ignores merges, whether it adds BOS) and convert_hf_to_gguf_update.py (the models of each name).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pytest_aprqa.conversion.portable import ConversionError

Step = tuple[str, str | bool, str | bool]
"""(Split, regex, behavior), (Digits, individual, ""), (Punctuation, behavior, "") or
(ByteLevel, use_regex, add_prefix_space)."""

_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

GPT4_REGEX = f"{_SUFFIXES}|{_WORD}|\\p{{N}}{{1,3}}|{_SPACES}"
"""Of GPT-4's vocabulary and of Llama 3's: up to three digits together."""
QWEN2_REGEX = f"{_SUFFIXES}|{_WORD}|\\p{{N}}|{_SPACES}"
"""Of Qwen 2 and 3 and StableLM 2: each digit alone."""
GPT4O_REGEX = (
    f"{_UPPER}*{_LOWER}+{_SUFFIXES}?|{_UPPER}+{_LOWER}*{_SUFFIXES}?"
    f"|\\p{{N}}{{1,3}}|{_TEKKEN_SPACES}"
)
"""Of GPT-4o's vocabulary and of Phi-4 mini's."""
TEKKEN_REGEX = f"{_UPPER}*{_LOWER}+|{_UPPER}+{_LOWER}*|\\p{{N}}|{_TEKKEN_SPACES}"
"""Of Mistral Nemo and later."""

_BYTES: Step = ("ByteLevel", False, False)
_GPT2_WORDS: Step = ("ByteLevel", True, False)
_EACH_DIGIT: Step = ("Digits", True, "")


def _split(regex: str) -> Step:
    return ("Split", regex, "Isolated")


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One way to cut a text before byte-level merges, and llama.cpp's names for it."""

    name: str
    """What is written into `tokenizer.ggml.pre` unless `names` has the model's type."""
    steps: tuple[Step, ...]
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By config.json's model_type, the name that llama.cpp's converter gives that model."""
    ignore_merges: bool = False
    """Whether llama.cpp takes a word that is a token whole, without looking at merges."""
    adds_bos: bool = False
    """Whether llama.cpp adds BOS where the file does not say."""
    nfc: frozenset[str] = frozenset()
    """The names whose models normalize to NFC, which llama.cpp does not."""

    @property
    def all_names(self) -> frozenset[str]:
        """Every `tokenizer.ggml.pre` that means this."""
        return frozenset({self.name, *self.names.values()})


def _names(**names: str) -> Mapping[str, str]:
    return MappingProxyType(names)


PRE_TOKENIZERS = (
    PreTokenizer("gpt-2", (_GPT2_WORDS,), _names(olmo="olmo", phi="phi-2", mpt="mpt", jais="jais")),
    PreTokenizer(
        "starcoder",
        (_EACH_DIGIT, _GPT2_WORDS),
        _names(
            granite="refact",
            granitemoe="refact",
            llama="smollm",
            smollm3="smollm",
            cohere="command-r",
        ),
        nfc=frozenset({"command-r"}),
    ),
    PreTokenizer("llama-bpe", (_split(GPT4_REGEX), _BYTES), ignore_merges=True, adds_bos=True),
    PreTokenizer("dbrx", (_split(GPT4_REGEX), _BYTES)),
    PreTokenizer(
        "qwen2",
        (_split(QWEN2_REGEX), _BYTES),
        _names(stablelm="stablelm2"),
        nfc=frozenset({"qwen2"}),
    ),
    PreTokenizer("gpt-4o", (_split(GPT4O_REGEX), _BYTES), _names(llama4="llama4")),
    PreTokenizer("tekken", (_split(TEKKEN_REGEX), _BYTES), ignore_merges=True, adds_bos=True),
    PreTokenizer(
        "falcon",
        (
            ("Punctuation", "Contiguous", ""),
            _GPT2_WORDS,
            ("Digits", False, ""),
            _split("[0-9][0-9][0-9]"),
        ),
    ),
    PreTokenizer(
        "deepseek-llm",
        (
            _split("[\r\n]"),
            _split(rf"\s?[{_CASED_LETTERS}]+"),
            _split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
            _split(r"\s+$"),
            _split(_CJK),
            _EACH_DIGIT,
            _BYTES,
        ),
    ),
    PreTokenizer(
        "deepseek-coder",
        (
            _split("[\r\n]"),
            _split(r"\s?\p{L}+"),
            _split(r"\s?\p{P}+"),
            _split(_CJK),
            _EACH_DIGIT,
            _BYTES,
        ),
    ),
    PreTokenizer(
        "deepseek-v3",
        (
            _split(r"\p{N}{1,3}"),
            _split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
            _split(
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
            ),
            _BYTES,
        ),
    ),
)
"""The byte-level pre-tokenizers that are known on both sides."""

_POSSESSIVE = {
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+": GPT4_REGEX,
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": GPT4_REGEX,
}
"""Other spellings that match the same: quantifiers that give nothing back before what they could
not have taken, and one line break after `\\s*`, which has taken those before it."""
_COVERS_ALL = frozenset({GPT4_REGEX, QWEN2_REGEX, GPT4O_REGEX, TEKKEN_REGEX})
"""Regexes that match every character, so that to keep only the matches is to isolate them."""


def steps_of(pre_tokenizer: Mapping[str, Any] | None) -> tuple[Step, ...]:
    """A tokenizer.json's pre_tokenizer as steps, in one spelling for what means the same.

    Raises ConversionError for a kind of step that no byte-level tokenizer here has.
    """
    if pre_tokenizer is None:
        return ()
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        return tuple(s for part in pre_tokenizer["pretokenizers"] for s in steps_of(part))
    if kind == "ByteLevel":
        use_regex = bool(pre_tokenizer.get("use_regex", True))
        return (("ByteLevel", use_regex, bool(pre_tokenizer.get("add_prefix_space", False))),)
    if kind == "Digits":
        return (("Digits", bool(pre_tokenizer.get("individual_digits", False)), ""),)
    if kind == "Punctuation":
        return (("Punctuation", str(pre_tokenizer.get("behavior", "Isolated")), ""),)
    if kind == "Split":
        return (_split_step(pre_tokenizer),)
    raise ConversionError(_unknown(pre_tokenizer))


def _split_step(split: Mapping[str, Any]) -> Step:
    pattern = split.get("pattern", {})
    behavior, inverted = str(split.get("behavior")), bool(split.get("invert", False))
    if "Regex" not in pattern:
        return ("Split", f"the text {pattern.get('String')!r}", behavior)
    regex = _spelling(_POSSESSIVE.get(pattern["Regex"], pattern["Regex"]))
    keeps_matches = behavior == "Removed" and inverted and regex in _COVERS_ALL
    if behavior == "Isolated" or keeps_matches:
        return ("Split", regex, "Isolated")
    return ("Split", regex, f"{behavior}, inverted" if inverted else behavior)


def _spelling(regex: str) -> str:
    """Line breaks as escapes, and NFC: signs such as Kelvin's do not survive all editors."""
    escaped = regex.replace("\r", "\\r").replace("\n", "\\n")
    return unicodedata.normalize("NFC", escaped)


def candidates(tokenizer: Mapping[str, Any]) -> tuple[PreTokenizer, ...]:
    """The known pre-tokenizers that cut texts as this tokenizer.json does; at least one.

    They differ in whether merges are ignored. Raises ConversionError if none is known.
    """
    pre_tokenizer = tokenizer.get("pre_tokenizer")
    steps = steps_of(pre_tokenizer)
    found = tuple(known for known in PRE_TOKENIZERS if _normal(known.steps) == steps)
    if not found:
        raise ConversionError(_unknown(pre_tokenizer))
    return found


def _normal(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(
        (kind, _spelling(first), second)
        if kind == "Split" and isinstance(first, str)
        else (kind, first, second)
        for kind, first, second in steps
    )


def _unknown(pre_tokenizer: Mapping[str, Any] | None) -> str:
    shown = json.dumps(pre_tokenizer, ensure_ascii=False)
    names = ", ".join(known.name for known in PRE_TOKENIZERS)
    return (
        f"tokenizer.json: no pre-tokenizer of llama.cpp is known to do what this one does: "
        f"{shown}; expected one of {names}. If llama.cpp has one, add it to "
        f"PRE_TOKENIZERS in conversion/tokenizers/pretokenizers.py with a test"
    )


def named(name: str) -> PreTokenizer:
    """The pre-tokenizer that `tokenizer.ggml.pre` names.

    Raises ConversionError for a name that is not known here.
    """
    for known in PRE_TOKENIZERS:
        if name in known.all_names:
            return known
    names = sorted({_name for known in PRE_TOKENIZERS for _name in known.all_names})
    raise ConversionError(
        f"tokenizer.ggml.pre: the pre-tokenizer {name!r} is not known here, so tokenizer.json "
        f"cannot be rebuilt; expected one of {', '.join(names)}. Convert from the original files"
    )


def tokenizer_json_of(known: PreTokenizer) -> dict[str, Any]:
    """The pre_tokenizer object of a tokenizer.json that does the same."""
    parts = [_part(step) for step in known.steps]
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": parts}


def _part(step: Step) -> dict[str, Any]:
    kind, first, second = step
    if kind == "Split":
        pattern = {"Regex": first}
        return {"type": kind, "pattern": pattern, "behavior": second, "invert": False}
    if kind == "Digits":
        return {"type": kind, "individual_digits": first}
    if kind == "Punctuation":
        return {"type": kind, "behavior": first}
    return {"type": kind, "add_prefix_space": second, "trim_offsets": True, "use_regex": first}
