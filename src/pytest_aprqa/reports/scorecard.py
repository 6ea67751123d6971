"""The score card: what a run showed, in lines for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

from pytest_aprqa.domain.causes import causes
from pytest_aprqa.domain.evidence import Evidence, Outcome, RunRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.domain.mqs import CategoryScore, Mqs
from pytest_aprqa.domain.scoring import Status
from pytest_aprqa.domain.text import escaped, one_line

Style = Literal["plain", "good", "bad", "warn", "dim", "strong"]
_SHOWN_FALSIFICATIONS = 10
_SHOWN_CHARACTERS = 110
_SHOWN_CAUSE = 300
_LABEL = 13


@dataclass(frozen=True, slots=True)
class CardLine:
    """One line of the card and how it is to look."""

    text: str
    style: Style = "plain"


def render(record: RunRecord, mqs: Mqs, written: Sequence[str]) -> tuple[CardLine, ...]:
    """The card of one run; `written` are the files that hold its evidence."""
    return (
        *_cause(record),
        *_head(record),
        *_gateways(record, mqs),
        *_categories(mqs),
        *_throughput(record.evidence),
        *_falsifications(record.evidence),
        *_coverage(mqs),
        *_result(mqs),
        *(
            CardLine(_row("evidence" if i == 0 else "", path), "dim")
            for i, path in enumerate(written)
        ),
    )


def _cause(record: RunRecord) -> Iterator[CardLine]:
    """The root of what was refuted, in the card's first line."""
    found = causes(record)
    if found:
        told = one_line(found[0], limit=_SHOWN_CAUSE)
        more = f"; {len(found) - 1} more refuted" if len(found) > 1 else ""
        yield CardLine(_row("cause", f"{found[0].name}: {told}{more}"), "bad")


def _head(record: RunRecord) -> Iterator[CardLine]:
    tier = record.tier or "none (the playbook's own depth, feedback)"
    yield CardLine(_row("model", f"{record.model.id} @ {record.model.revision}"), "strong")
    yield CardLine(_row("playbook", f"{record.playbook.name} {record.playbook.version}"))
    yield CardLine(_row("tier", str(tier)))


def _gateways(record: RunRecord, mqs: Mqs) -> Iterator[CardLine]:
    found = {(r.target, r.gateway): r.passed for r in record.gateways}
    found |= {(r.target, r.gateway): False for r in mqs.failed_gateways}
    label = "gateways"
    for target in record.plan.targets:
        marks = []
        for gateway in Gateway:
            passed = found.get((target, gateway))
            marks.append(f"{gateway} {'not run' if passed is None else 'ok' if passed else 'FAIL'}")
        states = [found.get((target, gateway)) for gateway in Gateway]
        style: Style = "bad" if False in states else "good" if all(states) else "dim"
        yield CardLine(_row(label, f"{target}: {'  '.join(marks)}"), style)
        label = ""


def _categories(mqs: Mqs) -> Iterator[CardLine]:
    label = "categories"
    for score in mqs.categories:
        yield CardLine(_row(label, _category(score)), "plain" if score.tested else "dim")
        label = ""


def _category(score: CategoryScore) -> str:
    if not score.tested:
        return f"{score.category}  untested, earns nothing of {score.maximum}"
    return f"{score.category}  {score.passed}/{score.total} → {score.points} of {score.maximum}"


def _throughput(evidence: Iterable[Evidence]) -> Iterator[CardLine]:
    by_target: dict[str, list[Evidence]] = {}
    for item in evidence:
        if item.metrics is not None and item.metrics.tokens_per_second is not None:
            served = " served" if item.modality is Modality.SERVE else ""
            by_target.setdefault(f"{item.target}{served}", []).append(item)
    label = "throughput"
    for target, items in by_target.items():
        metrics = [item.metrics for item in items if item.metrics is not None]
        tokens = sum(m.completion_tokens for m in metrics)
        seconds = sum(m.duration_ms for m in metrics) / 1000
        waits = [m.ttft_ms for m in metrics if m.ttft_ms is not None]
        speed = f"{tokens / seconds:.0f} tok/s" if seconds > 0 else "no time measured"
        first = f", first token {statistics.median(waits):.0f} ms (median)" if waits else ""
        memory = max(m.memory_peak_mib for m in metrics)  # 0 where it cannot be read
        peak = f", peak {memory:.0f} MiB" if memory else ""
        text = f"{target}: {speed}{first}{peak}, {len(items)} requests"
        yield CardLine(_row(label, text))
        label = ""


