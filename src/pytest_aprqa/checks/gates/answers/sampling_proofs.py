"""Engines whose settings do not act."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.answers.asking import MORE
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered, shared
from pytest_aprqa.domain.completion import FinishReason
from pytest_aprqa.engines.engine import ContextOverflow

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

HEALTHY = shared("answers of safetensors", lambda bench: bench.target_lab())
Generate = Callable[[Any, Any], Any]


def broken(generate: Generate) -> Callable[[ProofBench], Lab]:
    """A lab whose engine generates so."""
    return lambda bench: bench.target_lab(engine=Tampered(bench.engine(), generate=generate))


def _own_chance(bench: ProofBench) -> Lab:
    """Every sampled answer has a seed of the engine's own."""
    seeds = itertools.count(100)

    def generate(engine: Any, request: Any) -> Any:
        warm = request.temperature > 0
        return engine.generate(replace(request, seed=next(seeds)) if warm else request)

    return bench.target_lab(engine=Tampered(bench.engine(), generate=generate))


def _one_seed(engine: Any, request: Any) -> Any:
    return engine.generate(replace(request, seed=0))


def _second_best(engine: Any, request: Any) -> Any:
    """The last token of a longer answer is another one, in the ids alone."""
    found = engine.generate(request)
    if request.temperature or request.max_tokens != MORE or request.stop or not found.token_ids:
        return found
    other = (found.token_ids[-1] + 7) % 1000
    return replace(found, token_ids=(*found.token_ids[:-1], other))


def _other_beginning(engine: Any, request: Any) -> Any:
    found = engine.generate(request)
    if request.max_tokens == MORE // 2 and not request.temperature and not request.messages:
        return replace(found, token_ids=((found.token_ids[0] + 7) % 1000, *found.token_ids[1:]))
    return found


def _one_more(engine: Any, request: Any) -> Any:
    """One token more than asked, where one is asked for."""
    if request.max_tokens == 1:
        return engine.generate(replace(request, max_tokens=2))
    return engine.generate(request)


def _no_short_stop(engine: Any, request: Any) -> Any:
    short = tuple(stop for stop in request.stop if len(stop) > 1)
    return engine.generate(replace(request, stop=short))


def _no_long_stop(engine: Any, request: Any) -> Any:
    short = tuple(stop for stop in request.stop if len(stop) == 1)
    return engine.generate(replace(request, stop=short))


def _wrong_reason(engine: Any, request: Any) -> Any:
    found = engine.generate(request)
    return replace(found, finish_reason=FinishReason.LENGTH) if request.messages else found


def _vague(engine: Any, request: Any) -> Any:
    try:
        return engine.generate(request)
    except ContextOverflow as told:
        raise ContextOverflow("too long") from told


def _loses_a_piece(bench: ProofBench) -> Lab:
    return bench.target_lab(engine=_Streaming(bench.engine(), lose=True))


class _Streaming(Tampered):
    """An engine that tells its answer in pieces, and may lose one."""

    def __init__(self, engine: Any, *, lose: bool) -> None:
        super().__init__(engine)
        self.name, self.version, self.device = engine.name, engine.version, engine.device
        self.has_chat_template = engine.has_chat_template
        self.context_length = engine.context_length
        self._lose = lose

    def generate(self, request: Any) -> Any:
        return self._engine.generate(request)

    def tokenize(self, text: str, *, special: bool) -> Any:
        return self._engine.tokenize(text, special=special)

    def logits(self, token_ids: Any) -> Any:
        return self._engine.logits(token_ids)

    def describe(self) -> Any:
        return self._engine.describe()

    def close(self) -> None:
        """The bench closes the engine."""

    def stream(self, request: Any, tell: Callable[[str], bool]) -> Any:
        found = self.generate(request)
        for place, char in enumerate(found.text):
            if not (self._lose and place == 2):
                tell(char)
        return found


PROOFS = (
    Proof("F-RUN-005", "an engine with a seed of its own for every answer", _own_chance, HEALTHY),
    Proof("F-INV-SEEDS-001", "an engine that takes every seed for 0", broken(_one_seed), HEALTHY),
    Proof("F-INV-ARGMAX-001", "an engine whose last token is another one", broken(_second_best),
          HEALTHY),
    Proof("F-INV-PREFIX-001", "an engine whose shorter answer begins otherwise",
          broken(_other_beginning), HEALTHY),
    Proof("F-EDGE-004", "an engine that gives a token more than asked", broken(_one_more), HEALTHY),
    Proof("F-INV-STOP-001", "an engine that ignores stop strings of one character",
          broken(_no_short_stop), HEALTHY),
    Proof("F-INV-STOP-002", "an engine that ignores stop strings of several characters",
          broken(_no_long_stop), HEALTHY),
    Proof("F-CHAT-004", "an engine that calls an ended answer cut off", broken(_wrong_reason),
          HEALTHY),
    Proof("F-INV-OVERFLOW-001", "an engine that refuses what is too long without a number",
          broken(_vague), HEALTHY),
    Proof("F-INV-STREAM-001", "an engine whose stream loses a character", _loses_a_piece,
          lambda bench: bench.target_lab(engine=_Streaming(bench.engine(), lose=False))),
)  # fmt: skip
