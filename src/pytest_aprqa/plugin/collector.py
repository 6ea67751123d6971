"""From a playbook file to nodes: `PlaybookFile > TargetNode`, whose items are in `items`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.case import Case, Target
from pytest_aprqa.domain.conversions import CONVERSION
from pytest_aprqa.domain.errors import AprqaError, ModelUnavailable, PlaybookError
from pytest_aprqa.domain.gate import Gate, Rung
from pytest_aprqa.domain.gateways import gateway_item_name, gateways_of
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.domain.model_gates import MODEL, GateCase
from pytest_aprqa.domain.plan import Plan, TargetPlan
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.plugin.extensions import unusable_oracles
from pytest_aprqa.plugin.options import hang_grace, settings_of
from pytest_aprqa.plugin.subject import Subject, plan_of, read_document, resolve, teller_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.formats.hub import ResolvedModel
    from pytest_aprqa.formats.playbook_yaml import PlaybookDocument
    from pytest_aprqa.plugin.items import UnavailableItem

GATEWAYS_PLUGIN = "aprqa-gateways"
CONVERSION_LIMIT_S = 3600.0
"""Most seconds that one conversion item may take before it counts as hung."""
GATEWAY_LIMIT_S = 7200.0
"""The same of a gateway: it may hash, convert and load the largest model that fits a machine."""
GATE_LIMIT_S = 1800.0
"""The same of a gate: some two hundred short requests of a slow model, and a server's start."""


def file_id_of(path: Path, root: Path) -> str:
    """The way from the root directory to a playbook, by which it is found again from its node id.

    Of a file outside the root directory pytest's own id is cut off at the argument it was given by.
    """
    try:
        return os.path.relpath(path, root).replace(os.sep, "/")
    except ValueError:  # another drive than the root directory's
        return str(path).replace(os.sep, "/")


class PlaybookFile(pytest.File):
    """One playbook. A mistake in it is one collection error and hides no other file."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Targets with their items, or one item that says why nothing can run."""
        self._register_gateways()
        settings = settings_of(self.config)
        try:
            document = read_document(self.path, self.config.rootpath)
            plan = plan_of(document, settings)
            _check(plan, document, self._told())
        except AprqaError as error:
            raise self.CollectError(str(error)) from None
        if not plan.targets:
            yield self._cannot_run("nothing_to_run", _why_empty(plan))
            return
        model: ResolvedModel | None = None
        try:
            model = resolve(document, settings, teller_of(self.config))
        except ModelUnavailable as error:
            if plan.endpoint is None:
                yield self._cannot_run("model_unavailable", str(error))
                return
        except AprqaError as error:
            raise self.CollectError(f"{self._told()}: {error}") from None
        subject = Subject(self.nodeid, document, plan, model)
        if plan.model_gates:
            yield ModelNode.from_parent(self, name=MODEL, subject=subject)
        for target_plan in plan.targets:
            yield TargetNode.from_parent(
                self, name=target_plan.target.name, subject=subject, target_plan=target_plan
            )
        if plan.conversions:
            yield ConversionNode.from_parent(self, name=CONVERSION, subject=subject)

    def _told(self) -> str:
        return os.path.relpath(self.path, self.config.rootpath)

    def _cannot_run(self, name: str, reason: str) -> UnavailableItem:
        from pytest_aprqa.plugin.items import UnavailableItem

        item: UnavailableItem = UnavailableItem.from_parent(self, name=name, reason=reason)
        return item

    def _register_gateways(self) -> None:
        manager = self.config.pluginmanager
        if not manager.hasplugin(GATEWAYS_PLUGIN):
            from pytest_aprqa.plugin import gateways
            from pytest_aprqa.plugin.conduct import Conduct
            from pytest_aprqa.plugin.environment import share_out_threads
            from pytest_aprqa.plugin.line import in_worker

            if in_worker(self.config):
                share_out_threads()
            manager.register(gateways, GATEWAYS_PLUGIN)
            manager.register(Conduct(self.config), "aprqa-conduct")


