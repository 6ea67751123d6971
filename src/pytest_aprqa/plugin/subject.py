"""What a playbook file stands for in this run: its document, its plan, the model's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_aprqa.domain.errors import AprqaError, PlaybookError
from pytest_aprqa.domain.gate_plan import GateBook
from pytest_aprqa.domain.plan import Plan, make_plan
from pytest_aprqa.domain.playbook import Scenario
from pytest_aprqa.plugin.arguments import playbooks_named
from pytest_aprqa.plugin.options import Settings, settings_of

if TYPE_CHECKING:
    from pytest_aprqa.formats.hub import ResolvedModel
    from pytest_aprqa.formats.playbook_yaml import PlaybookDocument


@dataclass(frozen=True, slots=True)
class Subject:
    """What a playbook file stands for in this run: its document, plan, and the model's files."""

    file_id: str
    document: PlaybookDocument
    plan: Plan
    model: ResolvedModel | None
    """None where an endpoint is asked and the model's files are not here."""

    @property
    def directory(self) -> Path:
        """The directory of the model's files.

        Raises:
            AprqaError: they are not here.
        """
        if self.model is None:
            raise AprqaError(f"{self.plan.playbook.model.id}: its files are not on this machine")
        return self.model.directory


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
        endpoint=settings.endpoint or document.playbook.endpoint,
        book=gate_book(),
    )


@cache
def gate_book() -> GateBook:
    """All gates of the registry, and their aliases."""
    from pytest_aprqa.checks.gates.registry import aliases, gates

    return GateBook(gates(), aliases())


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
            resolve(read_document(path, config.rootpath), settings, teller_of(config))
        except AprqaError as error:
            teller_of(config)(f"aprqa: {error}")


def teller_of(config: pytest.Config) -> Callable[[str], None]:
    """Tells the progress of a download on the terminal, past pytest's capture of output."""
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    return (lambda text: None) if reporter is None else reporter.write_line
