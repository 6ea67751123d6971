"""Words for a person: why an item failed, what was asked and answered, how to see it again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pytest_aprqa.domain.case import ENDPOINT
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome
from pytest_aprqa.domain.gateways import GatewayResult, gateway_item_name
from pytest_aprqa.domain.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 1200


def explain(evidence: Evidence) -> str:
    """A failed item's message: verdict, prompt, output, and the command that reproduces it.

    The first line is the whole verdict, for tools that show no more.
    """
    lines = [f"{evidence.outcome}: {evidence.reason}", ""]
    if evidence.check is Check.SCENARIO:
        lines += _block("prompt", evidence.rendered_prompt or evidence.question)
        lines += _block("output", evidence.output)
    elif evidence.output:
        lines += _block("asked", evidence.output)  # what a gate's requests were, and the answers
    if evidence.diagnosis:
        lines += _block("where", evidence.diagnosis[-_SHOWN:])  # the innermost frames stand last
    for verdict in evidence.verdicts:
        lines.append(f"  verdict  {verdict.oracle}: {verdict.ruling}: {printable(verdict.reason)}")
    for name, value in evidence.measurements.items():
        lines.append(f"  measured {name}: {value:.4g}")
    if evidence.metrics is not None:
        metrics = evidence.metrics
        lines.append(
            f"  took     {metrics.duration_ms:.0f} ms, {metrics.completion_tokens} tokens, "
            f"finish reason {metrics.finish_reason}"
        )
    lines += ["", f"  reproduce: {reproduce(evidence.id)}{_with_engine(evidence)}"]
    return "\n".join(lines)


def _with_engine(evidence: Evidence) -> str:
    """The options by which another engine than the built-in one was asked."""
    if (provider := evidence.engine.get("provider")) is not None:
        return f" --aprqa-engine {shlex.quote(provider)}"
    if evidence.target == ENDPOINT and "url" in evidence.engine:
        return f" --aprqa-endpoint {shlex.quote(evidence.engine['url'])}"
    return ""


def explain_gateway(result: GatewayResult, node_id: str) -> str:
    """A failed gateway's message: what it asserts, all that was found, and how to see it again."""
    lines = [f"{result.gateway} of {result.target} failed: {printable(result.reason)}", ""]
    lines.append(f"  asserted {result.gateway.assertion}")
    lines += [f"  found    {printable(detail)}" for detail in result.details]
    item = f"{node_id}::{gateway_item_name(result.gateway, result.target)}"
    lines += ["", f"  reproduce: {reproduce(item)}"]
    return "\n".join(lines)


def facts_of(evidence: Evidence) -> list[tuple[str, object]]:
    """The facts that JUnit shows as properties, scalars all."""
    facts: list[tuple[str, object]] = [
        ("aprqa.outcome", str(evidence.outcome)),
        ("aprqa.reason", printable(evidence.reason)),
        ("aprqa.target", evidence.target),
        ("aprqa.severity", str(evidence.severity)),
        ("aprqa.category", str(evidence.category)),
    ]
    if evidence.modality is not None:
        facts.append(("aprqa.modality", str(evidence.modality)))
    facts += [(f"aprqa.{name}", value) for name, value in evidence.measurements.items()]
    if evidence.check is Check.SCENARIO and evidence.outcome not in (
        Outcome.BLOCKED,
        Outcome.SKIPPED,
    ):
        facts.append(("aprqa.prompt", printable(evidence.rendered_prompt)))
        facts.append(("aprqa.output", printable(evidence.output)))
    if evidence.metrics is not None:
        facts.append(("aprqa.duration_ms", evidence.metrics.duration_ms))
        facts.append(("aprqa.completion_tokens", evidence.metrics.completion_tokens))
        facts.append(("aprqa.tokens_per_second", evidence.metrics.tokens_per_second or 0.0))
    return facts


def reproduce(node_id: str) -> str:
    """The command that runs one item alone."""
    return f"pytest -n0 {shlex.quote(node_id)}"


def printable(text: str) -> str:
    """The text as it may be shown over several lines."""
    return escaped(text, keep="\n\t")


def _block(label: str, text: str) -> Iterable[str]:
    shown = printable(text)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}… ({len(text)} characters in all)"
    first, *rest = shown.split("\n") if shown else ["(empty)"]
    yield f"  {label:8} {first}"
    for line in rest:
        yield f"           {line}"
