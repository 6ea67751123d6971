"""Every operator damages what it says, the same way each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.proof import EMBEDDED
from pytest_aprqa.conversion.provenance import content_of
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.mutation.making import Mutant, Unmade, make
from pytest_aprqa.mutation.operator import Operator, Strength, Subject
from pytest_aprqa.mutation.registry import OPERATORS, operators_named

NOT_OF_THE_EMBEDDED_MODEL = {"scale-expert": "the model is no mixture of experts"}
_ALL = [
    pytest.param(operator, strength, id=f"{operator.id}-{strength}")
    for operator in OPERATORS
    for strength in operator.sizes
]
_RANDOM = [o for o in OPERATORS if o.id in ("noise-matrix", "permute-rows", "flip-sign")]


def _files(path: Path) -> dict[str, bytes]:
    """The files of a mutant by name."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return {p.name: p.read_bytes() for p in found if p.is_file()}


def _subject(operator: Operator) -> Subject:
    """Where it is cheapest to see: the source, or the file it is about."""
    return operator.subjects[0]


def test_there_are_as_many_as_promised() -> None:
    assert len({operator.id for operator in OPERATORS}) == len(OPERATORS) >= 60
    for strength in Strength:
        assert sum(strength in operator.sizes for operator in OPERATORS) >= 30
    for subject in Subject:
        assert sum(subject in operator.subjects for operator in OPERATORS) >= 40


@pytest.mark.parametrize(("operator", "strength"), _ALL)
def test_an_operator_changes_the_model(
    operator: Operator, strength: Strength, tmp_path: Path
) -> None:
    made = make(operator, strength, _subject(operator), model=EMBEDDED, space=tmp_path, seed=1)

    if operator.id in NOT_OF_THE_EMBEDDED_MODEL:
        assert isinstance(made, Unmade)
        assert made.reason == NOT_OF_THE_EMBEDDED_MODEL[operator.id]
        return
    assert isinstance(made, Mutant), made
    assert made.damage.told
    assert all(made.damage.culprits)
    if made.subject is Subject.SOURCE:
        assert _files(made.path) != _files(EMBEDDED)


@pytest.mark.parametrize("operator", _RANDOM, ids=lambda operator: operator.id)
def test_the_seed_decides_all_chance(operator: Operator, tmp_path: Path) -> None:
    def bytes_of(name: str, seed: int) -> dict[str, str]:
        space = tmp_path / name
        space.mkdir()
        strength = Strength.MODERATE
        made = make(operator, strength, Subject.SOURCE, model=EMBEDDED, space=space, seed=seed)
        assert isinstance(made, Mutant)
        return content_of(made.path)

    assert bytes_of("one", 7) == bytes_of("two", 7)
    assert bytes_of("one again", 7) != bytes_of("three", 8)


def test_a_damage_in_a_derived_file_is_a_converters(tmp_path: Path) -> None:
    (operator,) = operators_named(["scale-matrix"])

    made = make(operator, Strength.GROSS, Subject.GGUF, model=EMBEDDED, space=tmp_path, seed=0)

    assert isinstance(made, Mutant)
    assert made.path.suffix == ".gguf"
    assert made.damage.culprits == ("model.layers.1.mlp.up_proj.weight",)
    assert made.name == "scale-matrix.gguf.gross"


def test_a_pattern_that_fits_nothing_is_told() -> None:
    assert {operator.id for operator in operators_named(["scale-*"])} > {"scale-matrix"}
    with pytest.raises(AprqaError, match="no operator fits 'scael-\\*'"):
        operators_named(["scael-*"])
