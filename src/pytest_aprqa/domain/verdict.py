"""What an oracle says of one answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ruling(StrEnum):
    """Survived refutation, refuted, not this oracle's question, or tried without a decision."""

    CORROBORATED = "corroborated"
    FALSIFIED = "falsified"
    INAPPLICABLE = "inapplicable"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One oracle's ruling on one answer, with a reason that shows the text it judged."""

    oracle: str
    ruling: Ruling
    reason: str

    @property
    def corroborated(self) -> bool:
        """True only for a ruling that was earned; inapplicable is not a pass."""
        return self.ruling is Ruling.CORROBORATED

    @property
    def falsified(self) -> bool:
        """True when the answer refutes the hypothesis."""
        return self.ruling is Ruling.FALSIFIED
