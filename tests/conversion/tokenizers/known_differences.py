"""Where llama.cpp b9190 gives other ids than transformers, text by text and with the reason.

Each is asserted to differ, so that a llama.cpp which does it right is noticed.
"""

# Letters that look alike are what these texts are for.

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS

_NOT_NFC = tuple(text for text in ADVERSARIAL_TEXTS if unicodedata.normalize("NFC", text) != text)
_NORMALIZED = {"llama.cpp has no normalizer, so a text that is not in NFC stays as it is": _NOT_NFC}

_STARTS_WITH_SPACE = tuple(text for text in ADVERSARIAL_TEXTS if text.startswith((" ", "▁")))
_AFTER_SPECIAL = ("<s>hello</s>", "[INST] hi [/INST] hello </s>", "<s<s>s>")
_MARKS = "llama.cpp spells a word's letters as \\p{L} only, so combining marks are cut off"
_DECOMPOSED = (
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "e\u0301\u0323\u0302 a\u0300\u0301\u0302\u0303",
    "A\u030angstr\u00f6m \u212b \u00c5",
)

KNOWN_DIFFERENCES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "mistral": {
        "Metaspace puts no space before a text that starts with one; llama.cpp does": (
            _STARTS_WITH_SPACE
        ),
        "Metaspace puts a space before the first piece only; llama.cpp after special tokens too": (
            _AFTER_SPECIAL
        ),
    },
    "qwen2": _NORMALIZED,
    "qwen3": _NORMALIZED,
    "mistral-nemo": {
        _MARKS: (
            *_DECOMPOSED,
            "नमस्ते दुनिया",
            "হ্যালো বিশ্ব",
            "வணக்கம் உலகம்",
            "తెలుగు కన్నడ മലയാളം",
            "สวัสดีชาวโลก",
            "កាន់តែពិសេសអាច😁",
            "a\ufe0fb\ufe0e",
        )
    },
    "phi-4-mini": {
        _MARKS: (
            *_DECOMPOSED,
            "नमस्ते दुनिया",
            "হ্যালো বিশ্ব",
            "வணக்கம் உலகம்",
            "తెలుగు కన్నడ മലയാളം",
            "สวัสดีชาวโลก",
            "កាន់តែពិសេសអាច😁",
            "a\ufe0fb\ufe0e",
        )
    },
    "gemma": {
        "the token for two spaces is spelled with them in llama.cpp and with ▁ in tokenizer.json": (
            "a▁b ▁c▁▁d",
        ),
        "llama.cpp takes the longest runs of spaces first, tokenizer.json joins the shortest": (
            " " * 70,
        ),
    },
    "gemma with plain runs": {
        "pieces that the user defined all score 0, so llama.cpp joins from the left where "
        "tokenizer.json joins the shortest first": (" " * 70, "\n" * 40)
    },
    "deepseek-v2": {
        "llama.cpp keeps digits together that tokenizer.json cuts apart": ("٠١٢٣٤٥ ०१२३४५ ๑๒๓",)
    },
}
"""By kind and reason, the texts whose ids differ."""

_LETTERS = {
    _MARKS: (
        *_DECOMPOSED,
        "नमस्ते दुनिया",
        "வணக்கம் உலகம்",
        "གངས་ཅན བོད་སྐད",
        "a\ufe0fb\ufe0e",
    ),
    "llama.cpp takes all letters but ASCII's as both upper and lower case": (
        "ПРИВЕТ привет ПриВет",
    ),
}
CUT_DIFFERENCES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "llama-3": {},
    "qwen2": _NORMALIZED,
    "phi-4": {},
    "granite": {},
    "olmo2": {},
    "starcoder2": {},
    "stablelm": {},
    "gpt2": {},
    "mistral-nemo": _LETTERS,
    "phi-4-mini": _LETTERS,
}
"""The same where merges join across every place at which a text should be cut.

Falcon and DeepSeek are not here: llama.cpp cuts their digits elsewhere than tokenizer.json, which
shows only with merges that tokenizers trained with these cuts cannot have.
"""

CLEANED = (
    "'s 't 're 've 'm 'll 'd",
    "'sun 'tea 'rest 'vein 'money 'llama 'dog",
    "if (a && b || !c) return a ? b : c;",
)
"""Texts that llama.cpp changes when it decodes for pre-tokenizers with `clean_spaces`."""
