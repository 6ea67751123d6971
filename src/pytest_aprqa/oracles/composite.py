"""How several oracles rule together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.verdicts import Oracle, corroborated, falsified, inapplicable


@dataclass(frozen=True, slots=True)
class CompositeOracle:
    """Every oracle of `every`, one of `some` and none of `none` must corroborate the answer.

    An inapplicable member leaves `every` open unless another refutes the answer, and leaves `some`
    open unless another corroborates it; `none` is open when all of its members are inapplicable.
    """

    every: tuple[Oracle, ...] = ()
    some: tuple[Oracle, ...] = ()
    none: tuple[Oracle, ...] = ()
    name: str = field(default="composite", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; a part that is open makes it inapplicable unless one is refuted."""
        parts = [
            part
            for part in (
                self._every(_all(self.every, question, answer)),
                self._some(_all(self.some, question, answer)),
                self._none(_all(self.none, question, answer)),
            )
            if part is not None
        ]
        for wanted in (
            [part for part in parts if part.falsified],
            [part for part in parts if not part.corroborated],
            parts,
        ):
            if wanted:
                reason = "; ".join(part.reason for part in wanted)
                return Verdict(self.name, wanted[0].ruling, reason)
        return inapplicable(self.name, "it has no members")

    def _every(self, verdicts: list[Verdict]) -> Verdict | None:
        if not verdicts:
            return None
        if refuting := [verdict for verdict in verdicts if verdict.falsified]:
            return falsified(self.name, _told(refuting))
        if open_ := [verdict for verdict in verdicts if not verdict.corroborated]:
            return inapplicable(self.name, _told(open_))
        return corroborated(self.name, _told(verdicts))

    def _some(self, verdicts: list[Verdict]) -> Verdict | None:
        if not verdicts:
            return None
        if earned := [verdict for verdict in verdicts if verdict.corroborated]:
            return corroborated(self.name, _told(earned[:1]))
        if all(verdict.falsified for verdict in verdicts):
            return falsified(self.name, f"none of `any` holds: {_told(verdicts)}")
        return inapplicable(
            self.name, _told([verdict for verdict in verdicts if not verdict.falsified])
        )

    def _none(self, verdicts: list[Verdict]) -> Verdict | None:
        if not verdicts:
            return None
        if wrongly := [verdict for verdict in verdicts if verdict.corroborated]:
            return falsified(self.name, f"one of `none` holds: {_told(wrongly)}")
        if refuted := [verdict for verdict in verdicts if verdict.falsified]:
            return corroborated(self.name, f"none of `none` holds: {_told(refuted)}")
        return inapplicable(self.name, _told(verdicts))


@dataclass(frozen=True, slots=True)
class ApplicableOracle:
    """Every oracle that can judge the question must corroborate the answer, at least one."""

    members: tuple[Oracle, ...]
    name: str = field(default="applicable", init=False)

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer; inapplicable when no member can judge it."""
        verdicts = _all(self.members, question, answer)
        if refuting := [verdict for verdict in verdicts if verdict.falsified]:
            return falsified(self.name, _told(refuting))
        if earned := [verdict for verdict in verdicts if verdict.corroborated]:
            return corroborated(self.name, _told(earned))
        return inapplicable(self.name, _told(verdicts))


def _all(members: Sequence[Oracle], question: str, answer: str) -> list[Verdict]:
    return [member.judge(question, answer) for member in members]


def _told(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(f"{verdict.oracle}: {verdict.reason}" for verdict in verdicts)
