"""A target's server: started once in each process, asked by serve items, ended with the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.blank import blank
from pytest_aprqa.domain.endpoint import Endpoint
from pytest_aprqa.domain.errors import EngineUnavailable, Falsified
from pytest_aprqa.domain.evidence import Outcome
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.items import GateItem, ScenarioItem
from pytest_aprqa.plugin.station import conclude, note

if TYPE_CHECKING:
    from pytest_aprqa.engines.endpoint_engine import EndpointEngine
    from pytest_aprqa.engines.serving.served import Served
    from pytest_aprqa.engines.serving.server_process import ServerProcess
    from pytest_aprqa.plugin.collector import TargetNode
    from pytest_aprqa.plugin.station import Station

READY_S = 1800.0
"""Most seconds from a server's start to its first healthy answer: it loads the model."""
CONNECT_S = 60.0
"""Most seconds that an endpoint may take to say which models it has."""


def endpoint_of(node: TargetNode) -> Endpoint:
    """The server that an endpoint's target is."""
    named = node.subject.plan.endpoint
    assert named is not None
    return Endpoint(url=named.url, model=named.model, api_key_env=named.api_key_env)


def connected(node: TargetNode) -> EndpointEngine:
    """The engine that asks the endpoint.

    Raises:
        LoadFailed, EngineUnavailable, AprqaError: as `connect` does.
    """
    from pytest_aprqa.engines.endpoint_engine import connect

    return connect(endpoint_of(node), timeout_s=CONNECT_S)


def start_ahead(node: TargetNode, station: Station) -> None:
    """Start the target's server, without waiting, where an item of this session will ask it."""
    if node.target.is_endpoint or station.server is not None:
        return
    waiting = (
        item
        for item in node.session.items
        if isinstance(item, ScenarioItem | GateItem) and item.parent is node
    )
    if any(item.case.modality is Modality.SERVE for item in waiting):
        station.server = _started(node, station)


def served_of(node: TargetNode, station: Station) -> Served:
    """The target's server, ready to be asked; one that was told to end is started again.

    One that died by itself is given back as it is: asking it is the crash that it is.

    Raises:
        LoadFailed: it does not get ready; the same again for every later item.
    """
    if node.target.is_endpoint:
        from pytest_aprqa.engines.endpoint_served import find_server

        return find_server(endpoint_of(node), timeout_s=CONNECT_S)
    if station.server_failure is not None:
        raise LoadFailed(station.server_failure)
    if station.server is None or station.server.stopped:
        station.server = _started(node, station)
    if station.server.ready:
        return station.server
    try:
        try:
            station.server.wait_ready(READY_S)
        except EngineUnavailable:
            # The model may not fit twice: the server's copy is the one that is needed now.
            if station.engine is None:
                raise
            station.engine.close()
            station.server = _started(node, station)
            station.server.wait_ready(READY_S)
    except (LoadFailed, EngineUnavailable) as failure:
        station.server_failure = str(failure)
        station.server = None
        raise LoadFailed(station.server_failure) from failure
    return station.server


def client_of(item: ScenarioItem, station: Station) -> EndpointEngine:
    """The engine that asks the item's server, streaming.

    A server that does not get ready blocks the item; `serve_health` says why.
    """
    from pytest_aprqa.engines.endpoint_engine import connect_served

    try:
        return connect_served(served_of(item.node, station))
    except LoadFailed as failure:
        blocked_by_server(item, station, failure)
        raise


def blocked_by_server(item: ScenarioItem | GateItem, station: Station, failure: LoadFailed) -> None:
    """End an item whose server does not get ready; the first one that finds it so fails.

    Raises:
        Falsified: nobody has told of it yet.
    """
    reason = f"blocked by the server of {item.node.target.name}: {failure}"
    evidence = blank(item.case, item.nodeid, Outcome.BLOCKED, reason)
    if not station.server_failure_told:
        station.server_failure_told = True
        note(item, evidence)
        raise Falsified(f"the server does not get ready: {failure}")
    conclude(item, evidence)


def _started(node: TargetNode, station: Station) -> ServerProcess:
    from pytest_aprqa.engines.serving.server_process import start_server

    target = node.target
    assert station.file is not None
    assert target.format is not None
    assert target.backend is not None
    return start_server(
        station.file,
        target.format,
        backend=target.backend,
        threads=threads_per_worker(),
        model_name=node.subject.plan.playbook.model.id,
    )
