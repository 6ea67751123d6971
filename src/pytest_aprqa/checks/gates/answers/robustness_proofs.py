"""Engines that some prompt throws off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.answers.robustness import PROMPTS
from pytest_aprqa.checks.gates.answers.sampling_proofs import HEALTHY, broken
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def _crashing(prompt: str) -> Callable[[Any, Any], Any]:
    def generate(engine: Any, request: Any) -> Any:
        if request.prompt == prompt:
            raise EngineCrashed("IndexError: list index out of range")
        return engine.generate(request)

    return generate


def _silent(prompt: str) -> Callable[[Any, Any], Any]:
    """Refuses without a word."""

    def generate(engine: Any, request: Any) -> Any:
        if request.prompt == prompt:
            raise InvalidRequest("")
        return engine.generate(request)

    return generate


def _spoilt_after(prompt: str) -> Callable[[ProofBench], Lab]:
    """Answers the prompt, and the next one wrongly."""

    def make(bench: ProofBench) -> Lab:
        hit: list[bool] = []

        def generate(engine: Any, request: Any) -> Any:
            found = engine.generate(request)
            if hit and found.token_ids:
                hit.clear()
                return replace(found, token_ids=((found.token_ids[0] + 7) % 1000,))
            if request.prompt == prompt:
                hit.append(True)
            return found

        return bench.target_lab(engine=Tampered(bench.engine(), generate=generate))

    return make


def _tires(bench: ProofBench) -> Lab:
    """Every fifteenth answer in a row to one prompt is another one."""
    last: list[str | None] = []

    def generate(engine: Any, request: Any) -> Any:
        found = engine.generate(request)
        if last and last[-1] != request.prompt:
            last.clear()
        last.append(request.prompt)
        return replace(found, token_ids=(1,)) if len(last) == 15 else found

    return bench.target_lab(engine=Tampered(bench.engine(), generate=generate))


def _obeys(engine: Any, request: Any) -> Any:
    """A template that drops the turns before what looks like a system's."""
    found = engine.generate(request)
    marker = "<|im_start|>system"
    if request.messages and marker in request.messages[-1].content:
        text = found.rendered_prompt
        return replace(found, rendered_prompt=text[text.index(marker) :])
    return found


_WAYS = {
    "F-EDGE-NEWLINE-001": ("refuses line breaks without a word", _silent),
    "F-EDGE-SURROGATE-001": ("refuses half a surrogate pair without a word", _silent),
}
_AFTER = {
    "F-EDGE-SPECIAL-001": "answers wrongly after names of special tokens",
    "F-EDGE-BLANK-001": "answers wrongly after blanks",
}


def _proof(gate: str, what: str, prompt: str) -> Proof:
    if gate in _AFTER:
        return Proof(gate, f"an engine that {_AFTER[gate]}", _spoilt_after(prompt), HEALTHY)
    told, way = _WAYS.get(gate, (f"crashes on {what}", _crashing))
    return Proof(gate, f"an engine that {told}", broken(way(prompt)), HEALTHY)


PROOFS = (
    *(_proof(gate, what, prompt) for gate, (what, prompt, _) in PROMPTS.items()),
    Proof("F-EDGE-RAPID-001", "an engine whose fifteenth answer in a row is another one", _tires,
          HEALTHY),
    Proof("F-SEC-INJECT-001", "a template that drops turns before a user's turn markers",
          broken(_obeys), HEALTHY),
)  # fmt: skip
