"""Fit the trigram weights of the garbage oracle: src/pytest_aprqa/oracles/garbage/trigrams.bin.

Give it folders that hold healthy text; only the fitted weights go into the project. The table that
ships was fitted to what these packages held, unpacked side by side into one folder:

* PyPI: django 5.2 (wheel and sdist), sphinx 9.0, sympy 1.14, pygments 2.21 (sdist), docutils,
  markdown, bokeh, plotly, networkx, nltk, scipy: Python, rst, LaTeX, UI prose in 90 languages
  (`*.po`), samples in the languages that Pygments knows;
* npm: typescript, @types/node, react, react-native, vue, @angular/core, rxjs, three, lodash,
  express, bootstrap, jquery, d3, ace-builds, codemirror, antlr4, highlight.js;
* Debian 12: golang-1.19-src, manpages and manpages-{cs,da,de,es,fi,fr,hu,id,it,nb,nl,pl,pt-br,ro,
  sr,sv,tr,vi}, fortunes and fortunes-{br,cs,de,es,ga,it,pl}, vim-runtime, debian-reference;
* the standard library of Python 3.11, /usr/include and /usr/share/perl.

A quarter of the files, by a hash of their path, is held out. Soups are drawn from byte-pair
vocabularies of 600 to 50,000 pieces learned from the same text, and from its substrings; healthy
samples are excerpts, and made-up keys, moves, formulas, tables, lists and sums. A logistic
regression over the trigrams that a sample has (each once) then gives their weights. The script
was tidied after it made the table that ships, and has not made it again since.

    python tools/build_trigram_table.py FOLDER... [--samples 400000]
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pytest_aprqa.oracles.garbage import trigrams
from trigram_corpus import Corpus
from trigram_synthetic import made_up

TABLE = Path(trigrams.__file__).with_name("trigrams.bin")
SEED = 11
BROKEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
SIZES = (
    (700, 150, True), (1000, 300, True), (2000, 500, False), (4000, 1500, True),
    (8000, 3000, False), (16000, 5000, True), (50000, 9000, False), (900, 40, True),
    (1100, 60, False), (1400, 200, True), (800, 30, True), (3000, 800, False), (1000, 80, True),
    (6000, 2000, True),
)  # fmt: skip
"""Of each vocabulary: pieces, excerpts it is learned from, whether digits stand alone."""
SHORTEST, LONGEST = 16, trigrams.WINDOW
MADE_UP, SPACED, SUBSTRINGS, FREQUENT = 0.07, 0.1, 0.25, 0.2
"""Shares of the healthy samples; of the soups, the second and third; of pieces by frequency."""
HEALTHY_WEIGHT = 3.0
"""A false alarm costs more than a miss."""
LEVELS = 7


def vocabulary(
    corpus: Corpus, rng: random.Random, size: int, count: int, digits: bool
) -> list[str]:
    """Learn a byte-pair vocabulary and return its pieces as text, then some by frequency."""
    groups = ("en", "code") if rng.random() < 0.7 else ("en", "code", "other")
    texts = [corpus.excerpt(rng, 200, 4000, rng.choice(groups)) for _ in range(count)]
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte_level])
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    decode = decoders.ByteLevel().decode
    pieces = [decode([piece]) for piece in sorted(tokenizer.get_vocab())]
    return [piece for piece in pieces if not BROKEN.search(piece)]


def soup(rng: random.Random, vocabularies: Sequence[Sequence[str]], corpus: Corpus) -> str:
    """Draw one soup."""
    length = int(SHORTEST * (LONGEST / SHORTEST) ** rng.random())
    kind, drawn = rng.random(), ""
    pieces = rng.choice(vocabularies)
    few = rng.sample(pieces, 60) if rng.random() < FREQUENT else ()
    while len(drawn) < length:
        if kind < SUBSTRINGS:
            text, size = corpus.text(rng), rng.randint(1, 7)
            start = rng.randrange(max(1, len(text) - size))
            drawn += BROKEN.sub("", text[start : start + size])
            continue
        piece = rng.choice(few if few and rng.random() < 0.4 else pieces)
        spaced = kind < SUBSTRINGS + SPACED and rng.random() < 0.6 and piece[:1].isalnum()
        drawn += " " + piece if spaced else piece
    return drawn[:length]


def healthy(rng: random.Random, corpus: Corpus) -> str:
    """Draw one healthy sample."""
    if rng.random() < MADE_UP:
        return made_up(rng, corpus)[:LONGEST]
    return corpus.excerpt(rng, SHORTEST, LONGEST)


def features(text: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return the places in the table of the text's trigrams, as `trigrams.evidence` reads them."""
    return np.array(sorted(trigrams.places(text)), dtype=np.int32)


