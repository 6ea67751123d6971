"""How many workers `-n auto` starts: no more than have a core, a unit of work and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.domain.conversions import CONVERSION
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.domain.model_gates import MODEL
from pytest_aprqa.engines.system_memory import available_bytes
from pytest_aprqa.plugin.arguments import only_playbooks, targets_named
from pytest_aprqa.plugin.environment import cores
from pytest_aprqa.plugin.options import Settings, settings_of
from pytest_aprqa.plugin.subject import plan_of, read_document, resolve

if TYPE_CHECKING:
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.domain.plan import Plan

GIB = 1 << 30
BASE_BYTES = 600 << 20
"""Memory of a worker beside its model: Python, torch and transformers took 340 MiB once they were
imported, 360 with a model of 4 MB; the rest is for logits, caches and tokenizers."""
_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class Workers:
    """A number of workers, and why it is not the number of cores; None when it is."""

    count: int
    told: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """What a run has to do: units that really run, and the largest model's bytes in memory."""

    units: int
    model_bytes: int


def auto_workers(config: pytest.Config) -> Workers | None:
    """The workers of a run with playbooks; None to let xdist heed its environment variable."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    settings = settings_of(config)
    works = [
        _work_of(path, targets, settings, config.rootpath)
        for path, targets in targets_named(config).items()
    ]
    work = Work(sum(w.units for w in works), max((w.model_bytes for w in works), default=0))
    units = work.units if only_playbooks(config) else None
    return count_workers(cores(), units, available_bytes(), work.model_bytes)


def count_workers(cpus: int, units: int | None, available: int, model_bytes: int) -> Workers:
    """As many workers as all three allow, at least one.

    Args:
        cpus: Cores that the run may use.
        units: Targets and conversions that really run; None when other tests are run too.
        available: Bytes of memory that can be taken.
        model_bytes: Bytes of the largest model in memory; 0 when it is not known.
    """
    wanted = max(1, cpus if units is None else min(cpus, units))
    fitting = available // (BASE_BYTES + model_bytes)
    if fitting < wanted:
        what = f"models of {_size(model_bytes)}" if model_bytes >= BASE_BYTES else "workers"
        return _fewer(max(1, fitting), f"memory for {fitting} of {wanted} {what}")
    if wanted < cpus:
        return _fewer(wanted, "no more targets than that run here")
    return Workers(wanted, None)


def _work_of(path: Path, targets: frozenset[str], settings: Settings, root: Path) -> Work:
    """What a playbook has to do; nothing where its collection will say what is wrong with it.

    Args:
        path: The playbook.
        targets: The targets that the command line names of it; none means all.
        settings: The run's.
        root: What messages show paths from.
    """
    try:
        document = read_document(path, root)
        plan = plan_of(document, settings)
    except AprqaError:
        return Work(0, 0)
    running = [t for t in _running(plan) if not targets or t.name in targets]
    converts = bool(plan.conversions) and (not targets or CONVERSION in targets)
    looks_into = bool(plan.model_gates) and (not targets or MODEL in targets)
    units = len(running) + converts + looks_into
    try:
        directory = resolve(
            document, replace(settings, download=False), lambda line: None
        ).directory
    except AprqaError:
        return Work(units if settings.download else 0, 0)
    decoded = converts or any(map(_is_decoded, running))
    # A target's server holds the model beside the engine.
    copies = 2 if plan.serves else 1
    return Work(units, copies * _model_bytes(directory, decoded=decoded))


def _running(plan: Plan) -> Iterator[Target]:
    """The targets of which this machine can ask anything."""
    from pytest_aprqa.engines.choice import why_unavailable

    for entry in plan.targets:
        if why_unavailable(entry.target) is None:
            yield entry.target


def _is_decoded(target: Target) -> bool:
    """Whether torch holds the target's weights in float32, whatever the file holds."""
    in_torch = target.format is Format.APR or target.backend is Backend.GPU
    return in_torch and target.quantization is not None


def _model_bytes(directory: Path, *, decoded: bool) -> int:
    """Bytes that the weights take in memory: as stored, or in float32; of what can be read."""
    from pytest_aprqa.formats.huggingface import survey_huggingface

    checkpoint, _ = survey_huggingface(directory)
    tensors = checkpoint.tensors.values()
    if decoded:
        return sum(max(t.nbytes, _FLOAT32 * prod(t.shape)) for t in tensors)
    return sum(t.nbytes for t in tensors)


def _size(count: int) -> str:
    return f"{count / GIB:.0f} GiB" if count >= 10 * GIB else f"{count / GIB:.1f} GiB"


def _fewer(count: int, reason: str) -> Workers:
    return Workers(count, f"aprqa: {count} worker{'' if count == 1 else 's'}: {reason}")
