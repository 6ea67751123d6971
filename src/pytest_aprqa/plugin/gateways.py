"""The gateways as session fixtures, and the bodies of the items.

There is no way to a model but through the fixtures: each takes the one before it, and the last
hands out the loaded engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.checks.ahead import AheadEngine
from pytest_aprqa.checks.gateways import (
    check_answers,
    check_integrity,
    check_load,
    check_no_crash,
    check_not_garbage,
)
from pytest_aprqa.checks.scenario import first_request, try_case
from pytest_aprqa.domain.errors import EngineUnavailable, Falsified
from pytest_aprqa.domain.evidence import ModelRecord
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.engines import choice
from pytest_aprqa.plugin.collector import TargetNode
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.explain import explain_gateway
from pytest_aprqa.plugin.extensions import provider_for
from pytest_aprqa.plugin.items import GatewayItem, ScenarioItem
from pytest_aprqa.plugin.labs import expectations_of, given_file
from pytest_aprqa.plugin.line import line_of
from pytest_aprqa.plugin.serving import client_of, connected, start_ahead
from pytest_aprqa.plugin.station import Station, conclude, station_of

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine

Admit = Callable[[TargetNode], Station]
"""Lets a target through a gateway, evaluated once for each target; raises when it is refused."""


@pytest.fixture(scope="session")
def g0_integrity() -> Admit:
    """G0: config, tokenizer and tensors of the target's checkpoint agree.

    The files behind an endpoint cannot be looked into: nothing is asserted of them.
    """

    def admit(node: TargetNode) -> Station:
        if node.target.is_endpoint:
            station = station_of(node)
            station.model = station.model or model_record(node, {})
            return station
        return _admit(node, Gateway.G0, _integrity)

    return admit


@pytest.fixture(scope="session")
def g1_loads(g0_integrity: Admit) -> Admit:
    """G1: the target that G0 admitted loads in its engine."""

    def admit(node: TargetNode) -> Station:
        g0_integrity(node)
        return _admit(node, Gateway.G1, _load)

    return admit


@pytest.fixture(scope="session")
def g2_answers(g1_loads: Admit) -> Admit:
    """G2: the loaded model answers every probe."""

    def admit(node: TargetNode) -> Station:
        g1_loads(node)
        return _admit(node, Gateway.G2, _answers)

    return admit


@pytest.fixture(scope="session")
def g3_no_crash(g2_answers: Admit) -> Admit:
    """G3: unusual prompts crash nothing; a later crash fails it too."""

    def admit(node: TargetNode) -> Station:
        g2_answers(node)
        return _admit(node, Gateway.G3, _no_crash)

    return admit


@pytest.fixture(scope="session")
def g4_not_garbage(g3_no_crash: Admit) -> Admit:
    """G4: the answers are not garbage; this fixture hands out the engine."""

    def admit(node: TargetNode) -> Station:
        g3_no_crash(node)
        return _admit(node, Gateway.G4, _not_garbage)

    return admit


def pass_gateway(request: pytest.FixtureRequest) -> None:
    """The body of a gateway's item."""
    item = request.node
    assert isinstance(item, GatewayItem)
    admit: Admit = request.getfixturevalue(item.gateway.item_name)
    result = admit(item.node).results[item.gateway]
    item.user_properties.append(("aprqa.gateway", f"{result.gateway}: {result.reason}"))


def qualify(request: pytest.FixtureRequest, g4_not_garbage: Admit) -> None:
    """The body of a scenario's item."""
    item = request.node
    assert isinstance(item, ScenarioItem)
    station = g4_not_garbage(item.node)
    engine: Engine | None = station.engine
    if item.case.modality is Modality.SERVE:
        engine = client_of(item, station)
    assert engine is not None
    conclude(item, try_case(item.case, engine, item.nodeid))


