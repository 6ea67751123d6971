"""Chat templates that do what none should, planted in the embedded model's tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())


def _before(text: str) -> Callable[[ProofBench], Lab]:
    """This text at the beginning of the chat template."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        bench.edit_json(
            directory / "tokenizer_config.json",
            lambda settings: settings.update(chat_template=text + settings["chat_template"]),
        )
        return bench.model_lab(directory)

    return make


PROOFS = (
    Proof("F-SEC-TEMPLATE-001", "a template that asks a text for its class",
          _before("{% set kind = ''.__class__ %}"), _HEALTHY),
    Proof("F-SEC-TEMPLATE-002", "a template that includes another, if there is one",
          _before("{% include 'other.jinja' ignore missing %}"), _HEALTHY),
    Proof("F-SEC-TEMPLATE-003", "a template with loops within loops",
          _before("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"),
          _HEALTHY),
)  # fmt: skip
