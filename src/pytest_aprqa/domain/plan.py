"""The plan: everything that a run of a playbook owes, worked out before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_aprqa.domain.case import Case, Judging, Target
from pytest_aprqa.domain.conditions.concluding import planned_conditions
from pytest_aprqa.domain.conversions import ConversionCase, conversions_of
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Narrowing, PlannedRun
from pytest_aprqa.domain.gate_plan import GateBook, model_gates, switched_off, target_gates
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Tier
from pytest_aprqa.domain.model_gates import GateCase, ModelCase, ModelGate
from pytest_aprqa.domain.oracle_spec import ArithmeticSpec, GarbageSpec, OracleSpec
from pytest_aprqa.domain.owed import (
    planned_case,
    planned_conversion,
    planned_gate,
    planned_model_gate,
)
from pytest_aprqa.domain.playbook import EndpointRef, Playbook, Scenario
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.tiers import Depth, TierRule, depth_of, rule_for

DEFAULT_ORACLES: tuple[OracleSpec, ...] = (ArithmeticSpec(), GarbageSpec())
"""What judges a prompt that names no oracle in a playbook that lists none."""

BATCHED_FROM = 8
"""Questions of one target from which they are generated together; fewer are not worth it."""

_SELF_SUFFICIENT = ("garbage", "exact", "regex")
"""Oracles that fix the text so far that the garbage oracle has nothing to add."""


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One target, the cases it owes in order, and the gates that are asked after them."""

    target: Target
    cases: tuple[Case, ...]
    gates: tuple[GateCase, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line leaves of the matrix; empty means everything."""

    backends: tuple[Backend, ...] = ()
    formats: tuple[Format, ...] = ()
    modalities: tuple[Modality, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run of one playbook at one tier owes."""

    playbook: Playbook
    tier: Tier | None
    targets: tuple[TargetPlan, ...]
    conversions: tuple[ConversionCase, ...]
    narrowings: tuple[Narrowing, ...]
    model_gates: tuple[ModelCase, ...] = ()
    """The gates about the ground truth's files."""
    endpoint: EndpointRef | None = None
    """The server that is asked, where no engine of this machine is."""

    @property
    def serves(self) -> bool:
        """Whether servers are started for it."""
        gates = (case for entry in self.targets for case in entry.gates)
        return self.endpoint is None and any(case.modality is Modality.SERVE for case in gates)

    def owed(self, file_id: str) -> PlannedRun:
        """The plan as it stands in evidence, with node ids under the playbook's node id."""
        return PlannedRun(
            targets=tuple(entry.target.name for entry in self.targets),
            scenarios=(
                *(planned_case(case, file_id) for entry in self.targets for case in entry.cases),
                *(planned_gate(gate, file_id) for entry in self.targets for gate in entry.gates),
                *(planned_model_gate(case, file_id) for case in self.model_gates),
                *(planned_conversion(case, file_id) for case in self.conversions),
                *planned_conditions(self.playbook.falsification_gates, file_id),
            ),
            narrowings=self.narrowings,
        )


Generator = Callable[[int], Sequence[Scenario]]
"""Gives that many generated scenarios, always the same first ones."""


def make_plan(
    playbook: Playbook,
    *,
    tier: Tier | None,
    selection: Selection,
    generate: Generator,
    endpoint: EndpointRef | None = None,
    book: GateBook | None = None,
) -> Plan:
    """Expand a playbook: targets × modalities × scenarios, as the tier and the selection allow.

    With an `endpoint` its server is the only target. `book` holds the gates of the registry.

    Raises:
        AprqaError: when two scenarios of the run would have the same name.
    """
    rule = rule_for(tier)
    declared = _declared(playbook, rule)
    kept = _selected(declared, selection)
    scenarios = {
        modality: _scenarios(playbook, tier, modality, generate) for modality in kept.modalities
    }
    local = endpoint is None
    asked = _targets(playbook, kept) if local else [Target(playbook.model.id, None, None, None)]
    gates = book or GateBook()
    targets = tuple(
        TargetPlan(target, cases, (*_gates(target, cases, kept.modalities), *registered))
        for target in asked
        if (cases := _cases(playbook, target, scenarios))
        for registered in (_registered(gates, playbook, tier, target, kept.modalities),)
    )
    return Plan(
        playbook=playbook,
        tier=tier,
        targets=targets,
        conversions=(
            conversions_of(kept.formats, playbook.model.quantizations)
            if rule.converts and local
            else ()
        ),
        narrowings=(
            *_not_seen(endpoint, declared),
            *_narrowed(declared, kept),
            *_too_shallow(playbook, tier, {m: len(found) for m, found in scenarios.items()}),
            *switched_off(gates, playbook),
        ),
        model_gates=_about_model(gates, playbook, tier) if targets and local else (),
        endpoint=endpoint,
    )


def _declared(playbook: Playbook, rule: TierRule) -> Selection:
    """What the playbook declares and the tier takes."""
    matrix = playbook.test_matrix
    return Selection(
        formats=tuple(f for f in playbook.formats if f in rule.formats),
        backends=tuple(b for b in matrix.backends if b in rule.backends),
        modalities=tuple(m for m in matrix.modalities if m in rule.modalities),
    )


def _selected(declared: Selection, by: Selection) -> Selection:
    """What the command line leaves of it."""
    return Selection(
        formats=tuple(f for f in declared.formats if not by.formats or f in by.formats),
        backends=tuple(b for b in declared.backends if not by.backends or b in by.backends),
        modalities=tuple(m for m in declared.modalities if not by.modalities or m in by.modalities),
    )


def _gates(
    target: Target, cases: Sequence[Case], modalities: Sequence[Modality]
) -> Iterator[GateCase]:
    """The claims about answers, then those about the server, the last of which ends it."""
    if target.is_endpoint:
        yield GateCase(ModelGate.PARITY, target)
    elif sum(case.batchable for case in cases) >= BATCHED_FROM:
        yield GateCase(ModelGate.BATCHED, target)
    if Modality.SERVE in modalities:
        yield from (GateCase(gate, target) for gate in ServeGate)


def _about_model(book: GateBook, playbook: Playbook, tier: Tier | None) -> tuple[ModelCase, ...]:
    return tuple(ModelCase(gate) for gate in model_gates(book, playbook, tier))


def _registered(
    book: GateBook,
    playbook: Playbook,
    tier: Tier | None,
    target: Target,
    modalities: Sequence[Modality],
) -> tuple[GateCase, ...]:
    serves = Modality.SERVE in modalities
    found = target_gates(book, playbook, tier, target, serves=serves)
    return tuple(GateCase(gate, target) for gate in found)


def _not_seen(endpoint: EndpointRef | None, declared: Selection) -> Iterator[Narrowing]:
    if endpoint is not None:
        yield Narrowing(
            cells=f"{', '.join(declared.formats)} × {', '.join(declared.backends)}",
            reason=f"asked at {endpoint.url}, whose files and device are not seen",
        )


def _narrowed(declared: Selection, kept: Selection) -> Iterator[Narrowing]:
    """What options of the command line leave out."""
    yield from _left_out("--aprqa-format", declared.formats, kept.formats)
    yield from _left_out("--aprqa-backend", declared.backends, kept.backends)
    yield from _left_out("--aprqa-modality", declared.modalities, kept.modalities)


def _left_out(option: str, declared: Sequence[str], kept: Sequence[str]) -> Iterator[Narrowing]:
    gone = [value for value in declared if value not in kept]
    if gone:
        yield Narrowing(cells=", ".join(gone), reason=f"left out by {option} {' '.join(kept)}")


def _too_shallow(
    playbook: Playbook, tier: Tier | None, depths: Mapping[Modality, int]
) -> Iterator[Narrowing]:
    """Cells in which the playbook's own `scenario_count` keeps a certifying run from its depth."""
    if tier not in (Tier.MVP, Tier.DEEP):
        return
    for modality, depth in depths.items():
        promised = rule_for(tier).depth or len(_fitting(playbook, modality))
        if depth < promised:
            reason = f"scenario_count leaves {depth} of the tier's {promised} scenarios"
            yield Narrowing(cells=modality, reason=reason)


def _targets(playbook: Playbook, kept: Selection) -> Iterator[Target]:
    for format_ in kept.formats:
        for quantization in _quantizations(playbook, format_):
            for backend in kept.backends:
                yield Target(playbook.model.id, format_, quantization, backend)


def _quantizations(playbook: Playbook, format_: Format) -> tuple[Quantization | None, ...]:
    """SafeTensors is qualified as published; the derived formats in every listed quantization."""
    if format_ is Format.SAFETENSORS or not playbook.model.quantizations:
        return (None,)
    return playbook.model.quantizations


_Listed = tuple[int | None, Scenario]
"""A scenario and its position in `scenarios` or `prompts`; None for a generated one."""


def _listed(playbook: Playbook) -> list[_Listed]:
    prompts = playbook.test_matrix.prompts
    width = len(str(len(prompts)))
    return [
        *enumerate(playbook.scenarios),
        *(
            (index, Scenario(name=f"prompt_{index + 1:0{width}}", prompt=prompt))
            for index, prompt in enumerate(prompts)
        ),
    ]


def _fitting(playbook: Playbook, modality: Modality) -> list[_Listed]:
    modalities = playbook.test_matrix.modalities
    return [e for e in _listed(playbook) if modality in e[1].expands_to(modalities)]


def _scenarios(
    playbook: Playbook, tier: Tier | None, modality: Modality, generate: Generator
) -> list[_Listed]:
    """The scenarios of every cell of one modality: those listed for it first, then generated."""
    fitting = _fitting(playbook, modality)
    depth: Depth = depth_of(
        tier, listed=len(fitting), scenario_count=playbook.test_matrix.scenario_count
    )
    fills = rule_for(tier).fills or bool(fitting) or not _listed(playbook)
    generated = generate(depth.generated) if depth.generated and fills else ()
    taken = [*fitting[: depth.listed], *((None, scenario) for scenario in generated)]
    _require_unique_names([scenario.name for _, scenario in taken])
    return taken


def _require_unique_names(names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise AprqaError(
                f"{times} scenarios would be named {name!r}: a prompt or a generated scenario has "
                "the name of a listed one; rename the listed one"
            )


def _cases(
    playbook: Playbook, target: Target, scenarios: Mapping[Modality, Sequence[_Listed]]
) -> tuple[Case, ...]:
    return tuple(
        _case(playbook, target, modality, index, scenario)
        for modality, found in scenarios.items()
        for index, scenario in found
    )


def _case(
    playbook: Playbook, target: Target, modality: Modality, index: int | None, scenario: Scenario
) -> Case:
    matrix = playbook.test_matrix
    turns = scenario.turns if scenario.turns is not None else (scenario.prompt or "",)
    return Case(
        target=target,
        modality=modality,
        scenario=scenario.name,
        index=index,
        turns=turns,
        system=scenario.system,
        judging=judging_of(playbook, scenario),
        max_tokens=scenario.max_tokens or matrix.max_tokens,
        temperature=(matrix.temperature if scenario.temperature is None else scenario.temperature),
        seed=matrix.seed if scenario.seed is None else scenario.seed,
        timeout_ms=scenario.timeout_ms or matrix.timeout_ms,
        stop=scenario.stop,
        severity=scenario.severity,
        category=scenario.category,
    )


def judging_of(playbook: Playbook, scenario: Scenario) -> Judging:
    """The scenario's own oracle and garbage, or the playbook's oracles where they apply."""
    garbage = next((o for o in playbook.oracles if o.type == "garbage"), GarbageSpec())
    if scenario.oracle is None:
        offered = playbook.oracles or DEFAULT_ORACLES
        return Judging(offered=offered if garbage in offered else (*offered, garbage))
    if scenario.oracle.type in _SELF_SUFFICIENT:
        return Judging(named=(scenario.oracle,))
    return Judging(named=(scenario.oracle, garbage))
