"""Proofs of the gates about rendering: a file's template is changed, or an engine renders amiss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered
from pytest_aprqa.checks.gates.text.stored_keys_proofs import rewritten_lab, value
from pytest_aprqa.checks.gates.text.tokens_proofs import healthy_target
from pytest_aprqa.domain.completion import Completion, GenerationRequest
from pytest_aprqa.domain.model import Format
from pytest_aprqa.engines.engine import Engine


def _prefixed(condition: str, template: str) -> str:
    return "{% if " + condition + " %}{{ ' ' }}{% endif %}" + template


def _proof(gate: str, defect: str, condition: str) -> Proof:
    change = value("tokenizer.chat_template", partial(_prefixed, condition))
    planted = partial(rewritten_lab, change=change)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy_target(Format.GGUF))


def _answering(bench: ProofBench, change: Callable[[Completion], Completion]) -> Lab:
    def generate(engine: Engine, request: GenerationRequest) -> Completion:
        return change(engine.generate(request))

    file = bench.converted(Format.GGUF)
    engine = cast("Any", Tampered(bench.engine(file, Format.GGUF), generate=generate))
    return bench.target_lab(Format.GGUF, file=file, engine=engine)


def _escaped(answer: Completion) -> Completion:
    # The tokens go with the text, as they do where an engine renders amiss.
    text = answer.rendered_prompt.rstrip("\n")
    return replace(answer, rendered_prompt=text, prompt_token_ids=answer.prompt_token_ids[:-1])


def _started(answer: Completion) -> Completion:
    return replace(answer, prompt_token_ids=(1021, *answer.prompt_token_ids))


_HILL = "messages[0]['content'].startswith('What is the tallest')"

PROOFS = (
    _proof(
        "F-TEMPLATE-TURNS1-001",
        "a blank is put before a single question",
        f"messages|length == 1 and {_HILL}",
    ),
    _proof("F-TEMPLATE-TURNS2-001", "a blank is put before two questions", "messages|length == 3"),
    _proof("F-TEMPLATE-TURNS3-001", "a blank is put before three", "messages|length == 5"),
    _proof("F-TEMPLATE-TURNS4-001", "a blank is put before four", "messages|length == 7"),
    _proof(
        "F-TEMPLATE-SYSTEM-002",
        "a blank is put before a system text",
        "messages[0]['role'] == 'system'",
    ),
    _proof(
        "F-TEMPLATE-EMPTY-001",
        "a blank is put before an empty question",
        "messages[0]['content'] == ''",
    ),
    _proof(
        "F-TEMPLATE-VERBATIM-002",
        "a blank is put before texts with quotes",
        "'\"' in messages[0]['content']",
    ),
    _proof(
        "F-TEMPLATE-CLOSED-001",
        "a blank is put before a closed conversation",
        "not add_generation_prompt",
    ),
    Proof(
        gate="F-TEMPLATE-ENGINE-001",
        defect="the engine takes the last line end off what it renders",
        planted=partial(_answering, change=_escaped),
        healthy=healthy_target(Format.APR),
    ),
    Proof(
        gate="F-TEMPLATE-IDS-001",
        defect="the engine puts a start token before a rendered conversation",
        planted=partial(_answering, change=_started),
        healthy=healthy_target(Format.GGUF),
    ),
)
