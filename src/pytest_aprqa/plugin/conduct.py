"""How playbook items run: what blocks them, what rides on their reports, what stops the line."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

import pytest

from pytest_aprqa.checks.blank import blank
from pytest_aprqa.domain.errors import Falsified
from pytest_aprqa.domain.evidence import Evidence, Outcome
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Modality, Severity
from pytest_aprqa.domain.playbook import FailurePolicy
from pytest_aprqa.domain.tiers import rule_for
from pytest_aprqa.plugin.extensions import providers_for
from pytest_aprqa.plugin.items import GateItem, OwingItem, PlaybookItem, ScenarioItem, TargetItem
from pytest_aprqa.plugin.line import in_worker, line_of, worker_of
from pytest_aprqa.plugin.station import note, noted, stamped, station_of


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
        if not isinstance(item, PlaybookItem):
            return
        blocked = self._line.blocked_by(item.subject.file_id) or self._out_of_time(item)
        if blocked is not None:
            reason = f"blocked by {blocked}"
            _put_off(item, Outcome.BLOCKED, reason)
            pytest.skip(reason)
        lacking = _lacking(item)
        if lacking is not None:
            _put_off(item, Outcome.SKIPPED, lacking)
            pytest.skip(lacking)
        if isinstance(item, ScenarioItem):
            from pytest_aprqa.plugin.gateways import prepare

            prepare(item)

    def _out_of_time(self, item: PlaybookItem) -> str | None:
        plan = item.subject.plan
        limit = rule_for(plan.tier).time_limit_s
        if self._line.seconds_since_start_of(item.subject.file_id) <= limit:
            return None
        return f"the time limit of {plan.tier or 'the run'} ({limit:.0f} s)"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put gateway results and evidence on the report, which carries them to the controller."""
        report = yield
        if isinstance(item, PlaybookItem):
            evidence = _evidence_of(item, report, call)
            payload = _payload(item, evidence)
            if payload:
                report.aprqa = payload  # type: ignore[attr-defined]
            if evidence is not None:
                self._apply_policy(item, evidence)
        return report

    def _apply_policy(self, item: PlaybookItem, evidence: Evidence) -> None:
        file_id = item.subject.file_id
        if evidence.outcome is Outcome.CRASHED:
            self._line.stop(file_id, f"{Gateway.G3} of {evidence.target}: {evidence.reason}")
        elif evidence.outcome in (Outcome.FALSIFIED, Outcome.TIMEOUT):
            policy = item.subject.plan.playbook.failure_policy
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
                if isinstance(later, PlaybookItem):
                    _report_blocked(later, f"blocked by {reason}")
            pytest.exit(f"the line is stopped by {reason}", returncode=1)
        return result


def _lacking(item: PlaybookItem) -> str | None:
    """Why no engine of this version, or no device of this machine, can run the item."""
    if not isinstance(item, TargetItem):
        return None  # conversions are compared on the CPU
    from pytest_aprqa.engines.choice import why_unavailable

    target = item.node.target
    providers = providers_for(item.config, target)
    modality = item.case.modality if isinstance(item, ScenarioItem | GateItem) else None
    if providers and modality is Modality.SERVE:
        names = ", ".join(provider.name for provider in providers)
        return f"only the built-in engines are served; --aprqa-engine chose {names}"
    return why_unavailable(target, providers)


def _put_off(item: PlaybookItem, outcome: Outcome, reason: str) -> None:
    """Note that the item will not be asked; a lack of this machine's is excused, a stop is not."""
    if isinstance(item, OwingItem):
        evidence = blank(item.case, item.nodeid, outcome, reason)
        excused = outcome is Outcome.SKIPPED
        note(item, evidence.model_copy(update={"excused": excused}))


def _evidence_of(
    item: PlaybookItem, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Evidence | None:
    """The evidence that this report is the first to know; None when it has none to give."""
    if not isinstance(item, OwingItem) or report.when == "teardown":
        return None
    known = noted(item)
    if known is not None:
        return known if report.when == "call" or report.skipped else None
    if report.skipped:
        reason = str(call.excinfo.value) if call.excinfo is not None else "skipped"
        skipped = blank(item.case, item.nodeid, Outcome.SKIPPED, reason)
        # A skip of anybody else's, by a mark say, is no excuse: it leaves the run partial.
        excused = reason == station_of(item.station_node).unavailable
        return skipped.model_copy(update={"excused": excused})
    if call.excinfo is None:
        return None
    error = call.excinfo.value
    if isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout"):
        reason = f"stopped by pytest-timeout: {error}"
        return blank(item.case, item.nodeid, Outcome.TIMEOUT, reason)
    if isinstance(error, Falsified):  # a gateway refused the target before the case was asked
        return blank(item.case, item.nodeid, Outcome.BLOCKED, str(error).split("\n")[0])
    return None


def _payload(item: PlaybookItem, evidence: Evidence | None) -> dict[str, Any]:
    station = station_of(item.station_node)
    payload: dict[str, Any] = {}
    if evidence is not None:
        payload["evidence"] = stamped(evidence, worker_of(item.config)).model_dump(mode="json")
    if station.unreported:
        payload["gateways"] = [r.model_dump(mode="json") for r in station.unreported]
        station.unreported.clear()
        if station.model is not None:
            payload["model"] = station.model.model_dump(mode="json")
    if payload:
        payload["file"] = item.subject.file_id
    return payload


def _report_blocked(item: PlaybookItem, reason: str) -> None:
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
            evidence = noted(item) if isinstance(item, OwingItem) else None
            payload = _payload(item, evidence)
            if payload:
                report.aprqa = payload  # type: ignore[attr-defined]
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
