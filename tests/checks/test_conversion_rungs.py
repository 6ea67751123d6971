"""Each rung alone: what reaches it, and what does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.conversion_rungs import (
    compare_answers,
    compare_label,
    compare_logits,
    compare_tokens,
    kl_divergence,
)
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.tolerance import FOREIGN_TOKENS, KLD_CAP, LogitTolerance
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor

Logits = np.ndarray[Any, Any]
LIMIT = LogitTolerance(1e-3, 0.9, nmse=1e-3)
LOOSE = LogitTolerance(0.5, 0.5)
VOCABULARY = 32


@dataclass
class Scripted:
    """An engine of 32 tokens whose tokens and logits are what the test says."""

    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    likely: Sequence[int] = (0, 1, 2, 3, 4)
    """The most probable next tokens after any text, best first."""
    asked: list[tuple[int, ...]] = field(default_factory=list)
    name: str = "scripted"
    version = device = "scripted"
    has_chat_template = False
    context_length = None

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        return self.tokens.get(text, (1, len(text)))

    def logits(self, token_ids: Sequence[int]) -> Logits:
        self.asked.append(tuple(token_ids))
        row = np.zeros(VOCABULARY, np.float32)
        for place, token in enumerate(self.likely):
            row[token] = 10 - place
        return np.tile(row, (len(token_ids), 1))

    def generate(self, request: GenerationRequest) -> Completion:
        raise AssertionError("no rung asks an engine itself")

    def describe(self) -> dict[str, str]:
        return {"engine": "scripted"}

    def close(self) -> None:
        """There is nothing to free."""


def answer(*token_ids: int, text: str = "words") -> Completion:
    return Completion(
        text, token_ids, 2, FinishReason.STOP, 0.1, 0.2, 1, "Question?", prompt_token_ids=(8, 9)
    )


def logits(seed: int = 0, positions: int = 100) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, (positions, VOCABULARY)).astype(np.float32)


def test_equal_logits_pass_with_no_divergence() -> None:
    rung = compare_logits(logits(), logits(), LIMIT)
    assert rung.passed
    assert rung.measurements == {"logits_kld": 0.0, "logits_top1": 1.0, "logits_nmse": 0.0}
    assert rung.verdict.reason == (
        "100 positions: KL 0 (at most 0.001), same top token 100.0% (at least 90.0%), "
        "NMSE 0 (at most 0.001)"
    )


def test_divergence_is_that_of_the_distributions() -> None:
    p, q = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    expected = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert kl_divergence(p, q + 7) == pytest.approx([expected, 0.0])  # a shift changes nothing
    assert kl_divergence(np.tile(p[:1], (200, 1)), np.tile(q[:1], (200, 1))) == pytest.approx(
        np.full(200, expected)
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (logits() * np.float32(1.01), "(at least 90.0%), NMSE 0.0001"),
        (logits() + np.random.default_rng(1).normal(0, 0.2, (100, 32)).astype(np.float32), "100 "),
        (np.roll(logits(), 1, axis=0), "100 positions: KL "),
        (logits() + np.float32(5), "same top token 100.0% (at least 90.0%), NMSE 2"),
        (logits(positions=99), "logits of the shape (99, 32); expected (100, 32)"),
        (logits()[:, :31], "logits of the shape (100, 31); expected (100, 32)"),
        (np.where(np.arange(32) == 3, np.nan, logits()), "logits hold NaN or infinities"),
        (np.where(np.arange(32) == 3, -np.inf, logits()), "logits hold NaN or infinities"),
    ],
    ids=["scaled", "noisy", "a position late", "moved", "one less", "narrower", "NaN", "infinite"],
)
def test_other_logits_do_not_pass(other: Logits, told: str) -> None:
    rung = compare_logits(logits(), other, LogitTolerance(1e-4, 0.9, nmse=5e-5))
    assert not rung.passed
    assert told in rung.verdict.reason, rung.verdict.reason


def test_each_limit_decides_by_itself() -> None:
    other = logits() + np.random.default_rng(1).normal(0, 0.2, (100, 32)).astype(np.float32)
    found = compare_logits(logits(), other, LOOSE).measurements
    kld, top1, nmse = (found[f"logits_{name}"] for name in ("kld", "top1", "nmse"))
    assert 0 < kld < 0.5
    assert 0.5 < top1 < 1
    assert compare_logits(logits(), other, LogitTolerance(kld, top1, nmse)).passed
    assert not compare_logits(logits(), other, LogitTolerance(kld * 0.99, top1, nmse)).passed
    assert not compare_logits(logits(), other, LogitTolerance(kld, top1 + 0.01, nmse)).passed
    assert not compare_logits(logits(), other, LogitTolerance(kld, top1, nmse * 0.99)).passed


def test_one_hopeless_position_counts_a_nat_at_most() -> None:
    sure = np.zeros((100, VOCABULARY), np.float32)
    sure[:, 3] = 30
    other = sure.copy()
    other[50] = np.roll(other[50], 1)
    found = compare_logits(sure, other, LOOSE).measurements
    assert kl_divergence(sure, other).max() > 20
    assert found["logits_kld"] == pytest.approx(KLD_CAP / 100, rel=1e-6)
    assert found["logits_top1"] == 0.99


def test_a_reference_of_nan_is_not_reached() -> None:
    broken = np.full((4, VOCABULARY), np.nan, np.float32)
    assert not compare_logits(broken, logits(positions=4), LOOSE).passed


def test_equal_tokens_pass() -> None:
    rung = compare_tokens(Scripted(), Scripted(), ("Hello",))
    total = len(ADVERSARIAL_TEXTS)
    assert rung.passed
    told = f"1 prompts and {total} of {total} adversarial texts have the same ids"
    assert rung.verdict.reason == told


def test_one_prompt_of_other_tokens_does_not_pass() -> None:
    rung = compare_tokens(Scripted(), Scripted({"Hello": (7, 7)}), ("Hi", "Hello"))
    assert not rung.passed
    assert rung.verdict.reason == "'Hello' becomes (7, 7); expected (1, 5)"


def test_a_few_foreign_cuts_pass_and_more_do_not() -> None:
    allowed = int(len(ADVERSARIAL_TEXTS) * FOREIGN_TOKENS)
    few = Scripted(dict.fromkeys(ADVERSARIAL_TEXTS[:allowed], (7,)), name="foreign")
    many = Scripted(dict.fromkeys(ADVERSARIAL_TEXTS[: allowed + 1], (7,)), name="foreign")
    passed, failed = (compare_tokens(Scripted(), other, ()) for other in (few, many))
    assert passed.passed
    assert not failed.passed
    assert "the first other one is" in failed.verdict.reason
    share = (allowed + 1) / len(ADVERSARIAL_TEXTS)
    assert failed.measurements == {"adversarial_texts_different": share}


def test_one_library_cuts_every_text_alike() -> None:
    other = Scripted({ADVERSARIAL_TEXTS[0]: (7,)})
    assert not compare_tokens(Scripted(), other, ()).passed
    assert compare_tokens(Scripted(), replace(other, name="foreign"), ()).passed


def rung_of_answers(
    one: Completion, two: Completion, first: Scripted, second: Scripted
) -> tuple[bool, str]:
    rung = compare_answers([one], first, [two], second, LIMIT)
    return rung.passed, rung.verdict.reason


def test_equal_answers_pass_without_asking_again() -> None:
    engine = Scripted()
    passed, reason = rung_of_answers(answer(1, 2), answer(1, 2), engine, engine)
    assert passed
    assert reason == "1 of 1 greedy answers equal, 1 equal or close (at least 90.0%)"
    assert engine.asked == []


def test_answers_that_part_at_a_near_tie_are_close() -> None:
    first, second = Scripted(likely=(5, 6, 7, 8, 9)), Scripted(likely=(6, 7, 8, 9, 5))
    passed, reason = rung_of_answers(answer(1, 5, 3), answer(1, 6), first, second)
    assert passed
    assert reason == "0 of 1 greedy answers equal, 1 equal or close (at least 90.0%)"
    assert first.asked == second.asked == [(8, 9, 1)]  # the prompt and what is common


@pytest.mark.parametrize(
    ("first", "second"),
    [((5, 6, 7, 8, 9), (6, 7, 8, 9, 10)), ((5, 7, 8, 9, 10), (6, 5, 7, 8, 9))],
    ids=["not the other's", "not the original's"],
)
def test_answers_that_part_for_no_reason_are_not(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    passed, reason = rung_of_answers(
        answer(1, 5), answer(1, 6), Scripted(likely=first), Scripted(likely=second)
    )
    assert not passed
    assert reason == "0 of 1 greedy answers equal, 0 equal or close (at least 90.0%)"


def test_an_answer_that_stops_short_is_not_close() -> None:
    passed, _ = rung_of_answers(answer(1, 2, 3), answer(1, 2), Scripted(), Scripted())
    assert not passed


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_an_empty_answer_does_not_pass_whatever_the_limit(nothing: str) -> None:
    pairs = [answer(1)] * 9
    silent = answer(1, text=nothing)
    rung = compare_answers([*pairs, answer(1)], Scripted(), [*pairs, silent], Scripted(), LOOSE)
    assert not rung.passed
    told = "1 answers are empty, the first to 'Question?'; the original's is 'words'"
    assert rung.verdict.reason == told


def test_silence_where_the_original_is_silent_is_no_loss() -> None:
    silent = answer(text="")
    assert rung_of_answers(silent, silent, Scripted(), Scripted())[0]


def labelled(directory: Path, **encodings: str) -> Path:
    """A model's directory with one matrix of each encoding, named as given."""
    directory.mkdir()
    values = np.ones((64, 32), np.float32)

    def one(name: str, encoding: str) -> Tensor:
        data = encode(encoding, values)
        return Tensor(f"{name}.weight", encoding, values.shape, lambda: data)

    tensors = [one(name, encoding) for name, encoding in encodings.items()]
    write_safetensors(directory, tensors, metadata={})
    (directory / "config.json").write_text(json.dumps({}))
    return directory


def test_the_label_is_what_most_matrices_are_in(tmp_path: Path) -> None:
    path = labelled(tmp_path / "m", a="F16", b="F16", c="F32", embed_1="F32", embed_2="F32")
    rung = compare_label(path, Format.GGUF, Quantization.F16)
    assert rung.passed, rung.verdict.reason
    wrong = compare_label(path, Format.GGUF, Quantization.Q4_K_M)
    assert not wrong.passed
    assert wrong.verdict.reason == "most of the matrices are F16; q4_k_m is Q4_K"


def test_a_file_without_matrices_has_no_label(tmp_path: Path) -> None:
    rung = compare_label(
        labelled(tmp_path / "m", embed="F16"),
        Format.GGUF,
        Quantization.F16,
    )
    assert not rung.passed
    assert rung.verdict.reason == "most of the matrices are none; f16 is F16"
