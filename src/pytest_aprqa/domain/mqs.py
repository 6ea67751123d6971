"""The Model Qualification Score of a run: a pure function of its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pytest_aprqa.domain.causes import REFUTED
from pytest_aprqa.domain.conditions.concluding import RUN, conclusions
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import (
    Check,
    Evidence,
    Narrowing,
    Outcome,
    PlannedScenario,
    RunRecord,
    contradictions,
    worse,
)
from pytest_aprqa.domain.gateways import Gateway, GatewayResult, gateways_of
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.model_gates import MODEL
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.scoring import (
    CATEGORY_POINTS,
    CERTIFYING_TIERS,
    Grade,
    Status,
    category_points,
    grade_from_score,
    missed_threshold,
    score_from_tier,
    status_from_tier,
)
from pytest_aprqa.domain.statistics import clopper_pearson

ASKED = (
    Outcome.CORROBORATED,
    Outcome.FALSIFIED,
    Outcome.TIMEOUT,
    Outcome.CRASHED,
    Outcome.INCONCLUSIVE,
)
"""Outcomes of items that were really put to the model."""


@dataclass(frozen=True, slots=True)
class PassRate:
    """Corroborated of all that the scope owes, with the exact 95 % interval."""

    passed: int
    total: int
    lower: float
    upper: float

    @property
    def value(self) -> Fraction:
        """The rate; 0 when nothing was owed."""
        return Fraction(self.passed, self.total) if self.total else Fraction(0)


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """One category's evidence and points; `total` 0 means untested."""

    category: Category
    passed: int
    total: int
    points: int
    maximum: int

    @property
    def tested(self) -> bool:
        """False when the run holds no evidence of the category: it earns nothing."""
        return self.total > 0


@dataclass(frozen=True, slots=True)
class Mqs:
    """The score of one run, with what it covers and why it certifies no more than it does."""

    points: int | None
    """0 to 1000; None when the run is partial and no gateway failed."""
    grade: Grade | None
    """None for feedback and for partial runs."""
    status: Status
    rate: PassRate
    """Of the scenario items, on which the tier's threshold stands."""
    conversions: PassRate
    """Of the conversion items, each of which is P0: one that is falsified blocks the model."""
    gates: PassRate
    """Of the gates of servers and of answers. The tier's threshold stands on the lower of their
    rate and the scenarios': neither makes up for the other."""
    categories: tuple[CategoryScore, ...]
    planned: int
    """Scenario items that the playbook owes at this tier, excused ones included."""
    executed: int
    """Scenario items that were really put to the model."""
    outcomes: Mapping[Outcome, int]
    failed_gateways: tuple[GatewayResult, ...]
    gateways_run: int
    gateways_owed: int
    scope: tuple[str, ...]
    """The targets and modalities that the score speaks of."""
    narrowings: tuple[Narrowing, ...]
    """What it does not speak of."""
    inapplicable: tuple[Narrowing, ...]
    """Gates that have no meaning for this model or its server, and why."""
    remarks: tuple[str, ...]
    """Why the status is not better, a sentence each."""


def score_run(record: RunRecord) -> Mqs:
    """Score a run from its record alone.

    Raises:
        AprqaError: when the record contradicts itself, for instance with evidence of items that
            its plan does not name, or with a pass that no oracle gave.
    """
    for problem in contradictions(record):
        raise AprqaError(f"{problem}: the record mixes runs or was edited; run the playbook again")
    run = _sift(_with_true_conditions(record))
    points = _points(run)
    certifying = record.tier in CERTIFYING_TIERS
    gradeable = points is not None and (certifying or bool(run.failed))
    return Mqs(
        points=points,
        grade=grade_from_score(points) if points is not None and gradeable else None,
        status=_status(run),
        rate=run.rate,
        conversions=run.conversions,
        gates=run.gates,
        categories=run.categories,
        planned=len(record.plan.scenarios),
        executed=sum(item.outcome in ASKED for item in run.evidence.values()),
        outcomes=dict(Counter(item.outcome for item in run.evidence.values())),
        failed_gateways=run.failed,
        gateways_run=run.gateways_run,
        gateways_owed=run.gateways_owed,
        scope=_cells(run.scope),
        narrowings=run.narrowings,
        inapplicable=_inapplicable(record.plan.scenarios, run.evidence),
        remarks=tuple(_remarks(run)),
    )


_GATES = (Check.SERVE, Check.MODEL, Check.GATE, Check.CONDITION)
_DECIDED = (Outcome.CORROBORATED, *REFUTED)


