"""The body of a gate's item: what a target's answers, or its server, must prove."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.blank import blank_gate
from pytest_aprqa.checks.gates.evidence import blank_model_gate, try_registered
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.serve.prompts import ServePrompts
from pytest_aprqa.domain.evidence import Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.gate import Gate, Place
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.model_gates import ModelGate
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.gateways import Admit
from pytest_aprqa.plugin.items import GateItem, ModelGateItem
from pytest_aprqa.plugin.labs import model_lab_of, server_lab_of, target_lab_of
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
    if isinstance(gate, Gate):
        conclude(item, _of_registry(item, gate, station))
    elif isinstance(gate, ServeGate):
        conclude(item, _of_server(item, gate, station))
    elif gate is ModelGate.BATCHED:
        conclude(item, _of_batches(item, station))
    else:
        conclude(item, _of_endpoint(item, station))


def look_into(request: pytest.FixtureRequest) -> None:
    """Put a gate about the ground truth's files to the test."""
    item = request.node
    assert isinstance(item, ModelGateItem)
    blank = blank_model_gate(item.case, item.nodeid, Outcome.SKIPPED, "")
    lab = model_lab_of(item.subject, item.station_node)
    conclude(item, try_registered(checks()[item.case.gate.id], lab, blank))


def _of_registry(item: GateItem, gate: Gate, station: Station) -> Evidence:
    """A gate of the registry, put to the target or to its server."""
    blank = blank_gate(item.case, item.nodeid, Outcome.SKIPPED, "")
    check = checks()[gate.id]
    if gate.place is not Place.SERVER:
        lab = target_lab_of(item.node, station)
        return try_registered(check, lab, blank, lab.engine.describe())
    try:
        served = served_of(item.node, station)
    except LoadFailed as failure:
        blocked_by_server(item, station, failure)
        raise
    of_server = server_lab_of(item.node, station, served, _prompts(item, station))
    try:
        return try_registered(check, of_server, blank, served.describe())
    except Unreachable as error:
        reason = f"the connection to the server was lost: {error}"
        return blank.model_copy(update={"outcome": Outcome.CRASHED, "reason": reason})
    except Silent as error:
        reason = f"the server gave {error}"
        return blank.model_copy(update={"outcome": Outcome.TIMEOUT, "reason": reason})


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
