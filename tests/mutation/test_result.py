"""The arithmetic of a mutation test, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.cli.mutate_command import MARKERS, write_between
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.mutation.operator import Strength, Subject
from pytest_aprqa.mutation.result import (
    Fate,
    MutantResult,
    MutationTest,
    VariantResult,
    markdown,
)

G, M, S = Strength.GROSS, Strength.MODERATE, Strength.SUBTLE


def mutant(
    operator: str, strength: Strength, fate: Fate, cause: str = "", *killers: str
) -> MutantResult:
    return MutantResult(
        operator, strength, Subject.SOURCE, fate, "norm scaled", ("model.norm",), killers, cause
    )


TEST = MutationTest(
    playbook="p",
    model="m",
    tier="mvp",
    seed=0,
    mutants=(
        mutant("one", G, Fate.KILLED, "F-A-001: model.norm is wrong", "F-A-001", "F-B-001"),
        mutant("one", M, Fate.KILLED, "F-A-001: model.norm is wrong", "F-A-001"),
        mutant("one", S, Fate.SURVIVED),
        mutant("two", G, Fate.KILLED, "sum: expected 4", "F-A1-001"),
        mutant("two", M, Fate.EQUIVALENT),
        mutant("two", S, Fate.UNMADE),
        mutant("three", G, Fate.TROUBLE),
    ),
    variants=(VariantResult("resaved", ()), VariantResult("f16", ("F-A-001",), "F-A-001: why")),
)


def test_only_mutants_that_can_be_told_apart_count() -> None:
    scores = [TEST.score(strength) for strength in Strength]
    assert [(score.killed, score.total) for score in scores] == [(2, 2), (1, 1), (0, 1)]
    assert TEST.score(G, Subject.GGUF).rate == 0.0
    assert TEST.score(G).interval == pytest.approx((0.1581, 1.0), abs=1e-4)


def test_what_the_first_line_names() -> None:
    assert TEST.named_operators == ("one",)
    assert TEST.killers() == [("F-A-001", 2), ("F-A1-001", 1)]
    assert [v.name for v in TEST.false_alarms] == ["f16"]


def test_the_table_says_all_of_it() -> None:
    text = markdown(TEST)

    assert "| gross | 2/2 (100.0%) | – | – | 2/2 (100.0%) | 15.8% to 100.0% |" in text
    assert "| one | + | + | - | `F-A-001` |" in text
    assert "| two | + | = | / | `F-A1-001` |" in text
    assert "False alarms: 1 of 2 healthy variants." in text
    assert "named the damaged tensor, layer or file for 1 of 3 operators" in text
    assert "- false alarm on f16: F-A-001: why" in text
    assert "- one, subtle, source: norm scaled" in text


def test_the_table_is_written_between_markers(tmp_path: Path) -> None:
    path = tmp_path / "mutation.md"
    path.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n")

    write_between(path, "new\n")

    assert path.read_text() == f"before\n{MARKERS[0]}\n\nnew\n\n{MARKERS[1]}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(AprqaError, match="expected <!-- MUTATION_START -->"):
        write_between(path, "new\n")
