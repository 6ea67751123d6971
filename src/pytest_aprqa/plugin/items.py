"""The items of a playbook: gateways, scenarios, gates, conversions, each an ordinary test."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.conversions import CONVERSION, ConversionCase
from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.domain.model_gates import MODEL, GateCase, ModelCase
from pytest_aprqa.plugin.collector import ConversionNode, ModelNode, TargetNode
from pytest_aprqa.plugin.subject import Subject


class PlaybookItem(pytest.Function):
    """An item of a playbook: fixtures, marks and `--lf` work as for any test function."""

    __test__ = False

    @property
    def subject(self) -> Subject:
        """What the item's playbook stands for."""
        return self.station_node.subject

    @property
    def station_node(self) -> TargetNode | ConversionNode | ModelNode:
        """The node whose station gathers what the next report carries away."""
        assert isinstance(self.parent, TargetNode | ConversionNode | ModelNode)
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


class ModelGateItem(PlaybookItem):
    """One gate about the ground truth's files."""

    def __init__(self, *, case: ModelCase, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        gate = case.gate
        words = ("gate", MODEL, Format.SAFETENSORS, gate.severity)
        self.mark_with(*words, severity=gate.severity, scenario=gate.item_name)


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


class GateItem(TargetItem):
    """One gate of a target's answers or of its server."""

    def __init__(self, *, case: GateCase, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.mark(
            "gate",
            *([case.modality] if case.modality is not None else []),
            case.gate.severity,
            modality=case.modality,
            severity=case.gate.severity,
            scenario=case.gate.item_name,
        )


OwingItem = ScenarioItem | GateItem | ConversionItem | ModelGateItem
"""An item of which the plan owes evidence."""


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