def _falsifications(evidence: Iterable[Evidence]) -> Iterator[CardLine]:
    refuted = [
        item
        for item in evidence
        if item.outcome in (Outcome.FALSIFIED, Outcome.TIMEOUT, Outcome.CRASHED)
    ]
    label = "falsified"
    for item in refuted[:_SHOWN_FALSIFICATIONS]:
        name = item.id.rsplit("::", 1)[-1]
        text = f"{name}: {item.outcome}: {one_line(item.reason, limit=_SHOWN_CHARACTERS)}"
        yield CardLine(_row(label, text), "bad")
        label = ""
    if len(refuted) > _SHOWN_FALSIFICATIONS:
        more = len(refuted) - _SHOWN_FALSIFICATIONS
        yield CardLine(_row("", f"… and {more} more, all in the evidence"), "bad")


def _coverage(mqs: Mqs) -> Iterator[CardLine]:
    counts = ", ".join(
        f"{mqs.outcomes[outcome]} {outcome}" for outcome in Outcome if mqs.outcomes.get(outcome)
    )
    left = mqs.planned - mqs.executed
    ran = f"{mqs.executed} of {mqs.planned} planned items tried, {left} not"
    yield CardLine(
        _row("coverage", f"{ran} ({counts or 'no evidence'})"), "warn" if left else "plain"
    )
    gates = f"{mqs.gateways_run} of {mqs.gateways_owed} gateways evaluated"
    yield CardLine(_row("", gates), "plain" if mqs.gateways_run == mqs.gateways_owed else "warn")
    if mqs.scope:
        yield CardLine(_row("scope", "; ".join(mqs.scope)))
    label = "left out"
    for narrowing in mqs.narrowings:
        yield CardLine(_row(label, f"{narrowing.cells}: {narrowing.reason}"), "warn")
        label = ""
    label = "no meaning"
    for claim in mqs.inapplicable:
        yield CardLine(_row(label, f"{claim.cells}: {claim.reason}"), "dim")
        label = ""


def _result(mqs: Mqs) -> Iterator[CardLine]:
    rate = mqs.rate
    if mqs.points is None:
        asked = mqs.executed
        told = f"none: the run is partial; {mqs.outcomes.get(Outcome.CORROBORATED, 0)} of "
        told += f"{asked} tried corroborated"
        yield CardLine(_row("pass rate", told))
    elif rate.total:
        percent = floor(rate.value * 1000) / 10  # never rounded up to a threshold it missed
        interval = f"[{rate.lower:.1%}, {rate.upper:.1%}] exact 95 %"
        yield CardLine(
            _row("pass rate", f"{rate.passed}/{rate.total} = {percent:.1f} %, {interval}")
        )
    for kind, found in (("conversions", mqs.conversions), ("gates", mqs.gates)):
        if found.total:
            told = f"{found.passed} of {found.total} corroborated"
            yield CardLine(_row(kind, told), "plain" if found.passed == found.total else "warn")
    points = "not scored" if mqs.points is None else f"{mqs.points} / 1000"
    grade = mqs.grade or "–"
    style: Style = (
        "bad"
        if mqs.status is Status.BLOCKED
        else "good"
        if mqs.status in (Status.CERTIFIED, Status.PROVISIONAL)
        else "warn"
    )
    yield CardLine(_row("MQS", f"{points}   grade {grade}   status {mqs.status}"), style)
    label = "because"
    for remark in mqs.remarks:
        yield CardLine(
            _row(label, one_line(remark, limit=200)), "bad" if style == "bad" else "warn"
        )
        label = ""


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{escaped(text)}"
