"""Make mutants: copies of a model with one damage each, or proof that nothing was damaged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.mutation.operator import Damage, NotApplicable, Operator, Site, Strength, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

QUANTIZATIONS = {Subject.GGUF: Quantization.Q8_0, Subject.APR: Quantization.Q8_0}
"""What derived mutants are quantized to: the finest of the blocks, so that a damage is not lost in
the rounding."""
SUFFIXES = {Subject.GGUF: ".gguf", Subject.APR: ".apr"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One damaged copy."""

    operator: str
    strength: Strength
    subject: Subject
    path: Path
    damage: Damage

    @property
    def name(self) -> str:
        """What its playbook is called."""
        return f"{self.operator}.{self.subject}.{self.strength}".lower()


@dataclass(frozen=True, slots=True)
class Unmade:
    """A mutant that there is not, and why."""

    operator: str
    strength: Strength
    subject: Subject
    reason: str


def wanted(
    operators: Sequence[Operator], strengths: Sequence[Strength], subjects: Sequence[Subject]
) -> Iterator[tuple[Operator, Strength, Subject]]:
    """Every mutant that these operators, strengths and subjects ask for."""
    for operator in operators:
        for subject in operator.subjects:
            for strength in operator.sizes:
                if subject in subjects and strength in strengths:
                    yield operator, strength, subject


def make(
    operator: Operator,
    strength: Strength,
    subject: Subject,
    *,
    model: Path,
    space: Path,
    seed: int,
) -> Mutant | Unmade:
    """One mutant of the model in a directory, made in an empty directory of its own.

    A damage to the source that is planted in a derived file stands for a converter's bug: the file
    is made of a damaged copy.
    """
    from pytest_aprqa.conversion.portable import ConversionError
    from pytest_aprqa.formats.checkpoint import CheckpointError

    try:
        path, damage = _made(operator, strength, subject, model=model, space=space, seed=seed)
    except NotApplicable as why:
        return Unmade(operator.id, strength, subject, str(why))
    except (ConversionError, CheckpointError) as why:
        told = str(why).splitlines()[0]
        return Unmade(operator.id, strength, subject, f"the converter refuses the copy: {told}")
    return Mutant(operator.id, strength, subject, path, damage)


def _made(
    operator: Operator, strength: Strength, subject: Subject, *, model: Path, space: Path, seed: int
) -> tuple[Path, Damage]:
    site = Site(space / "model", strength, seed, operator.sizes[strength])
    shutil.copytree(model, site.path)
    if subject is Subject.SOURCE:
        return site.path, operator.apply(site)
    file = space / f"mutant{SUFFIXES[subject]}"
    damage: Damage | None = None
    if not operator.in_file:
        damage = operator.apply(site)
    convert(site.path, file, quantization=QUANTIZATIONS[subject])
    shutil.rmtree(site.path)
    if damage is None:
        damage = operator.apply(Site(file, strength, seed, site.size))
    if operator.in_file or any(name.endswith(".json") for name in damage.culprits):
        damage = Damage(damage.told, (*damage.culprits, file.name))
    return file, damage
