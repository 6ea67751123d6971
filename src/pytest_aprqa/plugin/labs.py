"""The labs of a playbook's gates in this process: made when first asked for, shared, put away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.checks.gates.lab import ModelLab, ServerLab, TargetLab
from pytest_aprqa.checks.integrity_finding import Expectations
from pytest_aprqa.domain.model import Format
from pytest_aprqa.plugin.conversions import prompts_of
from pytest_aprqa.plugin.environment import threads_per_worker
from pytest_aprqa.plugin.extensions import provider_for

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.serve.prompts import ServePrompts
    from pytest_aprqa.domain.playbook import ModelRef
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.engines.serving.served import Served
    from pytest_aprqa.plugin.collector import ConversionNode, ModelNode, TargetNode
    from pytest_aprqa.plugin.station import Station
    from pytest_aprqa.plugin.subject import Subject

_MODEL_LAB = pytest.StashKey[ModelLab]()


def expectations_of(model: ModelRef) -> Expectations:
    """The sizes that a playbook says its model has."""
    return Expectations(
        hidden_dim=model.expected_hidden_dim,
        num_layers=model.expected_num_layers,
        num_heads=model.expected_num_heads,
        num_kv_heads=model.expected_num_kv_heads,
        vocab_size=model.expected_vocab_size,
        intermediate_dim=model.expected_intermediate_dim,
    )


def model_lab_of(subject: Subject, node: TargetNode | ConversionNode | ModelNode) -> ModelLab:
    """The lab over the ground truth's files, one for each playbook and process."""
    assert node.parent is not None
    lab = node.parent.stash.get(_MODEL_LAB, None)
    if lab is None:
        lab = ModelLab(
            subject.directory,
            sections=subject.plan.playbook,
            expectations=expectations_of(subject.plan.playbook.model),
            home=subject.document.path.parent,
            threads=threads_per_worker(),
        )
        node.parent.stash[_MODEL_LAB] = lab
    return lab


def put_away(node: ModelNode) -> None:
    """Give the memory of what was measured of the ground truth back; it may be measured again."""
    assert node.parent is not None
    if (lab := node.parent.stash.get(_MODEL_LAB, None)) is not None:
        lab.forget()


def target_lab_of(node: TargetNode, station: Station) -> TargetLab:
    """The lab over one loaded target."""
    if station.lab is None:
        assert station.engine is not None
        station.lab = TargetLab(
            node.target,
            file=_file_of(node, station),
            engine=station.engine.engine,
            model=model_lab_of(node.subject, node),
            prompts=prompts_of(node.subject.plan),
            answers=station.answers,
            load=lambda: _load_again(node, station),
        )
    return station.lab


def server_lab_of(
    node: TargetNode, station: Station, served: Served, prompts: ServePrompts
) -> ServerLab:
    """The lab over one target's server; a server that was started again gets a new one."""
    lab = station.server_lab
    if lab is None or lab.served is not served:
        known = station.known_answers
        target = None if node.target.is_endpoint else target_lab_of(node, station)
        lab = station.server_lab = ServerLab(served, prompts, target=target, known=known)
    return lab


def _file_of(node: TargetNode, station: Station) -> Path:
    if node.target.format is Format.SAFETENSORS or station.file is None:
        return node.subject.directory
    return station.file


def _load_again(node: TargetNode, station: Station) -> Engine:
    from pytest_aprqa.engines.choice import load_engine
    from pytest_aprqa.engines.providers import load_with

    provider = provider_for(node.config, node.target)
    file = _file_of(node, station)
    if provider is not None:
        return load_with(provider, node.target, file, threads=threads_per_worker())
    return load_engine(node.target, file, threads=threads_per_worker())


def given_file(node: TargetNode) -> Path | None:
    """The file that the playbook names for a target; None for one that is converted."""
    target, model = node.target, node.subject.plan.playbook.model
    if target.format in (None, Format.SAFETENSORS):
        return None
    name = "-".join(part for part in (target.format, target.quantization) if part is not None)
    named = model.files.get(name)
    return None if named is None else node.subject.document.path.parent / named