def prepare(item: ScenarioItem) -> None:
    """Before the item is timed, have its answer and those of later items generated together."""
    engine = station_of(item.node).engine
    if engine is None or not engine.batches or not item.case.batchable:
        return
    if item.config.getoption("aprqa_batch") == "off":
        return
    if engine.tried(first_request(item.case)):
        return
    items = item.session.items
    later = items[items.index(item) :]
    engine.prepare(
        other.case
        for other in later
        if isinstance(other, ScenarioItem) and other.parent is item.parent
    )


def release(node: TargetNode) -> None:
    """End the target's server and engine; called when no item of the target is left."""
    station = station_of(node)
    if station.lab is not None:
        station.lab.close()
        station.lab = station.server_lab = None
    if station.server is not None:
        station.server.close()
        station.server = None
    if station.engine is not None:
        station.engine.close()
        station.engine = None


def _admit(
    node: TargetNode, gateway: Gateway, check: Callable[[TargetNode, Station], GatewayResult]
) -> Station:
    station = station_of(node)
    if station.unavailable is not None:
        pytest.skip(station.unavailable)
    if gateway not in station.results:
        result = check(node, station)
        station.results[gateway] = result
        station.unreported.append(result)
    result = station.results[gateway]
    if not result.passed:
        told = f"{gateway} of {result.target}: {result.reason}"
        line_of(node.config).stop(node.subject.file_id, told)
        raise Falsified(explain_gateway(result, node.nodeid))
    return station


def _integrity(node: TargetNode, station: Station) -> GatewayResult:
    from pytest_aprqa.formats.digest import file_hashes

    directory = node.subject.directory
    assert node.target.format is not None
    choice.prefetch(node.target, threads=threads_per_worker())
    station.model = model_record(node, file_hashes(directory))
    result, station.file = check_integrity(
        node.target.name,
        directory,
        expectations_of(node.subject.plan.playbook.model),
        format_=node.target.format,
        quantization=node.target.quantization,
        given=given_file(node),
    )
    return result


def model_record(node: TargetNode, hashes: dict[str, str]) -> ModelRecord:
    """Which model ran; a directory of the user's own does not run under the playbook's name."""
    subject = node.subject
    model, found = subject.plan.playbook.model, subject.model
    seen = found is not None and not node.target.is_endpoint
    own = node.config.getoption("aprqa_model") is not None and seen
    return ModelRecord(
        id=f"local/{subject.directory.name}" if own else model.id,
        revision="none" if own else model.revision,
        source=found.source if found is not None and seen else "unknown",
        commit=found.revision if found is not None and seen else None,
        size_category=model.size_category,
        family=model.family,
        size_variant=model.size_variant,
        files=hashes,
    )


def _load(node: TargetNode, station: Station) -> GatewayResult:
    try:
        result, engine = check_load(node.target.name, lambda: _engine(node, station))
    except EngineUnavailable as error:
        station.unavailable = str(error)
        pytest.skip(station.unavailable)
    station.engine = None if engine is None else AheadEngine(engine)
    return result


def _engine(node: TargetNode, station: Station) -> Engine:
    if node.target.is_endpoint:
        return connected(node)
    from pytest_aprqa.engines.providers import load_with

    assert station.file is not None
    provider = provider_for(node.config, node.target)
    load = choice.load_engine if provider is None else partial(load_with, provider)
    return load(node.target, station.file, threads=threads_per_worker())


def _answers(node: TargetNode, station: Station) -> GatewayResult:
    assert station.engine is not None
    result, station.answers = check_answers(node.target.name, station.engine)
    return result


def _no_crash(node: TargetNode, station: Station) -> GatewayResult:
    assert station.engine is not None
    return check_no_crash(node.target.name, station.engine)


def _not_garbage(node: TargetNode, station: Station) -> GatewayResult:
    assert station.engine is not None
    result = check_not_garbage(node.target.name, station.engine, station.answers)
    if result.passed:
        start_ahead(node, station)
    return result
