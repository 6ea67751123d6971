"""The gateways as session fixtures, the bodies of the items, and what stops the line.

There is no way to a model but through the fixtures: each takes the one before it, and the last
hands out the loaded engine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_aprqa.checks.gateways import (
    ProbeAnswer,
    check_answers,
    check_integrity,
    check_load,
    check_no_crash,
    check_not_garbage,
)
from pytest_aprqa.checks.integrity_finding import Expectations
from pytest_aprqa.checks.scenario import blank_evidence, try_case
from pytest_aprqa.domain.errors import EngineUnavailable, Falsified
from pytest_aprqa.domain.evidence import Evidence, ModelRecord, Outcome
from pytest_aprqa.domain.gates import Gateway, GatewayResult
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import FailurePolicy
from pytest_aprqa.domain.tiers import rule_for
from pytest_aprqa.plugin.collector import GatewayItem, ScenarioItem, TargetItem, TargetNode
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.explain import explain, explain_gateway, facts_of
from pytest_aprqa.plugin.line import in_worker, line_of

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine

_EVIDENCE = pytest.StashKey[Evidence]()
_STATION = pytest.StashKey["Station"]()


@dataclass(slots=True)
class Station:
    """One target's passage through the gateways in this process."""

    results: dict[Gateway, GatewayResult] = field(default_factory=dict)
    unreported: list[GatewayResult] = field(default_factory=list)
    model: ModelRecord | None = None
    answers: tuple[ProbeAnswer, ...] = ()
    engine: Engine | None = None


Admit = Callable[[TargetNode], Station]
"""Lets a target through a gateway, evaluated once for each target; raises when it is refused."""


@pytest.fixture(scope="session")
def g0_integrity() -> Admit:
    """G0: config, tokenizer and tensors of the target's checkpoint agree."""
    return lambda node: _admit(node, Gateway.G0, _integrity)


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
    engine = g4_not_garbage(item.node).engine
    assert engine is not None
    evidence = try_case(item.case, engine, item.nodeid)
    _note(item, evidence)
    if evidence.outcome is Outcome.SKIPPED:
        pytest.skip(evidence.reason)
    if evidence.outcome is not Outcome.CORROBORATED:
        raise Falsified(explain(evidence))


def release(node: TargetNode) -> None:
    """Close the target's engine and forget it; called when no item of the target is left."""
    station = node.stash.get(_STATION, None)
    if station is not None and station.engine is not None:
        station.engine.close()
        station.engine = None


def _station(node: TargetNode) -> Station:
    return node.stash.setdefault(_STATION, Station())


def _admit(
    node: TargetNode, gateway: Gateway, check: Callable[[TargetNode, Station], GatewayResult]
) -> Station:
    station = _station(node)
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

    directory = node.subject.model.directory
    station.model = _model_record(node, file_hashes(directory))
    model = node.subject.plan.playbook.model
    expectations = Expectations(
        hidden_dim=model.expected_hidden_dim,
        num_layers=model.expected_num_layers,
        num_heads=model.expected_num_heads,
        num_kv_heads=model.expected_num_kv_heads,
        vocab_size=model.expected_vocab_size,
        intermediate_dim=model.expected_intermediate_dim,
    )
    return check_integrity(node.target.name, directory, expectations)


def _model_record(node: TargetNode, hashes: dict[str, str]) -> ModelRecord:
    """Which model ran; a directory of the user's own does not run under the playbook's name."""
    subject = node.subject
    model = subject.plan.playbook.model
    own = node.config.getoption("aprqa_model") is not None
    return ModelRecord(
        id=f"local/{subject.model.directory.name}" if own else model.id,
        revision="none" if own else model.revision,
        source=subject.model.source,
        commit=subject.model.revision,
        size_category=model.size_category,
        family=model.family,
        size_variant=model.size_variant,
        files=hashes,
    )


def _load(node: TargetNode, station: Station) -> GatewayResult:
    from pytest_aprqa.engines.choice import load_engine

    try:
        result, station.engine = check_load(
            node.target.name,
            lambda: load_engine(
                node.target, node.subject.model.directory, threads=threads_per_worker()
            ),
        )
    except EngineUnavailable as error:
        pytest.skip(str(error))
    return result


def _answers(node: TargetNode, station: Station) -> GatewayResult:
    assert station.engine is not None
    result, station.answers = check_answers(node.target.name, station.engine)
    return result


def _no_crash(node: TargetNode, station: Station) -> GatewayResult:
    assert station.engine is not None
    return check_no_crash(node.target.name, station.engine)


def _not_garbage(node: TargetNode, station: Station) -> GatewayResult:
    return check_not_garbage(node.target.name, station.answers)


def _note(item: ScenarioItem, evidence: Evidence) -> None:
    """Keep the evidence for the item's report, and its facts for JUnit."""
    item.stash[_EVIDENCE] = evidence
    item.user_properties += facts_of(evidence)


