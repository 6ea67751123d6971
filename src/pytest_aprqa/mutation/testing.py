"""Test a playbook by mutation: make mutants, run the playbook on them, judge what it noticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format, Tier
from pytest_aprqa.mutation.equivalence import why_equivalent
from pytest_aprqa.mutation.healthy import Variant, variants
from pytest_aprqa.mutation.making import QUANTIZATIONS, Mutant, Unmade, make, wanted
from pytest_aprqa.mutation.operator import Operator, Strength, Subject
from pytest_aprqa.mutation.result import Fate, MutantResult, MutationTest, VariantResult
from pytest_aprqa.mutation.session import Outcomes, Trial, run_trials

if TYPE_CHECKING:
    from pathlib import Path

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be tested.

    Attributes:
        playbook: The playbook's content, as its YAML gives it.
        name: What results call it.
        model: The directory of the undamaged model.
        operators: What damages it.
        strengths: How much.
        subjects: Where.
        tier: The tier of the runs.
        seed: Decides all chance.
        workers: Processes of each session.
        all_gates: Whether runs go on after the first falsification.
        healthy: Whether healthy variants are run too.
        blind: Whether the damaged ground truth is held against no reference.
    """

    playbook: Mapping[str, Any]
    name: str
    model: Path
    operators: Sequence[Operator]
    strengths: Sequence[Strength]
    subjects: Sequence[Subject]
    tier: Tier
    seed: int
    workers: int
    all_gates: bool
    healthy: bool
    blind: bool


def run_mutation_test(wish: Wish, space: Path, tell: Tell) -> MutationTest:
    """Make, run and judge; everything is made in an empty directory.

    Raises:
        AprqaError: a session of pytest ended otherwise than by its tests.
    """
    made = _make_all(wish, space, tell)
    mutants = [m for m in made if isinstance(m, Mutant)]
    trials = [_trial(m, wish) for m in mutants]
    found = _run(wish, trials, space / "mutants", "mutants run", tell, all_gates=wish.all_gates)
    judged = {m.name: _judged(m, found[_plain(m.name)], wish) for m in mutants}
    results = tuple(judged[m.name] if isinstance(m, Mutant) else _unmade(m) for m in made)
    return MutationTest(
        playbook=wish.name,
        model=wish.model.name,
        tier=wish.tier,
        seed=wish.seed,
        mutants=results,
        variants=_healthy(wish, space, tell) if wish.healthy else (),
        blind=wish.blind,
    )


def _make_all(wish: Wish, space: Path, tell: Tell) -> list[Mutant | Unmade]:
    chosen = list(wanted(wish.operators, wish.strengths, wish.subjects))
    made: list[Mutant | Unmade] = []
    for number, (operator, strength, subject) in enumerate(chosen):
        home = space / "made" / f"{number:04}"
        home.mkdir(parents=True)
        seed = wish.seed * 100_003 + number
        made.append(make(operator, strength, subject, model=wish.model, space=home, seed=seed))
        tell("mutants made", number + 1, len(chosen))
    return made


def _plain(name: str) -> str:
    """A name that a playbook may have."""
    return re.sub(r"[^a-z0-9._-]", "-", name.lower())


def _trial(mutant: Mutant, wish: Wish) -> Trial:
    name = _plain(mutant.name)
    if mutant.subject is Subject.SOURCE:
        reference = None if wish.blind else wish.model
        return Trial(name, mutant.path, reference, Format.SAFETENSORS)
    return Trial(
        name,
        wish.model,
        None,
        Format(mutant.subject),
        QUANTIZATIONS[mutant.subject],
        mutant.path,
    )


def _run(
    wish: Wish, trials: Sequence[Trial], space: Path, what: str, tell: Tell, *, all_gates: bool
) -> dict[str, Outcomes]:
    return run_trials(
        trials,
        wish.playbook,
        space=space,
        tier=wish.tier,
        workers=wish.workers,
        all_gates=all_gates,
        tell=lambda done, of: tell(what, done, of),
    )


def _judged(mutant: Mutant, found: Outcomes, wish: Wish) -> MutantResult:
    fate, told = Fate.KILLED, mutant.damage.told
    if found.trouble:
        fate, told = Fate.TROUBLE, f"{told}; {found.trouble}"
    elif not found.refuted:
        fate = Fate.SURVIVED
        if mutant.subject is Subject.SOURCE and (proof := why_equivalent(wish.model, mutant.path)):
            fate, told = Fate.EQUIVALENT, f"{told}; {proof}"
    return MutantResult(
        operator=mutant.operator,
        strength=mutant.strength,
        subject=mutant.subject,
        fate=fate,
        told=told,
        culprits=mutant.damage.culprits,
        killers=found.refuted,
        cause=found.cause,
    )


def _unmade(mutant: Unmade) -> MutantResult:
    """A copy that the converter refuses was noticed where it mattered; it is not counted."""
    return MutantResult(
        mutant.operator, mutant.strength, mutant.subject, Fate.UNMADE, mutant.reason
    )


def _healthy(wish: Wish, space: Path, tell: Tell) -> tuple[VariantResult, ...]:
    home = space / "healthy"
    home.mkdir()
    found = variants(wish.model, home)
    trials = [_variant_trial(variant, wish) for variant in found]
    outcomes = _run(wish, trials, space / "variants", "healthy variants run", tell, all_gates=True)
    return tuple(
        VariantResult(v.name, o.refuted, o.cause, o.trouble)
        for v in found
        for o in (outcomes[_plain(v.name)],)
    )


def _variant_trial(variant: Variant, wish: Wish) -> Trial:
    name = _plain(variant.name)
    if variant.format is Format.SAFETENSORS:
        reference = None if wish.blind else wish.model
        return Trial(name, variant.path, reference, Format.SAFETENSORS)
    return Trial(name, wish.model, None, variant.format, variant.quantization, variant.path)
