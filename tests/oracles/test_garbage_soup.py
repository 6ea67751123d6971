from __future__ import annotations

import random
import re
from importlib.resources import as_file, files

import pytest
from tokenizers import Tokenizer

from pytest_aprqa.oracles import judge
from pytest_aprqa.oracles.garbage import trigrams
from tests.oracles.garbage_cases import SOUP

_BROKEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")


def drawn_soups(count: int, tokens: int) -> list[str]:
    """Decode random tokens of the embedded model; no draw holds what another rule forbids."""
    with as_file(files("pytest_aprqa") / "models/aprqa-tiny/tokenizer.json") as path:
        tokenizer = Tokenizer.from_file(str(path))
    ordinary = range(tokenizer.get_vocab_size())
    whole = [token for token in ordinary if not _BROKEN.search(tokenizer.decode([token]))]
    rng = random.Random(2024)
    return [tokenizer.decode(rng.choices(whole, k=tokens)) for _ in range(count)]


@pytest.mark.parametrize(("tokens", "share"), [(24, 0.8), (40, 0.98), (64, 0.99)])
def test_random_tokens_of_the_embedded_model_are_soup(tokens: int, share: float) -> None:
    soups = drawn_soups(400, tokens)
    missed = [soup for soup in soups if judge("garbage", "Tell me.", soup).corroborated]
    assert len(missed) <= (1 - share) * len(soups), missed[:5]


def test_a_good_beginning_does_not_hide_soup() -> None:
    good = "The capital of France is Paris. "
    missed = [s for s in drawn_soups(200, 80) if not judge("garbage", "?", good + s).falsified]
    assert len(missed) <= 10, missed[:5]


def test_healthy_texts_many_windows_long_are_no_soup() -> None:
    assert trigrams.problem("\n\n".join(case[0] for case in SOUP if case[1])) is None


def test_what_is_known_too_little_of_is_not_judged() -> None:
    for answer in ("", "4", "x=3", "Paris", "\u4f60\u597d\u4e16\u754c" * 40, "\U0001f642" * 90):
        assert trigrams.evidence(answer) == 0.0
