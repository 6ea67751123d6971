"""What the integrity check says: findings, expectations, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Enough to see a pattern; a checkpoint with thousands of bad tensors has one cause.
MAX_FINDINGS_PER_CODE = 8


@dataclass(frozen=True, slots=True)
class IntegrityFinding:
    """One thing that is wrong: a stable code, the tensor or file, and one telling line."""

    code: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Expectations:
    """The sizes that a playbook says the model has; None is not judged."""

    hidden_dim: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    vocab_size: int | None = None
    intermediate_dim: int | None = None


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """All findings (none: healthy), and what could not be judged, in words."""

    findings: tuple[IntegrityFinding, ...]
    not_judged: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing that was judged is wrong."""
        return not self.findings


def bounded(findings: Iterable[IntegrityFinding]) -> tuple[IntegrityFinding, ...]:
    """At most MAX_FINDINGS_PER_CODE of each code; the last says how many more there are."""
    by_code: dict[str, list[IntegrityFinding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    kept: list[IntegrityFinding] = []
    for code, group in by_code.items():
        kept += group[:MAX_FINDINGS_PER_CODE]
        more = len(group) - MAX_FINDINGS_PER_CODE
        if more > 0:
            kept.append(IntegrityFinding(code, "", f"and {more} more findings of this kind"))
    return tuple(kept)
