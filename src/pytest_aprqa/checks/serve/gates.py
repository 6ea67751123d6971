"""Put one gate to a server, and make evidence of what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.blank import blank_gate
from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.serve import answers, resilience, resources, sampling
from pytest_aprqa.checks.serve.client import GateClient, KnownAnswers
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.domain.evidence import Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.model_gates import GateCase
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable, hide_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_aprqa.checks.serve.prompts import ServePrompts
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.engines.serving.served import Served

GATES: Mapping[ServeGate, Callable[[GateClient], str]] = {
    ServeGate.HEALTH: answers.health,
    ServeGate.MODELS: answers.models,
    ServeGate.COMPLETIONS: answers.completions,
    ServeGate.CHAT: answers.chat,
    ServeGate.STREAM: answers.streams,
    ServeGate.USAGE: answers.usage,
    ServeGate.STOP: sampling.stop,
    ServeGate.MAX_TOKENS: sampling.max_tokens,
    ServeGate.SEED: sampling.seed,
    ServeGate.LOGPROBS: sampling.logprobs,
    ServeGate.CONCURRENT: resilience.concurrent,
    ServeGate.ERRORS: resilience.errors,
    ServeGate.DISCONNECT: resilience.disconnect,
    ServeGate.MEMORY: resources.memory,
    ServeGate.SHUTDOWN: resources.shutdown,
}
"""What asks each gate: gives what was seen when the server does what the gate asserts."""
_OUTCOMES = {
    Ruling.CORROBORATED: Outcome.CORROBORATED,
    Ruling.FALSIFIED: Outcome.FALSIFIED,
    Ruling.INAPPLICABLE: Outcome.SKIPPED,
}


def run_gate(
    gate: ServeGate,
    served: Served,
    prompts: ServePrompts,
    *,
    known: KnownAnswers | None = None,
) -> Finding:
    """Ask one gate of a server; SHUTDOWN ends it.

    `known`, given to all gates of one server, saves asking for the same answer again.

    Raises:
        Unreachable: the server is gone, or broke the connection where no answer is right.
        Silent: it did not answer in time.
    """
    return put(GATES[gate], served, prompts, known=known)


def put(
    check: Callable[[GateClient], str],
    served: Served,
    prompts: ServePrompts,
    *,
    known: KnownAnswers | None = None,
) -> Finding:
    """Let a check ask a server, and make a finding of what it says or raises.

    Raises:
        Unreachable, Silent: as `run_gate` does.
    """
    client = GateClient(served, prompts, {} if known is None else known)
    try:
        ruling, reason = Ruling.CORROBORATED, check(client)
    except Refuted as refuted:
        ruling, reason = Ruling.FALSIFIED, str(refuted)
    except NotApplicable as inapplicable:
        ruling, reason = Ruling.INAPPLICABLE, str(inapplicable)
    finally:
        client.close()
    return Finding(
        ruling=ruling,
        reason=one_line(client.http.hide(reason), limit=600),
        details=tuple(client.details),
        measurements=dict(client.measurements),
    )


def try_gate(
    gate: ServeGate,
    served: Served,
    prompts: ServePrompts,
    *,
    target: Target,
    item_id: str,
    known: KnownAnswers | None = None,
) -> Evidence:
    """Ask one gate; every way it can end is an outcome."""
    try:
        finding = run_gate(gate, served, prompts, known=known)
    except Unreachable as error:
        state = "still runs" if served.alive else "runs no more"
        reason = f"the connection to the server was lost: {error}; it {state}"
        return _ended(gate, served, target, item_id, Outcome.CRASHED, reason)
    except Silent as error:
        return _ended(gate, served, target, item_id, Outcome.TIMEOUT, f"the server gave {error}")
    return serve_evidence(gate, finding, target=target, item_id=item_id, served=served)


def serve_evidence(
    gate: ServeGate, finding: Finding, *, target: Target, item_id: str, served: Served
) -> Evidence:
    """A finding as evidence; a gate that does not apply is skipped with an excuse."""
    outcome = _OUTCOMES[finding.ruling]
    verdict = VerdictRecord(oracle=gate.item_name, ruling=finding.ruling, reason=finding.reason)
    blank = blank_gate(GateCase(gate, target), item_id, outcome, finding.reason)
    return blank.model_copy(
        update={
            "excused": finding.ruling is Ruling.INAPPLICABLE,
            "applicable": finding.ruling is not Ruling.INAPPLICABLE,
            "output": "\n".join(finding.details),
            "verdicts": (verdict,),
            "measurements": dict(finding.measurements),
            "engine": _engine(served),
        }
    )


def _ended(
    gate: ServeGate, served: Served, target: Target, item_id: str, outcome: Outcome, reason: str
) -> Evidence:
    told = one_line(hide_secrets(reason, served.headers()))
    tail = hide_secrets(served.log_tail(), served.headers())
    blank = blank_gate(GateCase(gate, target), item_id, outcome, told)
    return blank.model_copy(update={"diagnosis": tail, "engine": _engine(served)})


def _engine(served: Served) -> dict[str, str]:
    return {**served.describe(), "url": served.url, "model": served.model_name}
