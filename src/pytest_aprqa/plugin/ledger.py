"""The ledger: gathers evidence from reports where they arrive, and concludes at the end.

It lives in the process that reports: the only one without xdist, the controller with it. What a
worker knows reaches it on reports alone, so nothing is lost but what a dying worker had not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pytest_aprqa.checks.blank import Owed, blank
from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.conditions.concluding import conclusions
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import (
    Evidence,
    ModelRecord,
    Outcome,
    PlannedRun,
    PlaybookRecord,
    RunRecord,
    worse,
)
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model_gates import GateCase
from pytest_aprqa.domain.mqs import ASKED, score_run
from pytest_aprqa.domain.owed import conversion_id, model_gate_id
from pytest_aprqa.domain.plan import Plan, TargetPlan
from pytest_aprqa.plugin.environment import describe_host, describe_libraries
from pytest_aprqa.plugin.hooks import PLAYBOOK_SUFFIX
from pytest_aprqa.plugin.line import line_of
from pytest_aprqa.plugin.live import LiveLines
from pytest_aprqa.plugin.options import settings_of
from pytest_aprqa.plugin.station import stamped
from pytest_aprqa.plugin.subject import plan_of, read_document
from pytest_aprqa.plugin.undisturbed import undisturbed
from pytest_aprqa.reports.evidence_files import JOURNAL, append_line, write_record
from pytest_aprqa.reports.scorecard import CardLine, render

_LEDGER = pytest.StashKey["Ledger"]()
_MARKUP: dict[str, dict[str, bool]] = {
    "plain": {},
    "good": {"green": True, "bold": True},
    "bad": {"red": True, "bold": True},
    "warn": {"yellow": True},
    "dim": {"light": True},
    "strong": {"bold": True},
}


@dataclass(slots=True)
class Book:
    """What is known of one playbook in this run."""

    file_id: str
    plan: Plan
    owed: PlannedRun
    cases: dict[str, Owed]
    identity: PlaybookRecord
    directory: Path
    evidence: dict[str, Evidence] = field(default_factory=dict)
    gateways: dict[tuple[str, Gateway], GatewayResult] = field(default_factory=dict)
    model: ModelRecord | None = None

    def add_evidence(self, evidence: Evidence) -> None:
        """Take evidence in; of two for one item the worse stands."""
        known = self.evidence.get(evidence.id)
        self.evidence[evidence.id] = evidence if known is None else worse(known, evidence)

    def add_gateway(self, result: GatewayResult) -> None:
        """Take a gateway's result in; a failure in one worker is a failure."""
        key = (result.target, result.gateway)
        if key not in self.gateways or not result.passed:
            self.gateways[key] = result


def ledger_of(config: pytest.Config) -> Ledger:
    """The run's ledger, opened and registered when first asked for."""
    ledger = config.stash.get(_LEDGER, None)
    if ledger is None:
        ledger = Ledger(config)
        config.stash[_LEDGER] = ledger
        config.pluginmanager.register(ledger, "aprqa-ledger")
    return ledger