@dataclass(frozen=True, slots=True)
class _Sifted:
    """A record's evidence against its plan."""

    record: RunRecord
    evidence: Mapping[str, Evidence]
    scope: Sequence[PlannedScenario]
    """What is owed: the plan without what is excused."""
    missing: int
    """Items in scope that neither were asked nor blocked."""
    rate: PassRate
    conversions: PassRate
    gates: PassRate
    categories: tuple[CategoryScore, ...]
    failed: tuple[GatewayResult, ...]
    gateways_run: int
    gateways_owed: int
    refuted_p0: Sequence[str]
    unasked_p0: int
    narrowings: tuple[Narrowing, ...]

    @property
    def decisive(self) -> PassRate:
        """The lower of the two rates that the tier's threshold stands on."""
        rates = [rate for rate in (self.rate, self.gates) if rate.total] or [self.rate]
        return min(rates, key=lambda rate: rate.value)

    @property
    def partial(self) -> bool:
        """True when the record does not hold what a score is made of."""
        return self.missing > 0 or not self.scope or self.gateways_run < self.gateways_owed


def _with_true_conditions(record: RunRecord) -> RunRecord:
    """The record, once its conditions are seen to come to what it says.

    Raises:
        AprqaError: one of them does not.
    """
    true = {item.id: item.outcome for item in conclusions(record)}
    for item in record.evidence:
        if item.check is Check.CONDITION and item.outcome is not true[item.id]:
            raise AprqaError(
                f"evidence of {item.id!r} says {item.outcome}, but its condition comes to "
                f"{true[item.id]}: the record was edited; run the playbook again"
            )
    return record


def _sift(record: RunRecord) -> _Sifted:
    evidence = _by_id(record)
    planned = record.plan.scenarios
    scope = [entry for entry in planned if not _excused(evidence.get(entry.id))]
    found = [evidence[entry.id] for entry in scope if entry.id in evidence]
    targets = {e.target: e.format is None for e in scope if e.check is Check.SCENARIO}
    p0 = [item for item in found if item.severity is Severity.P0]
    return _Sifted(
        record=record,
        evidence=evidence,
        scope=scope,
        missing=sum(not _settled(evidence.get(entry.id)) for entry in scope),
        rate=_pass_rate(found, scope, Check.SCENARIO),
        conversions=_pass_rate(found, scope, Check.CONVERSION),
        gates=_pass_rate(found, scope, *_GATES),
        categories=_categories(scope, evidence),
        failed=_failed_gateways(record, found),
        gateways_run=len({(r.target, r.gateway) for r in record.gateways if r.target in targets}),
        gateways_owed=sum(len(gateways_of(endpoint=kind)) for kind in targets.values()),
        refuted_p0=[item.id for item in p0 if item.outcome in REFUTED],
        unasked_p0=sum(item.outcome not in _DECIDED for item in p0),
        narrowings=(*record.plan.narrowings, *_excused_cells(planned, evidence)),
    )


def _by_id(record: RunRecord) -> dict[str, Evidence]:
    """Evidence by item, the worst one where an item reported twice."""
    found: dict[str, Evidence] = {}
    for item in record.evidence:
        found[item.id] = worse(found[item.id], item) if item.id in found else item
    return found


def _excused(item: Evidence | None) -> bool:
    return item is not None and item.outcome is Outcome.SKIPPED and item.excused


def _settled(item: Evidence | None) -> bool:
    """An item counts in the pass rate when it was asked, or when the line was stopped before it."""
    return item is not None and (item.outcome in ASKED or item.outcome is Outcome.BLOCKED)


def _pass_rate(
    found: Iterable[Evidence], scope: Iterable[PlannedScenario], *checks: Check
) -> PassRate:
    """The rate of one kind of item: conversions that pass must not make up for wrong answers."""
    passed = sum(i.outcome is Outcome.CORROBORATED for i in found if i.check in checks)
    total = sum(entry.check in checks for entry in scope)
    lower, upper = clopper_pearson(passed, total)
    return PassRate(passed, total, lower, upper)


def _failed_gateways(record: RunRecord, asked: Iterable[Evidence]) -> tuple[GatewayResult, ...]:
    """Failed results, and G3 for every target in which a scenario crashed."""
    failed = {(r.target, r.gateway): r for r in record.gateways if not r.passed}
    for item in asked:
        if item.outcome is Outcome.CRASHED:
            crash = GatewayResult(
                gateway=Gateway.G3, target=item.target, passed=False, reason=item.reason
            )
            failed.setdefault((item.target, Gateway.G3), crash)
    return tuple(failed[key] for key in sorted(failed))


