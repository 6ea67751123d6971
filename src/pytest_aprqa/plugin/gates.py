"""The body of a gate's item: what a target's answers, or its server, must prove."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.blank import blank_gate
from pytest_aprqa.checks.serve.prompts import ServePrompts
from pytest_aprqa.domain.evidence import Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.model_gates import ModelGate
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.gateways import Admit
from pytest_aprqa.plugin.items import GateItem
from pytest_aprqa.plugin.serving import blocked_by_server, served_of
from pytest_aprqa.plugin.station import Station, conclude

SLOW_TOKENS_S = 30.0
FEW_TOKENS = 12
"""A model that makes fewer tokens a second than SLOW_TOKENS_S gives short answers: the gates ask
some two hundred, which at 32 tokens each would take such a model minutes."""
STOP_S = 20.0
"""What a server of ours is given to end in: 10 s for running requests, 5 s to cut those left."""


def prove(request: pytest.FixtureRequest, g4_not_garbage: Admit) -> None:
    """Put the gate's claim to the test."""
    item = request.node
    assert isinstance(item, GateItem)
    station = g4_not_garbage(item.node)
    gate = item.case.gate
    if isinstance(gate, ServeGate):
        conclude(item, _of_server(item, gate, station))
    elif gate is ModelGate.BATCHED:
        conclude(item, _of_batches(item, station))
    else:
        conclude(item, _of_endpoint(item, station))


def _of_server(item: GateItem, gate: ServeGate, station: Station) -> Evidence:
    from pytest_aprqa.checks.serve.gates import try_gate

    try:
        served = served_of(item.node, station)
    except LoadFailed as failure:
        if gate is not ServeGate.HEALTH:
            blocked_by_server(item, station, failure)
        station.server_failure_told = True
        told = f"the server does not get ready: {failure}"
        verdict = VerdictRecord(oracle=gate.item_name, ruling=Ruling.FALSIFIED, reason=told)
        blank = blank_gate(item.case, item.nodeid, Outcome.FALSIFIED, told)
        return blank.model_copy(update={"verdicts": (verdict,)})
    prompts = _prompts(item, station)
    return try_gate(
        gate,
        served,
        prompts,
        target=item.case.target,
        item_id=item.nodeid,
        known=station.known_answers,
    )


def _prompts(item: GateItem, station: Station) -> ServePrompts:
    """What the gates ask of this model, in as many tokens as its speed allows."""
    seconds = sum(answer.completion.total_s for answer in station.answers)
    tokens = sum(answer.completion.completion_tokens for answer in station.answers)
    slow = tokens < SLOW_TOKENS_S * seconds
    matrix = item.subject.plan.playbook.test_matrix
    return ServePrompts(
        max_tokens=FEW_TOKENS if slow else ServePrompts().max_tokens,
        timeout_s=max(ServePrompts().timeout_s, matrix.timeout_ms / 1000),
        context_length=None if station.engine is None else station.engine.context_length,
        stop_s=STOP_S,
    )


def _of_batches(item: GateItem, station: Station) -> Evidence:
    from pytest_aprqa.checks.batching import try_batching

    assert station.engine is not None
    return try_batching(item.case, station.engine, item.node.target_plan.cases, item.nodeid)


def _of_endpoint(item: GateItem, station: Station) -> Evidence:
    from pytest_aprqa.checks.endpoint_parity import try_parity
    from pytest_aprqa.engines.choice import load_exact
    from pytest_aprqa.plugin.conversions import prompts_of

    assert station.engine is not None
    model = item.subject.model
    if model is None:
        reason = "the model's files are not here to compare with"
        blank = blank_gate(item.case, item.nodeid, Outcome.SKIPPED, reason)
        return blank.model_copy(update={"excused": True, "applicable": False})
    reference = load_exact(model.directory, Format.SAFETENSORS, threads=threads_per_worker())
    try:
        prompts = prompts_of(item.subject.plan)
        return try_parity(item.case, station.engine.engine, reference, prompts, item.nodeid)
    finally:
        reference.close()
