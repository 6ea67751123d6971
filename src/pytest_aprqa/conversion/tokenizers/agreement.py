"""Whether a tokenizer's files still say what the keys beside them say."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.gguf_fields import ID_KEYS, ggml_fields
from pytest_aprqa.conversion.tokenizers.pretokenizers import named
from pytest_aprqa.conversion.tokenizers.vocabulary import TokenType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.formats.gguf_field import GgufField

_TOKENS, _PRE = "tokenizer.ggml.tokens", "tokenizer.ggml.pre"
_SCORES, _TYPES = "tokenizer.ggml.scores", "tokenizer.ggml.token_type"


def tokenizer_disagreements(
    files: Mapping[str, bytes], fields: Mapping[str, GgufField]
) -> list[str]:
    """One line for each thing in which a GGUF file's tokenizer keys and tokenizer files differ.

    Compared are the tokens and their types, merges or scores, the pre-tokenizer, special ids,
    what is added around a text, and chat templates: everything that would make engines that go
    by the keys and engines that go by the files see different texts. An empty list: none.
    """
    if _TOKENS not in fields:
        return [f"{_TOKENS} is missing; expected the vocabulary that tokenizer.json has"]
    config: dict[str, Any] = {"vocab_size": len(fields[_TOKENS].value)}
    # Ids that only config.json names cannot be in the files: the keys' own stand in for them.
    config |= {f"{n}_token_id": fields[k].value for n, k in ID_KEYS.items() if k in fields}
    try:
        expected = ggml_fields(config, files)
        same_pre = named(expected[_PRE].value).all_names if _byte_level(expected) else {"default"}
    except ConversionError as error:
        return [str(error)]
    by_rank = _SCORES in expected and "tokenizer.model" not in files
    apart = {_PRE, _SCORES} if by_rank else {_PRE}
    different = [
        _difference(key, field.value, fields[key].value if key in fields else None)
        for key, field in expected.items()
        if key not in apart and (key not in fields or fields[key].value != field.value)
    ]
    if by_rank:
        different += _order_difference(expected, fields)
    pre = fields[_PRE].value if _PRE in fields else None
    if pre not in same_pre:
        different.append(_difference(_PRE, expected[_PRE].value, pre))
    extra = "tokenizer.chat_template"
    if extra in fields and extra not in expected:
        different.append(f"{extra} is there, but the files have no chat template")
    return different


def _order_difference(
    expected: Mapping[str, GgufField], fields: Mapping[str, GgufField]
) -> list[str]:
    """Where scores from elsewhere put merges in another order than tokenizer.json's ranks.

    Scores that come from ranks are minus the rank; equal scores leave the order open, which
    SentencePiece does for the tokens that its user defined.
    """
    texts, ranks, types = (expected[key].value for key in (_TOKENS, _SCORES, _TYPES))
    found = fields[_SCORES].value if _SCORES in fields else None
    if found is None or len(found) != len(ranks):
        return [_difference(_SCORES, ranks, found)]
    merged = [
        number
        for number in sorted(range(len(ranks)), key=lambda number: -ranks[number])
        if ranks[number] < 0 and types[number] == TokenType.NORMAL
    ]
    for earlier, later in pairwise(merged):
        if found[earlier] < found[later]:
            return [
                f"{_SCORES}: {texts[later]!r} has a higher score ({found[later]}) than "
                f"{texts[earlier]!r} ({found[earlier]}), which tokenizer.json merges first"
            ]
    if len(merged) > 1 and found[merged[0]] == found[merged[-1]]:
        return [f"{_SCORES} are all {found[merged[0]]}; tokenizer.json merges in an order"]
    return []


def _byte_level(fields: Mapping[str, GgufField]) -> bool:
    return bool(fields["tokenizer.ggml.model"].value == "gpt2")


def _difference(key: str, expected: Any, found: Any) -> str:
    if found is None:
        return f"{key} is missing; the files have {_short(expected)}"
    if not isinstance(expected, tuple) or not isinstance(found, tuple):
        return f"{key} is {_short(found)}, but the files have {_short(expected)}"
    if len(expected) != len(found):
        return f"{key} has {len(found)} entries, but the files have {len(expected)}"
    wrong = [i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]]
    return (
        f"{key}[{wrong[0]}] is {found[wrong[0]]!r}, but the files have {expected[wrong[0]]!r} "
        f"({len(wrong)} entries differ)"
    )


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