class TargetNode(pytest.Collector):
    """What one worker loads once; its node id is what items are scheduled by."""

    def __init__(self, *, subject: Subject, target_plan: TargetPlan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.target_plan = target_plan

    @property
    def target(self) -> Target:
        """The target that the items below are about."""
        return self.target_plan.target

    def collect(self) -> Iterator[pytest.Item]:
        """The gateways, then the cases and gates: those of the server last, its end at the end."""
        from pytest_aprqa.plugin.gates import prove
        from pytest_aprqa.plugin.gateways import pass_gateway, qualify
        from pytest_aprqa.plugin.items import GateItem, GatewayItem, ScenarioItem

        grace = hang_grace(self.config)
        for gateway in gateways_of(endpoint=self.target.is_endpoint):
            name = gateway_item_name(gateway, self.target.name)
            first: GatewayItem = GatewayItem.from_parent(
                self, name=name, callobj=pass_gateway, gateway=gateway
            )
            yield limited(first, GATEWAY_LIMIT_S, grace)
        for subject in _in_order(self.target_plan):
            if isinstance(subject, Case):
                item: ScenarioItem = ScenarioItem.from_parent(
                    self, name=subject.item_name, callobj=qualify, case=subject
                )
                yield limited(item, len(subject.turns) * subject.timeout_ms / 1000, grace)
            else:
                gate: GateItem = GateItem.from_parent(
                    self, name=subject.item_name, callobj=prove, case=subject
                )
                yield limited(gate, GATE_LIMIT_S, grace)

    def teardown(self) -> None:
        """Give the target's memory back."""
        from pytest_aprqa.plugin.gateways import release

        release(self)


class ConversionNode(pytest.Collector):
    """All conversions of a playbook's model: one worker makes and compares their files."""

    def __init__(self, *, subject: Subject, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subject = subject

    def collect(self) -> Iterator[pytest.Item]:
        """Every conversion that the plan owes."""
        from pytest_aprqa.plugin.conversions import try_out
        from pytest_aprqa.plugin.items import ConversionItem

        grace = hang_grace(self.config)
        for case in self.subject.plan.conversions:
            item: ConversionItem = ConversionItem.from_parent(
                self, name=case.item_name, callobj=try_out, case=case
            )
            yield limited(item, CONVERSION_LIMIT_S, grace)


class ModelNode(pytest.Collector):
    """All gates about the files of a playbook's ground truth."""

    def __init__(self, *, subject: Subject, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subject = subject

    def collect(self) -> Iterator[pytest.Item]:
        """Every such gate that the plan owes."""
        from pytest_aprqa.plugin.gates import look_into
        from pytest_aprqa.plugin.items import ModelGateItem

        grace = hang_grace(self.config)
        for case in self.subject.plan.model_gates:
            item: ModelGateItem = ModelGateItem.from_parent(
                self, name=case.item_name, callobj=look_into, case=case
            )
            yield limited(item, GATE_LIMIT_S, grace)

    def teardown(self) -> None:
        """Give the memory of what was measured back."""
        from pytest_aprqa.plugin.labs import put_away

        put_away(self)


def limited(item: pytest.Item, seconds: float, grace: float | None) -> pytest.Item:
    """The item, ended when it takes longer by the grace; without one the limit is not ours."""
    if grace is not None:
        item.add_marker(pytest.mark.timeout(seconds + grace, func_only=True))
    return item


def _in_order(target_plan: TargetPlan) -> Iterator[Case | GateCase]:
    """What lies nearest to the bytes first, as it explains the rest; the server's at the end."""
    cases, gates = target_plan.cases, target_plan.gates
    last = [entry for entry in gates if entry.gate is ServeGate.SHUTDOWN]
    here = [entry for entry in gates if entry.modality is not Modality.SERVE]
    early = [e for e in here if isinstance(e.gate, Gate) and e.gate.rung < Rung.TEXT]
    yield from early
    yield from (case for case in cases if case.modality is not Modality.SERVE)
    yield from (entry for entry in here if entry not in early)
    yield from (e for e in gates if e.modality is Modality.SERVE and e not in last)
    yield from (case for case in cases if case.modality is Modality.SERVE)
    yield from last


def _unknown_gates(document: PlaybookDocument, told: str) -> Iterator[str]:
    """Ids that no gate has, and conditions that nothing can decide."""
    from pytest_aprqa.checks.gates.registry import gate_named
    from pytest_aprqa.domain.conditions.evaluation import mistakes_in
    from pytest_aprqa.domain.gate_plan import listed_gates

    for keys, name in listed_gates(document.playbook):
        try:
            gate_named(name)
        except AprqaError as error:
            where = ".".join(str(key) for key in keys[:-1])
            yield f"{told}:{document.line_of(*keys)}: {where}[{keys[-1]}]: {error}"
    seen: dict[str, int] = {}
    for index, gate in enumerate(document.playbook.falsification_gates):
        here = f"falsification_gates[{index}]"
        keys = ("falsification_gates", index)
        for problem in mistakes_in(gate.condition):
            yield f"{told}:{document.line_of(*keys, 'condition')}: {here}.condition: {problem}"
        if seen.setdefault(gate.id, index) != index:
            line = document.line_of(*keys, "id")
            yield f"{told}:{line}: {here}.id: {gate.id!r} is the id of another one too"


def _why_empty(plan: Plan) -> str:
    if plan.narrowings:
        return "; ".join(f"{n.cells}: {n.reason}" for n in plan.narrowings)
    return (
        f"tier {plan.tier} has no cell in this playbook's matrix"
        if plan.tier is not None
        else "no scenario is left for any cell of the matrix"
    )


def _check(plan: Plan, document: PlaybookDocument, told: str) -> None:
    """Refuse two items of one name, and oracles that cannot judge their question."""
    from pytest_aprqa.oracles import why_inapplicable

    problems = [*unusable_oracles(document, told), *_unknown_gates(document, told)]
    seen: set[str] = set()
    judged: set[str] = set()
    for target_plan in plan.targets:
        for case in target_plan.cases:
            name = f"{target_plan.target.name}::{case.item_name}"
            if name in seen:
                problems.append(
                    f"{told}: two scenarios are named {case.scenario!r}; rename one of them"
                )
            seen.add(name)
            if case.scenario in judged or not case.judging.named:
                continue
            judged.add(case.scenario)
            why = why_inapplicable(case.judging.named[0], case.question)
            if why is not None:
                line = document.line_of("scenarios", case.index or 0, "oracle")
                problems.append(f"{told}:{line}: scenarios[{case.index}].oracle: {why}")
    if problems:
        raise PlaybookError(document.path, list(dict.fromkeys(problems)))
