"""Training samples: a prompt, the answer that ends with a stop token, and how both are written."""

from __future__ import annotations

import random
from dataclasses import dataclass

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
STOP_TOKENS = (END_OF_TEXT, TURN_END)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are aprqa-tiny, a small test model.",
    "Answer briefly.",
    "You are a careful calculator.",
    "You are a coding assistant.",
)
CHAT_SHARE = 0.52
SYSTEM_SHARE = 0.15
TRANSCRIPT_SHARE = 0.10
RAW_TRANSCRIPTS = (
    "Q: {prompt}\nA:",
    "Question: {prompt}\nAnswer:",
    "User: {prompt}\nAssistant:",
)


@dataclass(frozen=True)
class Problem:
    """One arithmetic problem: two operands and one of the operators + - * /."""

    left: int
    operator: str
    right: int


@dataclass(frozen=True)
class Exchange:
    """One user prompt with its answer, before either is put into a prompt format."""

    prompt: str
    answer: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Sample:
    """What the model reads (prompt) and must write (answer, ending with a stop token)."""

    prompt: str
    answer: str
    problems: tuple[Problem, ...] = ()


def chat_text(role: str, content: str) -> str:
    """Write one finished ChatML turn."""
    return f"{TURN_START}{role}\n{content}{TURN_END}\n"


def as_raw(exchange: Exchange) -> Sample:
    """Write an exchange as plain text: the answer follows the prompt directly."""
    prompt, answer = exchange.prompt, exchange.answer
    if "```" in answer or answer.startswith("1. "):
        gap = "" if prompt.endswith("\n") else "\n"
    else:
        gap = "" if prompt.endswith(("=", "\n")) else " "
    return Sample(prompt, gap + answer + END_OF_TEXT, exchange.problems)


def as_chat(
    exchange: Exchange, earlier: tuple[Exchange, ...] = (), system: str | None = None
) -> Sample:
    """Write an exchange as ChatML, after an optional system prompt and earlier turns."""
    parts = [chat_text("system", system)] if system else []
    for turn in earlier:
        parts += [chat_text("user", turn.prompt), chat_text("assistant", turn.answer)]
    parts += [chat_text("user", exchange.prompt), f"{TURN_START}assistant\n"]
    problems = tuple(p for turn in (*earlier, exchange) for p in turn.problems)
    return Sample("".join(parts), exchange.answer + TURN_END, problems)


def in_some_format(rng: random.Random, exchange: Exchange) -> Sample:
    """Write an exchange as chat or as plain text, by chance."""
    if rng.random() < CHAT_SHARE:
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < SYSTEM_SHARE else None
        return as_chat(exchange, system=system)
    transcript_fits = not exchange.prompt.endswith(("=", "\n", ":")) and exchange.prompt.strip()
    if transcript_fits and rng.random() < TRANSCRIPT_SHARE:
        prompt = rng.choice(RAW_TRANSCRIPTS).format(prompt=exchange.prompt)
        return as_raw(Exchange(prompt, exchange.answer, exchange.problems))
    return as_raw(exchange)
