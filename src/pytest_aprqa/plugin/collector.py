"""From a playbook file to items: `PlaybookFile > TargetNode > GatewayItem, ScenarioItem`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.conversions import CONVERSION, ConversionCase
from pytest_aprqa.domain.errors import AprqaError, Falsified, ModelUnavailable, PlaybookError
from pytest_aprqa.domain.gates import Gateway, gateway_item_name
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.plan import Case, Plan, Target, TargetPlan, make_plan
from pytest_aprqa.domain.playbook import Scenario
from pytest_aprqa.plugin.arguments import playbooks_named
from pytest_aprqa.plugin.options import Settings, hang_grace, settings_of

if TYPE_CHECKING:
    from pytest_aprqa.formats.hub import ResolvedModel
    from pytest_aprqa.formats.playbook_yaml import PlaybookDocument

GATEWAYS_PLUGIN = "aprqa-gateways"
CONVERSION_LIMIT_S = 3600.0
"""Most seconds that one conversion item may take before it counts as hung."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a playbook file stands for in this run: its document, plan, and the model's files."""

    file_id: str
    document: PlaybookDocument
    plan: Plan
    model: ResolvedModel


def read_document(path: Path, root: Path) -> PlaybookDocument:
    """Read a playbook; its mistakes are told with the path as seen from `root`."""
    from pytest_aprqa.formats.playbook_yaml import read_playbook

    try:
        return read_playbook(Path(os.path.relpath(path)))
    except PlaybookError as error:
        told = os.path.relpath(path, root)
        shown = os.path.relpath(path)
        lines = [told + line.removeprefix(shown) for line in error.problems]
        raise PlaybookError(path, lines) from None


def plan_of(document: PlaybookDocument, settings: Settings) -> Plan:
    """The plan of a playbook under these settings; the same in every process."""
    seed = document.playbook.test_matrix.seed

    def generate(count: int) -> Sequence[Scenario]:
        from pytest_aprqa.strategies.prompts import generate_scenarios

        return [
            Scenario(name=s.name, prompt=s.prompt, oracle=s.oracle_spec, category=s.category)
            for s in generate_scenarios(count, seed)
        ]

    return make_plan(
        document.playbook,
        tier=settings.tier,
        selection=settings.selection,
        generate=generate,
    )


def resolve(
    document: PlaybookDocument, settings: Settings, say: Callable[[str], None]
) -> ResolvedModel:
    """Find the model's files.

    Raises:
        ModelUnavailable: when they are not on this machine; the message says how to get them.
    """
    from pytest_aprqa.formats.hub import resolve_model

    model = document.playbook.model
    local = settings.model_path
    if local is None and model.local_path is not None:
        local = document.path.parent / model.local_path
    return resolve_model(
        model.id,
        revision=model.revision,
        local_path=local,
        download=settings.download,
        progress=say,
    )


def download_ahead(config: pytest.Config) -> None:
    """Get the files of every playbook that the command line names, for the workers to find.

    What is wrong with a playbook or a download is left for the worker's collection to tell.
    """
    settings = settings_of(config)
    for path in playbooks_named(config):
        try:
            resolve(read_document(path, config.rootpath), settings, _teller(config))
        except AprqaError as error:
            _teller(config)(f"aprqa: {error}")


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
        try:
            model = resolve(document, settings, _teller(self.config))
        except ModelUnavailable as error:
            yield self._cannot_run("model_unavailable", str(error))
            return
        except AprqaError as error:
            raise self.CollectError(f"{self._told()}: {error}") from None
        subject = Subject(self.nodeid, document, plan, model)
        for target_plan in plan.targets:
            yield TargetNode.from_parent(
                self, name=target_plan.target.name, subject=subject, target_plan=target_plan
            )
        if plan.conversions:
            yield ConversionNode.from_parent(self, name=CONVERSION, subject=subject)

    def _told(self) -> str:
        return os.path.relpath(self.path, self.config.rootpath)

    def _cannot_run(self, name: str, reason: str) -> UnavailableItem:
        item: UnavailableItem = UnavailableItem.from_parent(self, name=name, reason=reason)
        return item

    def _register_gateways(self) -> None:
        manager = self.config.pluginmanager
        if not manager.hasplugin(GATEWAYS_PLUGIN):
            from pytest_aprqa.plugin import gateways
            from pytest_aprqa.plugin.conduct import Conduct

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
        """The five gateways, then every case."""
        from pytest_aprqa.plugin.gateways import pass_gateway, qualify

        for gateway in Gateway:
            name = gateway_item_name(gateway, self.target.name)
            yield GatewayItem.from_parent(self, name=name, callobj=pass_gateway, gateway=gateway)
        grace = hang_grace(self.config)
        for case in self.target_plan.cases:
            item: ScenarioItem = ScenarioItem.from_parent(
                self, name=case.item_name, callobj=qualify, case=case
            )
            if grace is not None:
                limit = len(case.turns) * case.timeout_ms / 1000 + grace
                item.add_marker(pytest.mark.timeout(limit, func_only=True))
            yield item

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

        grace = hang_grace(self.config)
        for case in self.subject.plan.conversions:
            item: ConversionItem = ConversionItem.from_parent(
                self, name=case.item_name, callobj=try_out, case=case
            )
            if grace is not None:
                limit = CONVERSION_LIMIT_S + grace
                item.add_marker(pytest.mark.timeout(limit, func_only=True))
            yield item


