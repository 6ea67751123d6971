"""Endless, resumable streams of token batches, a function of seed, rank and position only."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from embedded_model.data import MAKERS
from embedded_model.sample import Sample
from embedded_model.tokenizer import END_OF_TEXT_ID

IGNORED = -100  # the label of a token that the loss leaves out
LONGEST = 480
POOL_SIZE = 3000
Encoded = tuple[list[int], list[int]]


def encode(tokenizer: Tokenizer, samples: list[Sample]) -> list[Encoded]:
    """Turn samples into token ids and leave out those that are too long."""
    prompts = tokenizer.encode_batch([s.prompt for s in samples], add_special_tokens=False)
    answers = tokenizer.encode_batch([s.answer for s in samples], add_special_tokens=False)
    pairs = [(p.ids, a.ids) for p, a in zip(prompts, answers, strict=True)]
    return [(p, a) for p, a in pairs if p and len(p) + len(a) <= LONGEST]


def collate(batch: list[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad a batch on the right; labels cover the answers only."""
    length = max(len(p) + len(a) for p, a in batch)
    tokens = torch.full((len(batch), length), END_OF_TEXT_ID)
    labels = torch.full((len(batch), length), IGNORED)
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return tokens, labels


def split_by_tokens(samples: list[Encoded], limit: int) -> list[list[Encoded]]:
    """Group samples of like length into batches of at most `limit` padded tokens."""
    batches: list[list[Encoded]] = []
    longest = 0
    for sample in sorted(samples, key=lambda s: len(s[0]) + len(s[1])):
        longest = len(sample[0]) + len(sample[1])
        if batches and (len(batches[-1]) + 1) * longest <= limit:
            batches[-1].append(sample)
        else:
            batches.append([sample])
    return batches


@dataclass
class BatchStream:
    """An endless stream of batches of one kind; `pool` and `position` are its whole state."""

    tokenizer: Tokenizer
    kind: str
    tokens: int
    seed: int
    rank: int
    pool: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        self._fill()

    def _fill(self) -> None:
        rng = random.Random(f"{self.seed}/{self.rank}/{self.kind}/{self.pool}")
        samples = [MAKERS[self.kind](rng) for _ in range(POOL_SIZE)]
        self._batches = split_by_tokens(encode(self.tokenizer, samples), self.tokens)
        rng.shuffle(self._batches)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next batch as tokens and labels."""
        if self.position == len(self._batches):
            self.pool, self.position = self.pool + 1, 0
            self._fill()
        batch = self._batches[self.position]
        self.position += 1
        return collate(batch)

    def state(self) -> tuple[int, int]:
        """Return what `restore` needs to go on from here."""
        return self.pool, self.position

    def restore(self, state: tuple[int, int]) -> None:
        """Go on from a saved position."""
        self.pool, self.position = state
        self._fill()
