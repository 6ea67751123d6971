"""The live view: a header for each playbook and one line for each target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_aprqa.domain.case import ENDPOINT
from pytest_aprqa.domain.conversions import CONVERSION
from pytest_aprqa.domain.evidence import Outcome
from pytest_aprqa.domain.gateways import Gateway, GatewayResult, gateways_of
from pytest_aprqa.domain.model_gates import MODEL
from pytest_aprqa.domain.plan import Plan
from pytest_aprqa.plugin.environment import engine_line

_NO_GATEWAYS = (CONVERSION, MODEL)
_Status = tuple[str, str, tuple[str, dict[str, bool]] | str]


@dataclass(slots=True)
class _Progress:
    """How far one target is."""

    items: int
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: float = 0.0


class LiveLines:
    """Replaces the dots of playbook items; `-v` and `-q` keep pytest's own way of showing them."""

    def __init__(self, config: pytest.Config) -> None:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        self._reporter: pytest.TerminalReporter | None = reporter
        self._compact = reporter is not None and config.get_verbosity() == 0
        self._rewrites = self._compact and reporter is not None and reporter.isatty
        self._engines = ", ".join(config.getoption("aprqa_engine")) or engine_line()
        self._targets: dict[tuple[str, str], _Progress] = {}

    def announce(self, plan: Plan, items: Sequence[str]) -> None:
        """Print model, matrix and engine, and learn what each target owes."""
        for item in items:
            key = _target_of(item)
            if key is not None:
                self._targets.setdefault(key, _Progress(0)).items += 1
        if self._reporter is not None and self._compact:
            self._reporter.ensure_newline()
            for line in _header(plan, len(items), self._engines):
                self._reporter.write_line(line, bold=True)

    def status_of(self, report: pytest.TestReport) -> _Status | None:
        """The category of an item's report; without letters where the live line speaks for it."""
        blocked = report.skipped and outcome_of(report) == Outcome.BLOCKED
        if blocked:
            return "blocked", "" if self._compact else "b", ("BLOCKED", {"yellow": True})
        if not self._compact or _from_a_dead_worker(report):
            return None
        if report.skipped:
            return "skipped", "", "SKIPPED"
        if report.when == "call":
            return ("passed", "", "PASSED") if report.passed else ("failed", "", "FAILED")
        return None

    def advance(
        self,
        gateways: Mapping[tuple[str, Gateway], GatewayResult],
        report: pytest.TestReport,
        payload: dict[str, Any] | None,
    ) -> None:
        """Count an item in; show its target's line, rewritten on a terminal, else when done."""
        key = _target_of(report.nodeid)
        progress = self._targets.get(key) if key is not None else None
        if key is None or progress is None:
            return
        _count(progress, payload)
        if report.when == "teardown" or _from_a_dead_worker(report):
            progress.done += 1
        if self._reporter is None or not self._compact:
            return
        line = _line(key[1], progress, gateways)
        if progress.done >= progress.items and report.when == "teardown":
            if self._rewrites:
                self._reporter.rewrite(line, erase=True)
                self._reporter.write_line("")
            else:
                self._reporter.ensure_newline()
                self._reporter.write_line(line)
        elif self._rewrites:
            self._reporter.rewrite(line, erase=True)


def outcome_of(report: pytest.TestReport) -> str | None:
    """The outcome that a report carries, as a word; None for reports without evidence."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    if str(reason).startswith("Skipped: blocked by"):
        return Outcome.BLOCKED
    payload: dict[str, Any] = getattr(report, "aprqa", None) or {}
    evidence = payload.get("evidence")
    return None if evidence is None else str(evidence["outcome"])


def _from_a_dead_worker(report: pytest.TestReport) -> bool:
    """Whether xdist made the report up for a worker that died; such a report has no phase."""
    return report.when not in ("setup", "call", "teardown")


def _target_of(node_id: str) -> tuple[str, str] | None:
    parts = node_id.split("::")
    return (parts[0], parts[1]) if len(parts) == 3 else None


def _count(progress: _Progress, payload: dict[str, Any] | None) -> None:
    evidence = (payload or {}).get("evidence")
    if evidence is None:
        return
    progress.outcomes[evidence["outcome"]] += 1
    metrics = evidence.get("metrics")
    if metrics:
        progress.tokens += metrics["completion_tokens"]
        progress.seconds += metrics["duration_ms"] / 1000


def _header(plan: Plan, items: int, engines: str) -> list[str]:
    playbook = plan.playbook
    targets = ", ".join(entry.target.name for entry in plan.targets)
    conversions = f"; {len(plan.conversions)} conversions" if plan.conversions else ""
    gates = sum(len(entry.gates) for entry in plan.targets) + len(plan.model_gates)
    more = f"; {gates} gates" if gates else ""
    who = f"endpoint {plan.endpoint.url}" if plan.endpoint else f"engine {engines}"
    modalities = dict.fromkeys(case.modality for entry in plan.targets for case in entry.cases)
    tier = f"tier {plan.tier}" if plan.tier else "no tier (feedback)"
    return [
        f"aprqa: {playbook.model.id} @ {playbook.model.revision}, {tier}, {items} items",
        f"       {targets} × {', '.join(modalities)}{conversions}{more}; {who}",
    ]


def _line(
    target: str, progress: _Progress, gateways: Mapping[tuple[str, Gateway], GatewayResult]
) -> str:
    marks = []
    for gateway in gateways_of(endpoint=target == ENDPOINT) if target not in _NO_GATEWAYS else ():
        result = gateways.get((target, gateway))
        marks.append(f"{gateway}{'·' if result is None else '✓' if result.passed else '✗'}")
    told = ", ".join(f"{count} {word.lower()}" for word, count in progress.outcomes.items())
    speed = f", {progress.tokens / progress.seconds:.0f} tok/s" if progress.seconds else ""
    return f"  {target:<18} {' '.join(marks)}  {progress.done}/{progress.items}  {told}{speed}"
