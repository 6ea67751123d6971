"""`aprqa mutate`: how good is a playbook at finding bugs?"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, is_fancy, write_json
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Tier

if TYPE_CHECKING:
    import argparse

    from pytest_aprqa.mutation.result import MutationTest
    from pytest_aprqa.mutation.testing import Wish

NAME = "mutate"
HELP = "damage a model in many ways, and see what a playbook notices"
DESCRIPTION = """\
Mutation testing of a qualification. Copies of the playbook's model are damaged, one way each
(weights, config, tokenizer, template, bytes of GGUF and APR files), in three strengths; the
playbook is run on each by a real pytest session, and a mutant is killed when anything is falsified.
Healthy variants (re-saved, re-sharded, other types, every quantization, there and back) are run
too: a falsification there is a false alarm.

The damaged ground truth is held against the undamaged one (differential_tests.reference), as one
would hold a new revision against the published one; --blind leaves that out. Survivors are listed:
they are the next work. A mutant that is equal to its original after all is proven to be.
"""
EXAMPLES = """\
examples:
  aprqa mutate playbooks/embedded.playbook.yaml
  aprqa mutate my.playbook.yaml --operators 'scale-*' 'rope-*' --strength moderate subtle
  aprqa mutate my.playbook.yaml --min-score 0.85 --strength moderate --json
  aprqa mutate --list
"""
MARKERS = ("<!-- MUTATION_START -->", "<!-- MUTATION_END -->")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa mutate`."""
    command.add_argument("playbook", metavar="PLAYBOOK", nargs="?", help="the playbook to test")
    command.add_argument("--list", action="store_true", help="list the operators and end")
    command.add_argument("--operators", metavar="ID", nargs="+", default=[], help="ids or patterns")
    command.add_argument(
        "--strength", nargs="+", choices=("gross", "moderate", "subtle"),
        default=["gross", "moderate", "subtle"], help="how much is damaged (all three)",
    )  # fmt: skip
    command.add_argument(
        "--subject", nargs="+", choices=("source", "gguf", "apr"),
        default=["source", "gguf", "apr"], help="what is damaged (all three)",
    )  # fmt: skip
    command.add_argument(
        "--tier", choices=[str(t) for t in Tier], default="mvp", help="of the runs"
    )
    command.add_argument("--seed", type=int, default=0, help="decides all chance (0)")
    command.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes of pytest"
    )
    command.add_argument("--blind", action="store_true", help="hold the model against no reference")
    command.add_argument("--all-gates", action="store_true", help="go on after a falsification")
    command.add_argument("--no-healthy", action="store_true", help="run no healthy variants")
    command.add_argument(
        "--min-score", type=float, metavar="SHARE", help="status 1 when a score is below"
    )
    command.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help=f"write the table between {' and '.join(MARKERS)}",
    )
    command.add_argument("--json", action="store_true", help="write one JSON document")


def run(chosen: argparse.Namespace) -> Exit:
    """Test the playbook; status 1 for a score below the least, or a false alarm."""
    from pytest_aprqa.formats.scratch import scratch
    from pytest_aprqa.mutation.registry import OPERATORS
    from pytest_aprqa.mutation.testing import run_mutation_test

    screen = Screen()
    if chosen.list:
        screen.table(
            ("operator", "damages", "of", "strengths"),
            [(o.id, o.told, ", ".join(o.subjects), ", ".join(o.sizes)) for o in OPERATORS],
        )
        screen.line(f"{len(OPERATORS)} operators", style="bold")
        return Exit.FINE
    if chosen.playbook is None:
        raise AprqaError("name a playbook to test, or --list the operators")
    wish = _wish(chosen)
    with scratch() as space:
        test = run_mutation_test(wish, space, _teller())
    _tell(test, chosen, screen)
    return _status(test, chosen)


def _wish(chosen: argparse.Namespace) -> Wish:
    from pytest_aprqa.formats.hub import resolve_model
    from pytest_aprqa.formats.playbook_yaml import read_playbook
    from pytest_aprqa.formats.yaml_source import parse
    from pytest_aprqa.mutation.operator import Strength, Subject
    from pytest_aprqa.mutation.registry import operators_named
    from pytest_aprqa.mutation.testing import Wish

    path = Path(chosen.playbook)
    document = read_playbook(path)
    ref = document.playbook.model
    local = None if ref.local_path is None else path.parent / ref.local_path
    model = resolve_model(ref.id, revision=ref.revision, local_path=local, download=False)
    return Wish(
        playbook=parse(path.read_bytes()).data,
        name=document.playbook.name,
        model=model.directory,
        operators=operators_named(chosen.operators),
        strengths=[Strength(word) for word in chosen.strength],
        subjects=[Subject(word) for word in chosen.subject],
        tier=Tier(chosen.tier),
        seed=chosen.seed,
        workers=max(1, chosen.workers),
        all_gates=chosen.all_gates,
        healthy=not chosen.no_healthy,
        blind=chosen.blind,
    )


def _teller() -> Any:
    """Progress on standard error: one line that is rewritten on a terminal, else one for each."""
    fancy = is_fancy(sys.stderr)

    def tell(what: str, done: int, of: int) -> None:
        end = "\n" if not fancy or done == of else ""
        if fancy or done == of or what.endswith("run"):
            sys.stderr.write(f"{chr(13) if fancy else ''}aprqa: {what}: {done} of {of}{end}")
            sys.stderr.flush()

    return tell


def _tell(test: MutationTest, chosen: argparse.Namespace, screen: Screen) -> None:
    from pytest_aprqa.mutation.result import markdown

    if chosen.write is not None:
        write_between(chosen.write, markdown(test))
    if chosen.json:
        write_json(asdict(test))
        return
    for line in markdown(test).splitlines():
        screen.line(line)


def write_between(path: Path, text: str) -> None:
    """Put the text between the markers of a file, which keeps the rest.

    Raises:
        AprqaError: it has not both markers, in order.
    """
    from pytest_aprqa.reports.evidence_files import write_atomically

    old = path.read_text(encoding="utf-8")
    start, end = (old.find(marker) for marker in MARKERS)
    if not 0 <= start < end:
        raise AprqaError(f"{path}: expected {MARKERS[0]} and, after it, {MARKERS[1]}")
    new = f"{old[: start + len(MARKERS[0])]}\n\n{text}\n{old[end:]}"
    write_atomically(path, new)


def _status(test: MutationTest, chosen: argparse.Namespace) -> Exit:
    from pytest_aprqa.mutation.operator import Strength

    least = chosen.min_score
    low = least is not None and any(
        test.score(Strength(word)).total and test.score(Strength(word)).rate < least
        for word in chosen.strength
    )
    return Exit.WRONG if low or test.false_alarms else Exit.FINE
