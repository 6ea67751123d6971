"""Servers that serve another model, or another template, than the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.proof import Proof, Tampered, shared
from pytest_aprqa.checks.gates.served.scripted import ScriptedServer
from pytest_aprqa.checks.serve.prompts import ServePrompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import Engine

PROMPTS = ServePrompts(max_tokens=16, timeout_s=30.0)
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content[::-1] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def _at_once(engine: Engine, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
    completion = engine.generate(request)
    tell(completion.text)
    return completion


def _served(bench: ProofBench, directory: Path | None = None) -> ServerLab:
    """A server over a model (the embedded one's), beside the embedded model itself."""
    target = bench.target_lab()
    engine = Tampered(bench.engine(directory), stream=_at_once, count_prompt=lambda *_: 1)
    server = ScriptedServer(engine=engine, model_name="embedded/aprqa-tiny")
    return ServerLab(bench.owned(server), PROMPTS, target=target)


def _other_weights(bench: ProofBench) -> ServerLab:
    edited = bench.copy(model__layers__1__mlp__down_proj__weight=lambda w: -w)
    (edited / "chat_template.jinja").unlink(missing_ok=True)
    bench.edit_json(edited / "tokenizer_config.json", lambda c: c.pop("chat_template", None))
    return _served(bench, edited)


def _other_template(bench: ProofBench) -> ServerLab:
    edited = bench.copy()
    (edited / "chat_template.jinja").unlink(missing_ok=True)
    bench.edit_json(edited / "tokenizer_config.json", lambda c: c.update(chat_template=_TEMPLATE))
    return _served(bench, edited)


HEALTHY = shared("served embedded model", _served)
PROOFS = (
    Proof(
        "F-INV-SERVED-001",
        "the server has a layer's MLP with the wrong sign, and no chats",
        _other_weights,
        HEALTHY,
    ),
    Proof(
        "F-INV-SERVED-002",
        "the server's template turns the user's text around",
        _other_template,
        HEALTHY,
    ),
)