class PlaybookItem(pytest.Function):
    """An item of a playbook: fixtures, marks and `--lf` work as for any test function."""

    __test__ = False

    @property
    def subject(self) -> Subject:
        """What the item's playbook stands for."""
        return self.station_node.subject

    @property
    def station_node(self) -> TargetNode | ConversionNode:
        """The node whose station gathers what the next report carries away."""
        assert isinstance(self.parent, TargetNode | ConversionNode)
        return self.parent

    def mark_with(self, *words: str | None, **facts: str | None) -> None:
        """Mark the item with words, and with `aprqa(...)` for `-m` by keyword."""
        tier = self.subject.plan.tier
        for word in (*words, tier):
            if word is not None:
                self.add_marker(str(word))
        about = {**facts, "tier": tier}
        told = {key: str(value) for key, value in about.items() if value is not None}
        self.add_marker(pytest.mark.aprqa(**told))

    def line(self) -> int:
        """The 1-based line of the playbook that the item comes from."""
        return self.subject.document.line_of("test_matrix")

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where IDEs and annotations point: the playbook's own line."""
        return self.path, self.line() - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A falsification in words; anything else as pytest shows it."""
        if isinstance(excinfo.value, Falsified | AprqaError):
            return excinfo.getrepr(style="value")
        return super().repr_failure(excinfo)


class ConversionItem(PlaybookItem):
    """One conversion."""

    def __init__(self, *, case: ConversionCase, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.mark_with(
            CONVERSION,
            case.quantization,
            case.severity,
            *case.path,
            quantization=case.quantization,
            severity=case.severity,
            scenario=case.item_name,
        )


class TargetItem(PlaybookItem):
    """An item below a `TargetNode`."""

    @property
    def node(self) -> TargetNode:
        """The target's node."""
        assert isinstance(self.parent, TargetNode)
        return self.parent

    def mark(self, *names: str, **facts: str | None) -> None:
        """Mark the item with its target's words too."""
        target = self.node.target
        self.mark_with(
            target.format,
            target.backend,
            target.quantization,
            *names,
            format=target.format,
            backend=target.backend,
            quantization=target.quantization,
            **facts,
        )


class GatewayItem(TargetItem):
    """One gateway of one target, seen in the tree."""

    def __init__(self, *, gateway: Gateway, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gateway = gateway
        self.mark("gateway", Severity.P0, severity=Severity.P0, scenario=gateway)


class ScenarioItem(TargetItem):
    """One case."""

    def __init__(self, *, case: Case, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.mark(
            case.modality,
            case.severity,
            modality=case.modality,
            severity=case.severity,
            scenario=case.scenario,
        )

    def line(self) -> int:
        """The line of the scenario or prompt; the matrix's for a generated one."""
        document = self.node.subject.document
        index = self.case.index
        if index is None:
            return document.line_of("test_matrix")
        listed = document.playbook.scenarios
        if index < len(listed) and listed[index].name == self.case.scenario:
            return document.line_of("scenarios", index)
        return document.line_of("test_matrix", "prompts", index)


class UnavailableItem(pytest.Item):
    """Stands for a playbook of which nothing can run here; always skipped, with the reason."""

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def runtest(self) -> None:
        """Skip."""
        pytest.skip(self.reason)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """The playbook's first line."""
        return self.path, 0, self.name


def _teller(config: pytest.Config) -> Callable[[str], None]:
    """Tells the progress of a download on the terminal, past pytest's capture of output."""
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    return (lambda text: None) if reporter is None else reporter.write_line


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

    problems: list[str] = []
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