class Ledger:
    """One run's books, one for each playbook."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._line = line_of(config)
        self._books: dict[str, Book] = {}
        self._idle: dict[str, str] = {}
        self._other_tests = False
        self._interrupted = False
        self._unwritten: str | None = None
        self._refuted = False
        self._cards: list[tuple[str, tuple[CardLine, ...]]] = []
        self._live = LiveLines(config)

    def expect(self, ids: Sequence[str]) -> None:
        """Open a book for every playbook among the selected items."""
        by_file: dict[str, list[str]] = {}
        for node_id in ids:
            if f"{PLAYBOOK_SUFFIX}::" in node_id:
                by_file.setdefault(_file_of(node_id), []).append(node_id)
        for file_id, items in by_file.items():
            if file_id in self._books or file_id in self._idle:
                continue
            if not any(item.count("::") == 2 for item in items):
                self._idle[file_id] = ""  # its reason comes with the skip's report
                continue
            self._open(file_id)
            self._live.announce(self._books[file_id].plan, items)

    def _open(self, file_id: str) -> None:
        config = self._config
        path = config.rootpath / file_id
        document = read_document(path, config.rootpath)
        plan = plan_of(document, settings_of(config))
        playbook = document.playbook
        self._books[file_id] = Book(
            file_id=file_id,
            plan=plan,
            owed=plan.owed(file_id),
            cases=_cases(plan, file_id),
            identity=PlaybookRecord(
                name=playbook.name,
                version=playbook.version,
                path=file_id,
                sha256=document.sha256,
                description=playbook.description,
                metadata=dict(playbook.metadata),
            ),
            directory=self._line.run_dir / _directory_of(file_id),
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a report carries."""
        payload: dict[str, Any] | None = getattr(report, "aprqa", None)
        if payload is not None:
            self._take(payload)
        file_id = _file_of(report.nodeid)
        if file_id in self._idle:
            self._idle[file_id] = _skip_reason(report) or self._idle[file_id]
        elif file_id not in self._books:
            self._other_tests = self._other_tests or report.when == "call"
        else:
            self._live.advance(self._books[file_id].gateways, report, payload)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]] | str] | None:
        """Call blocked items blocked; leave the dots to the live lines."""
        if not isinstance(report, pytest.TestReport) or _file_of(report.nodeid) not in self._books:
            return None
        return self._live.status_of(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A worker died in an item: Crashed, which fails G3 and stops the line."""
        book = self._books.get(_file_of(crashitem))
        if book is None:
            return
        case = book.cases.get(crashitem)
        reason = f"the worker died while running {crashitem.rsplit('::', 1)[-1]}"
        payload: dict[str, Any] = {"file": book.file_id}
        if case is not None:
            evidence = blank(case, crashitem, Outcome.CRASHED, reason)
            target = evidence.target
            dead = str(report.node.gateway.id)
            payload["evidence"] = stamped(evidence, dead).model_dump(mode="json")
        else:
            target = crashitem.split("::")[-2]
            result = GatewayResult(gateway=Gateway.G3, target=target, passed=False, reason=reason)
            payload["gateways"] = [result.model_dump(mode="json")]
        report.aprqa = payload  # type: ignore[attr-defined]
        self._line.stop(book.file_id, f"{Gateway.G3} of {target}: {reason}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember Ctrl-C; a stopped line comes this way too and is no interruption."""
        self._interrupted = self._interrupted or excinfo.errisinstance(KeyboardInterrupt)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Score every book and write its evidence, before any other plugin can fail.

        A run that asked nothing is no success.
        """
        with undisturbed():
            for book in self._books.values():
                try:
                    card = self._card(book)
                except AprqaError as error:  # no score stands on it
                    card = (CardLine(f"  not scored: {error}", "bad"),)
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
                self._cards.append((book.identity.name, card))
        if self._refuted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        asked = any(book.gateways or _asked(book) for book in self._books.values())
        nothing = (self._books or self._idle) and not asked and not self._other_tests
        if nothing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def _card(self, book: Book) -> tuple[CardLine, ...]:
        """The score of a book whose evidence was written.

        Raises:
            AprqaError: the record contradicts itself, or there is no room for it.
        """
        record = self._record(book)
        concluded = conclusions(record)
        if any(item.outcome is Outcome.FALSIFIED for item in concluded):
            self._refuted = True
        record = record.model_copy(update={"evidence": (*record.evidence, *concluded)})
        if self._unwritten is not None:
            raise AprqaError(self._unwritten)
        try:
            written = self._write(book, record)
        except OSError as error:
            where = f"evidence cannot be written to {book.directory}"
            raise AprqaError(f"{where}: {error.strerror}") from error
        return render(record, score_run(record), written)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the score cards."""
        for name, card in self._cards:
            terminalreporter.write_sep("=", f"qualification of {name}")
            for line in card:
                terminalreporter.write_line(line.text, **_MARKUP[line.style])
        for file_id, reason in self._idle.items():
            terminalreporter.write_sep("=", f"not qualified: {file_id}")
            terminalreporter.write_line(f"  {reason or 'nothing ran'}", yellow=True)

    def _take(self, payload: dict[str, Any]) -> None:
        book = self._books.get(payload["file"])
        if book is None:
            raise AprqaError(f"evidence of {payload['file']}, which no worker announced")
        self._append(book, payload)
        if "evidence" in payload:
            book.add_evidence(Evidence.model_validate(payload["evidence"]))
        for result in payload.get("gateways", ()):
            book.add_gateway(GatewayResult.model_validate(result))
        if "model" in payload:
            book.model = ModelRecord.model_validate(payload["model"])

    def _append(self, book: Book, payload: dict[str, Any]) -> None:
        """Write evidence down; a disk that takes no more stops the line, and nothing is scored."""
        if self._unwritten is not None:
            return
        try:
            append_line(book.directory, payload)
        except OSError as error:
            self._unwritten = (
                f"evidence cannot be written to {book.directory}: {error.strerror}; make room, or "
                "name another place with --aprqa-report-dir"
            )
            self._line.stop(book.file_id, self._unwritten)

    def _record(self, book: Book) -> RunRecord:
        model = book.plan.playbook.model
        return RunRecord(
            playbook=book.identity,
            model=book.model or ModelRecord(id=model.id, revision=model.revision),
            tier=book.plan.tier,
            plan=book.owed,
            gateways=tuple(book.gateways[key] for key in sorted(book.gateways)),
            evidence=tuple(
                book.evidence[entry.id]
                for entry in book.owed.scenarios
                if entry.id in book.evidence
            ),
            stopped=self._line.blocked_by(book.file_id),
            interrupted=self._interrupted,
            host=describe_host(),
            libraries=describe_libraries(),
            started=_told(datetime.fromtimestamp(self._line.started, UTC)),
            finished=_told(datetime.now(UTC)),
        )

    def _write(self, book: Book, record: RunRecord) -> list[str]:
        path = write_record(book.directory, record)
        shown = [path, path.with_name(JOURNAL)]
        return [_relative(p, self._config.invocation_params.dir) for p in shown if p.exists()]


def _cases(plan: Plan, file_id: str) -> dict[str, Owed]:
    """What each item that owes evidence is about, by node id."""
    asked: dict[str, Owed] = {
        f"{file_id}::{entry.target.name}::{case.item_name}": case
        for entry in plan.targets
        for case in _owed_by(entry)
    }
    asked |= {conversion_id(case, file_id): case for case in plan.conversions}
    return asked | {model_gate_id(case, file_id): case for case in plan.model_gates}


def _owed_by(entry: TargetPlan) -> Sequence[Case | GateCase]:
    return (*entry.cases, *entry.gates)


def _asked(book: Book) -> bool:
    return any(item.outcome in ASKED for item in book.evidence.values())


def _file_of(node_id: str) -> str:
    return node_id.split("::", 1)[0]


def _directory_of(file_id: str) -> PurePosixPath:
    """Where a playbook's evidence lies in the run's directory: as the playbook lies in the root's.

    A playbook outside the root directory stays inside the run's: its `..` become `up`.
    """
    path = PurePosixPath(file_id.removesuffix(PLAYBOOK_SUFFIX).replace("\\", "/"))
    return PurePosixPath(*("up" if part == ".." else part for part in path.parts if part != "/"))


def _skip_reason(report: pytest.TestReport) -> str | None:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return None


def _told(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _relative(path: Path, start: Path) -> str:
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)