class Conduct:
    """How playbook items run: what blocks them, what rides on their reports, what stops them."""

    def __init__(self, config: pytest.Config) -> None:
        self._line = line_of(config)
        self._in_worker = in_worker(config)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist the items run here: open the ledger for them."""
        if not self._in_worker and not session.config.option.collectonly:
            from pytest_aprqa.plugin.ledger import ledger_of

            ledger_of(session.config).expect([item.nodeid for item in session.items])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip what is blocked, and what this machine has no engine for."""
        if not isinstance(item, TargetItem):
            return
        blocked = self._line.blocked_by(item.node.subject.file_id) or self._out_of_time(item)
        if blocked is not None:
            reason = f"blocked by {blocked}"
            _put_off(item, Outcome.BLOCKED, reason)
            pytest.skip(reason)
        lacking = _lacking(item)
        if lacking is not None:
            _put_off(item, Outcome.SKIPPED, lacking)
            pytest.skip(lacking)

    def _out_of_time(self, item: TargetItem) -> str | None:
        plan = item.node.subject.plan
        limit = rule_for(plan.tier).time_limit_s
        if self._line.seconds_since_start_of(item.node.subject.file_id) <= limit:
            return None
        return f"the time limit of {plan.tier or 'the run'} ({limit:.0f} s)"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put gateway results and evidence on the report, which carries them to the controller."""
        report = yield
        if isinstance(item, TargetItem):
            evidence = _evidence_of(item, report, call)
            payload = _payload(item, evidence)
            if payload:
                report.aprqa = payload  # type: ignore[attr-defined]
            if evidence is not None:
                self._apply_policy(item, evidence)
        return report

    def _apply_policy(self, item: TargetItem, evidence: Evidence) -> None:
        file_id = item.node.subject.file_id
        if evidence.outcome is Outcome.CRASHED:
            self._line.stop(file_id, f"{Gateway.G3} of {evidence.target}: {evidence.reason}")
        elif evidence.outcome in (Outcome.FALSIFIED, Outcome.TIMEOUT):
            policy = item.node.subject.plan.playbook.failure_policy
            first = policy is FailurePolicy.STOP_ON_FIRST
            p0 = policy is FailurePolicy.STOP_ON_P0 and evidence.severity is Severity.P0
            if first or p0:
                self._line.block(file_id, f"failure_policy {policy}: {item.name} was falsified")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Without xdist, end the session once the line is stopped, every item accounted for."""
        result = yield
        reason = self._line.exit_reason
        if reason is not None and not self._in_worker:
            items = item.session.items
            for later in items[items.index(item) + 1 :]:
                if isinstance(later, TargetItem):
                    _report_blocked(later, f"blocked by {reason}")
            pytest.exit(f"the line is stopped by {reason}", returncode=1)
        return result


def _lacking(item: TargetItem) -> str | None:
    """Why no engine of this version, or no device of this machine, can run the item."""
    from pytest_aprqa.engines.choice import why_unavailable

    modality = item.case.modality if isinstance(item, ScenarioItem) else None
    return why_unavailable(item.node.target, modality)


def _put_off(item: TargetItem, outcome: Outcome, reason: str) -> None:
    """Note that the item will not be asked; a lack of this machine's is excused, a stop is not."""
    if isinstance(item, ScenarioItem):
        evidence = blank_evidence(item.case, item.nodeid, outcome, reason)
        excused = outcome is Outcome.SKIPPED
        _note(item, evidence.model_copy(update={"excused": excused}))


def _evidence_of(
    item: TargetItem, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Evidence | None:
    """The evidence that this report is the first to know; None when it has none to give."""
    if not isinstance(item, ScenarioItem) or report.when == "teardown":
        return None
    noted = item.stash.get(_EVIDENCE, None)
    if noted is not None:
        return noted if report.when == "call" or report.skipped else None
    if report.skipped:
        reason = str(call.excinfo.value) if call.excinfo is not None else "skipped"
        return blank_evidence(item.case, item.nodeid, Outcome.SKIPPED, reason)
    if call.excinfo is None:
        return None
    error = call.excinfo.value
    if isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout"):
        reason = f"stopped by pytest-timeout: {error}"
        return blank_evidence(item.case, item.nodeid, Outcome.TIMEOUT, reason)
    if isinstance(error, Falsified):  # a gateway refused the target before the case was asked
        return blank_evidence(item.case, item.nodeid, Outcome.BLOCKED, str(error).split("\n")[0])
    return None


def _payload(item: TargetItem, evidence: Evidence | None) -> dict[str, Any]:
    station = _station(item.node)
    payload: dict[str, Any] = {}
    if evidence is not None:
        payload["evidence"] = evidence.model_dump(mode="json")
    if station.unreported:
        payload["gateways"] = [r.model_dump(mode="json") for r in station.unreported]
        station.unreported.clear()
        if station.model is not None:
            payload["model"] = station.model.model_dump(mode="json")
    if payload:
        payload["file"] = item.node.subject.file_id
    return payload


def _report_blocked(item: TargetItem, reason: str) -> None:
    """Report an item that will never run, as pytest reports one that skips in its set-up."""
    _put_off(item, Outcome.BLOCKED, reason)
    path, line, _ = item.reportinfo()
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    phases: tuple[Literal["setup", "teardown"], ...] = ("setup", "teardown")
    for when in phases:
        skipped = when == "setup"
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="skipped" if skipped else "passed",
            longrepr=(str(path), (line or 0) + 1, f"Skipped: {reason}") if skipped else None,
            when=when,
            user_properties=item.user_properties,
        )
        if skipped:
            evidence = item.stash.get(_EVIDENCE, None)
            payload = _payload(item, evidence)
            if payload:
                report.aprqa = payload  # type: ignore[attr-defined]
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
