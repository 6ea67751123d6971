"""What a mutation test came to: pure functions of its trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pytest_aprqa.domain.statistics import clopper_pearson
from pytest_aprqa.mutation.operator import Strength, Subject


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    """It is its original after all; no test can tell them apart."""
    UNMADE = "not made"
    """The model has nothing of the kind, or the converter refuses the damaged copy."""
    TROUBLE = "no result"


@dataclass(frozen=True, slots=True)
class MutantResult:
    """One mutant and what noticed it."""

    operator: str
    strength: Strength
    subject: Subject
    fate: Fate
    told: str
    """What was damaged, or why there is no mutant."""
    culprits: tuple[str, ...] = ()
    killers: tuple[str, ...] = ()
    """Gates that fell, the nearest to the root first."""
    cause: str = ""

    @property
    def named(self) -> bool:
        """Whether the first line of the result names what was damaged."""
        return any(culprit in self.cause for culprit in self.culprits)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One healthy variant and what was falsified there, wrongly."""

    name: str
    alarms: tuple[str, ...]
    cause: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """Killed of all mutants that could be told from the original, with the exact 95 % interval."""

    killed: int
    total: int

    @property
    def rate(self) -> float:
        """The mutation score; 0 where there was no mutant."""
        return self.killed / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return clopper_pearson(self.killed, self.total)


@dataclass(frozen=True, slots=True)
class MutationTest:
    """All mutants and variants of one run."""

    playbook: str
    model: str
    tier: str
    seed: int
    mutants: tuple[MutantResult, ...]
    variants: tuple[VariantResult, ...]
    blind: bool = False
    """Whether the ground truth was held against no reference."""

    def score(self, strength: Strength, subject: Subject | None = None) -> Score:
        """The mutation score of one strength, of one subject or all."""
        judged = [
            m
            for m in self.mutants
            if m.strength is strength
            and subject in (None, m.subject)
            and m.fate in (Fate.KILLED, Fate.SURVIVED)
        ]
        return Score(sum(m.fate is Fate.KILLED for m in judged), len(judged))

    @property
    def false_alarms(self) -> tuple[VariantResult, ...]:
        """Healthy variants that were falsified."""
        return tuple(v for v in self.variants if v.alarms)

    def of(self, fate: Fate) -> tuple[MutantResult, ...]:
        """The mutants of one fate."""
        return tuple(m for m in self.mutants if m.fate is fate)

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that were asked for."""
        return tuple(dict.fromkeys(m.operator for m in self.mutants))

    @property
    def named_operators(self) -> tuple[str, ...]:
        """Operators whose every killed mutant had its culprit named in the first line."""
        killed = {o: [m for m in self.of(Fate.KILLED) if m.operator == o] for o in self.operators}
        return tuple(o for o, found in killed.items() if found and all(m.named for m in found))

    def killers(self) -> Sequence[tuple[str, int]]:
        """Gates by how many mutants they were the first to tell of."""
        first = Counter(m.killers[0] for m in self.of(Fate.KILLED) if m.killers)
        return first.most_common()


def markdown(test: MutationTest) -> str:
    """The result as a Markdown document's part."""
    return "\n".join(_lines(test)) + "\n"


def _lines(test: MutationTest) -> Iterator[str]:
    beside = "no reference" if test.blind else "the published model as its reference"
    yield f"{test.playbook} at tier {test.tier} on {test.model}, with {beside}, seed {test.seed}:"
    yield ""
    yield "| strength | source | gguf | apr | all | exact 95 % |"
    yield "|---|---|---|---|---|---|"
    for strength in Strength:
        cells = [_told(test.score(strength, subject)) for subject in Subject]
        whole = test.score(strength)
        low, high = whole.interval
        yield f"| {strength} | {' | '.join(cells)} | {_told(whole)} | {low:.1%} to {high:.1%} |"
    yield ""
    healthy = len(test.variants)
    yield (
        f"False alarms: {len(test.false_alarms)} of {healthy} healthy variants. The first line of "
        f"the result named the damaged tensor, layer or file for {len(test.named_operators)} of "
        f"{len(test.operators)} operators, each time. Equivalent to the original, with proof: "
        f"{len(test.of(Fate.EQUIVALENT))}; not made: {len(test.of(Fate.UNMADE))}; no result: "
        f"{len(test.of(Fate.TROUBLE))}."
    )
    yield ""
    yield from _alarms(test)
    yield from _table(test)
    yield from _survivors(test)
    yield "First to tell, by mutants: " + ", ".join(f"`{g}` {n}" for g, n in test.killers()) + "."


def _told(score: Score) -> str:
    return f"{score.killed}/{score.total} ({score.rate:.1%})" if score.total else "–"


def _alarms(test: MutationTest) -> Iterator[str]:
    for variant in test.false_alarms:
        yield f"- false alarm on {variant.name}: {variant.cause}"
    if test.false_alarms:
        yield ""


def _table(test: MutationTest) -> Iterator[str]:
    """Each operator's mutants: + killed, - survived, = equivalent, / not made, ? no result."""
    signs = {
        Fate.KILLED: "+",
        Fate.SURVIVED: "-",
        Fate.EQUIVALENT: "=",
        Fate.UNMADE: "/",
        Fate.TROUBLE: "?",
    }
    yield "By operator, a sign for each of source, gguf, apr: + killed, - survived, = equivalent,"
    yield "/ not made, ? no result."
    yield ""
    yield "| operator | gross | moderate | subtle | first told by |"
    yield "|---|---|---|---|---|"
    for operator in test.operators:
        found = [m for m in test.mutants if m.operator == operator]
        cells = [
            "".join(signs[m.fate] for m in found if m.strength is strength) for strength in Strength
        ]
        first = Counter(m.killers[0] for m in found if m.killers)
        told = ", ".join(f"`{gate}`" for gate, _ in first.most_common(3))
        yield f"| {operator} | {' | '.join(cells)} | {told} |"
    yield ""


def _survivors(test: MutationTest) -> Iterator[str]:
    alive = test.of(Fate.SURVIVED)
    if alive:
        yield "Survivors, the next work:"
        yield ""
        yield from (f"- {m.operator}, {m.strength}, {m.subject}: {m.told}" for m in alive)
        yield ""
