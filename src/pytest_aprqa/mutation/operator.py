"""What a mutation operator is: one way to damage a model, in up to three strengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    Array = np.ndarray[Any, Any]


class Strength(StrEnum):
    """How much an operator damages."""

    GROSS = "gross"
    """Nobody would ship it."""
    MODERATE = "moderate"
    """Answers get worse; a look at them might not tell."""
    SUBTLE = "subtle"
    """Within what many comparisons allow."""


class Subject(StrEnum):
    """What is damaged."""

    SOURCE = "source"
    """The ground truth's directory; it is held against the undamaged one."""
    GGUF = "gguf"
    """A GGUF file made of it; held against the undamaged ground truth."""
    APR = "apr"
    """An APR file made of it; likewise."""


class NotApplicable(Exception):
    """The operator has nothing to damage in this model; the message says what is lacking."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where an operator works: the copy that it may change, and its share of chance."""

    path: Path
    """A directory for SOURCE; a file for GGUF and APR."""
    strength: Strength
    seed: int
    size: Any = None
    """The operator's parameter at this strength."""

    def random(self) -> np.random.Generator:
        """A generator that the seed alone decides."""
        import numpy as np

        return np.random.default_rng(self.seed)


@dataclass(frozen=True, slots=True)
class Damage:
    """What an operator did."""

    told: str
    culprits: tuple[str, ...]
    """Names of which a report of the cause must hold one: the tensor, the layer, the file."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to damage a model.

    Attributes:
        id: Its name.
        told: What it does, in a few words.
        subjects: What it can damage. A damage to the source that is also planted in GGUF or APR
            stands for a converter's bug: the file is made of a damaged copy.
        sizes: Its parameter at each strength that it has.
        apply: Damages the site.
    """

    id: str
    told: str
    subjects: tuple[Subject, ...]
    sizes: Mapping[Strength, Any]
    apply: Callable[[Site], Damage]
    in_file: bool = False
    """Whether GGUF and APR files are damaged themselves, not made of a damaged copy."""
    chat: bool = field(default=False)
    """Whether only chats can notice."""


def graded(gross: Any = None, moderate: Any = None, subtle: Any = None) -> dict[Strength, Any]:
    """An operator's parameters; None where it has no such strength."""
    given = {Strength.GROSS: gross, Strength.MODERATE: moderate, Strength.SUBTLE: subtle}
    return {strength: value for strength, value in given.items() if value is not None}