def fit(
    healthy_ones: list[np.ndarray[tuple[int], np.dtype[np.int32]]],
    soups: list[np.ndarray[tuple[int], np.dtype[np.int32]]],
    rounds: int,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], float]:
    """Return the weight of each trigram, and the offset."""
    size = len(trigrams.ALPHABET) ** 3
    seen = [np.bincount(np.concatenate(rows), minlength=size) for rows in (healthy_ones, soups)]
    start = np.clip(np.log(seen[1] + 0.5) - np.log(seen[0] + 0.5), -3, 3) * 0.5
    weights = torch.nn.EmbeddingBag(size, 1, mode="sum")
    weights.weight.data[:, 0] = torch.tensor(start)
    offset = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weights.weight, offset], lr=0.02)
    rows = healthy_ones + soups
    labels = np.r_[np.zeros(len(healthy_ones)), np.ones(len(soups))]
    for turn in range(rounds):
        optimizer.param_groups[0]["lr"] = 0.02 / (1 + 2 * turn)
        order = np.random.RandomState(turn).permutation(len(rows))
        total = 0.0
        for first in range(0, len(order), 4096):
            chosen = order[first : first + 4096]
            parts = [rows[place] for place in chosen]
            begins = np.r_[0, np.cumsum([len(part) for part in parts])[:-1]]
            logits = weights(
                torch.tensor(np.concatenate(parts)), torch.tensor(begins, dtype=torch.int32)
            )
            wanted = torch.tensor(labels[chosen], dtype=torch.float32)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits.squeeze(1) + offset, wanted, weight=1 + (HEALTHY_WEIGHT - 1) * (1 - wanted)
            ) + 3e-7 * (weights.weight**2).sum()  # fmt: skip
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()
        print(f"round {turn}: loss {total / (len(order) / 4096):.4f}")
    fitted = weights.weight.data[:, 0].numpy()
    fitted[seen[0] + seen[1] < 2] = 0
    return fitted, float(offset.item())


def pack(weights: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bytes:
    """Return the weights as the file holds them: four bits each, compressed."""
    units = np.clip(np.round(weights / trigrams.STEP), -LEVELS, LEVELS).astype(np.int64) + 8
    units = np.r_[units, np.full(len(units) % 2, 8)]
    return zlib.compress(((units[0::2] << 4) | units[1::2]).astype(np.uint8).tobytes(), 9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and write the table; print the offset, which is a constant of the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    began, rng = time.monotonic(), random.Random(SEED)
    torch.manual_seed(SEED)
    corpus = Corpus(options.folders, held_out=False)
    print(f"{len(corpus.texts)} kinds of text, {time.monotonic() - began:.0f} s")
    vocabularies = [vocabulary(corpus, rng, *size) for size in SIZES]
    print(f"{len(vocabularies)} vocabularies, {time.monotonic() - began:.0f} s")

    def drawn(make: Callable[[], str]) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
        return [features(make()) for _ in range(options.samples)]

    rows = drawn(lambda: healthy(rng, corpus)), drawn(lambda: soup(rng, vocabularies, corpus))
    print(f"samples, {time.monotonic() - began:.0f} s", flush=True)
    weights, offset = fit(*rows, options.rounds)
    TABLE.write_bytes(packed := pack(weights))
    print(f"{TABLE}: {len(packed)} bytes; OFFSET = {offset:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
