"""The oracle protocol, and one constructor for each ruling."""

from __future__ import annotations

from typing import Protocol

from pytest_aprqa.domain.verdict import Ruling, Verdict


class Oracle(Protocol):
    """Judges one answer; never raises on any text."""

    @property
    def name(self) -> str:
        """The oracle's type, as a playbook writes it."""
        ...

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer."""
        ...


def corroborated(oracle: str, reason: str) -> Verdict:
    """Return the verdict of an answer that survived refutation."""
    return Verdict(oracle, Ruling.CORROBORATED, reason)


def falsified(oracle: str, reason: str) -> Verdict:
    """Return the verdict of a refuted answer."""
    return Verdict(oracle, Ruling.FALSIFIED, reason)


def inapplicable(oracle: str, reason: str) -> Verdict:
    """Return the verdict on a question that is not this oracle's; never a pass."""
    return Verdict(oracle, Ruling.INAPPLICABLE, reason)
