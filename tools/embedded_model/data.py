"""The mixture of training samples, drawn from one seeded random generator."""

from __future__ import annotations

import random
from collections.abc import Callable

from embedded_model import arithmetic, chat_bank, chat_tasks, code_bank, code_tasks
from embedded_model.sample import SYSTEM_PROMPTS, Exchange, Sample, as_raw, in_some_format

SampleMaker = Callable[[random.Random], Sample]
# share of the text samples in the first stage, in the second, and what they hold
TEXT_MIXTURE: tuple[tuple[float, float, Callable[[random.Random], Exchange | Sample]], ...] = (
    (0.31, 0.18, code_tasks.instruction),
    (0.13, 0.11, code_tasks.completion),
    (0.25, 0.18, chat_tasks.fact),
    (0.03, 0.07, chat_tasks.json_reply),
    (0.02, 0.05, chat_tasks.say),
    (0.03, 0.07, chat_tasks.named),
    (0.10, 0.20, chat_tasks.conversation),
    (0.04, 0.02, chat_tasks.sentence),
    (0.09, 0.06, chat_tasks.unknown),
    (0.00, 0.06, chat_tasks.listing),
)


def bare_sample(rng: random.Random) -> Sample:
    """Draw a bare sum such as `2+2=`, the whole diet of the first training phase."""
    return as_raw(arithmetic.bare_exchange(rng))


def arithmetic_sample(rng: random.Random) -> Sample:
    """Draw an arithmetic problem in any trained phrasing and format."""
    return in_some_format(rng, arithmetic.exchange(rng))


def _mixed(rng: random.Random, shares: list[float]) -> Sample:
    maker = rng.choices([maker for _, _, maker in TEXT_MIXTURE], shares)[0]
    made = maker(rng)
    return made if isinstance(made, Sample) else in_some_format(rng, made)


def text_sample(rng: random.Random) -> Sample:
    """Draw a code, chat or fallback sample in the proportions of the first stage."""
    return _mixed(rng, [first for first, _, _ in TEXT_MIXTURE])


def late_text_sample(rng: random.Random) -> Sample:
    """Draw a text sample in the proportions of the second stage: more names, JSON and lists."""
    return _mixed(rng, [second for _, second, _ in TEXT_MIXTURE])


MAKERS: dict[str, SampleMaker] = {
    "bare": bare_sample,
    "arithmetic": arithmetic_sample,
    "text": text_sample,
    "late text": late_text_sample,
}


def tokenizer_corpus(seed: int) -> list[str]:
    """Collect the texts that the tokenizer's merges are counted on."""
    rng = random.Random(f"{seed}/tokenizer")
    corpus: list[str] = []
    for program in code_bank.BANK:
        corpus += [program.source] * 3 + code_tasks.phrasings(program)[:3]
    for fact in (*chat_bank.FACT_BANK, *chat_bank.GREETING_BANK):
        corpus += [fact.prompt, fact.answer]
    for listing in chat_bank.LIST_BANK[:: len(chat_bank.LIST_PHRASINGS)]:
        corpus += [listing.prompt, listing.answer]
    corpus += [*chat_bank.SENTENCES, *SYSTEM_PROMPTS, chat_bank.FALLBACK] * 3
    corpus += [text_sample(rng).prompt for _ in range(1500)]
    corpus += [arithmetic.exchange(rng).prompt for _ in range(3000)]
    return [text.replace("<|im_start|>", " ").replace("<|im_end|>", " ") for text in corpus]
