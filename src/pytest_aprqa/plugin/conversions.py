"""The body of a conversion's item."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.conversion import try_conversion
from pytest_aprqa.checks.conversion_bench import ConversionBench
from pytest_aprqa.checks.gateways import PLAIN_PROBES
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.domain.plan import Plan
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.items import ConversionItem
from pytest_aprqa.plugin.station import conclude

PROMPTS = 16
"""Prompts of the playbook that converted models are compared on."""
_BENCH = pytest.StashKey[ConversionBench]()


def try_out(request: pytest.FixtureRequest) -> None:
    """Make the conversion and compare; fail where something is lost."""
    item = request.node
    assert isinstance(item, ConversionItem)
    conclude(item, try_conversion(item.case, _bench_of(item), item.nodeid))


def _bench_of(item: ConversionItem) -> ConversionBench:
    """The playbook's bench in this process, made when first asked for."""
    node = item.parent
    assert node is not None
    bench = node.stash.get(_BENCH, None)
    if bench is None:
        subject = item.subject
        bench = ConversionBench(subject.directory, prompts_of(subject.plan), threads_per_worker())
        node.stash[_BENCH] = bench
    return bench


def prompts_of(plan: Plan) -> tuple[str, ...]:
    """What converted models are asked: the first plain prompts, or those of the gateways."""
    asked = dict.fromkeys(
        case.turns[0]
        for entry in plan.targets
        for case in entry.cases
        if case.modality is Modality.RUN and case.turns[0].strip()
    )
    return tuple(asked)[:PROMPTS] or PLAIN_PROBES