def _categories(
    scope: Sequence[PlannedScenario], evidence: Mapping[str, Evidence]
) -> tuple[CategoryScore, ...]:
    scores = []
    for category, maximum in CATEGORY_POINTS.items():
        owed = [entry for entry in scope if entry.category is category]
        found = [evidence[entry.id] for entry in owed if entry.id in evidence]
        tested = any(item.outcome in ASKED for item in found)
        total = len(owed) if tested else 0
        passed = sum(item.outcome is Outcome.CORROBORATED for item in found)
        points = category_points(category, passed, total)
        scores.append(CategoryScore(category, passed, total, points, maximum))
    return tuple(scores)


def _points(run: _Sifted) -> int | None:
    if run.failed:
        return 0
    if run.partial:
        return None
    tier = run.record.tier
    if tier is not None and tier in CERTIFYING_TIERS:
        return score_from_tier(tier, run.decisive.value, p0_failed=bool(run.refuted_p0))
    return sum(score.points for score in run.categories)


def _status(run: _Sifted) -> Status:
    if run.failed or run.refuted_p0:
        return Status.BLOCKED
    tier = run.record.tier
    if run.partial or tier is None or tier not in CERTIFYING_TIERS:
        return Status.PENDING
    status = status_from_tier(tier, run.decisive.value)
    capped = run.narrowings or run.unasked_p0
    return Status.PENDING if capped and status is not Status.BLOCKED else status


_THINGS = {MODEL: "gates of the model's files", RUN: "conditions of the run"}


def _cells(scope: Iterable[PlannedScenario]) -> tuple[str, ...]:
    cells: dict[str, list[str]] = {}
    for entry in scope:
        cells.setdefault(entry.target, []).append(entry.modality or "")
    return tuple(
        f"{target} × {', '.join(filter(None, dict.fromkeys(found)))}"
        if any(found)
        else f"{len(found)} {_THINGS.get(target, target + 's')}"
        for target, found in cells.items()
    )


def _excused_cells(
    planned: Iterable[PlannedScenario], evidence: Mapping[str, Evidence]
) -> tuple[Narrowing, ...]:
    reasons: dict[tuple[str, str], list[PlannedScenario]] = {}
    for entry in planned:
        item = evidence.get(entry.id)
        if item is not None and _excused(item) and item.applicable:
            reasons.setdefault((entry.target, item.reason), []).append(entry)
    return tuple(
        Narrowing(cells=", ".join(_cells(entries)), reason=reason)
        for (_, reason), entries in reasons.items()
    )


def _inapplicable(
    planned: Iterable[PlannedScenario], evidence: Mapping[str, Evidence]
) -> tuple[Narrowing, ...]:
    found: dict[tuple[str, str], list[str]] = {}
    for entry in planned:
        item = evidence.get(entry.id)
        if item is not None and _excused(item) and not item.applicable:
            found.setdefault((entry.scenario, item.reason), []).append(entry.target)
    return tuple(
        Narrowing(cells=f"{name} of {', '.join(targets)}", reason=reason)
        for (name, reason), targets in found.items()
    )


def _remarks(run: _Sifted) -> Iterator[str]:
    yield from (f"{r.gateway} of {r.target} failed: {r.reason}" for r in run.failed)
    yield from (f"P0 falsified: {item}" for item in run.refuted_p0)
    if run.record.interrupted:
        yield "the run was interrupted"
    if not run.failed and not run.refuted_p0:
        if run.record.stopped is not None:
            yield f"the line was stopped: {run.record.stopped}"
        if run.unasked_p0:
            yield f"not asked: {run.unasked_p0} P0 scenario items; all are, before a certificate"
    yield from _gaps(run)
    yield from _limits(run)


def _gaps(run: _Sifted) -> Iterator[str]:
    """What the record lacks."""
    if not run.scope:
        yield "nothing was asked of the model"
    elif run.missing:
        yield (
            f"partial run: {run.missing} of {len(run.scope)} scenario items in scope "
            "have no evidence"
        )
    elif run.gateways_run < run.gateways_owed and not run.failed:
        yield f"partial run: {run.gateways_run} of {run.gateways_owed} gateways were evaluated"


def _limits(run: _Sifted) -> Iterator[str]:
    """What keeps even a complete run from more."""
    tier = run.record.tier
    if tier is None or tier not in CERTIFYING_TIERS:
        name = f"tier {tier}" if tier else "a run without --tier"
        yield f"{name} is feedback and certifies nothing"
    elif not run.partial and (missed := missed_threshold(tier, run.decisive.value)):
        kind = "" if run.decisive is run.rate else " gates"
        yield f"{run.decisive.passed} of {run.decisive.total}{kind} corroborated: {missed}"
    if run.narrowings:
        yield "the score speaks of its scope only; a narrowed run is not certified"
