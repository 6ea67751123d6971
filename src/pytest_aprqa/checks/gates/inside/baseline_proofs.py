"""The gates against a baseline are seen to fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.inside.speed import profiled
from pytest_aprqa.checks.gates.inside.speed_proofs import FIRST_S, STEP_S, Clock, steady, timed_lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def against_steady(bench: ProofBench, clock: Clock = steady) -> Lab:
    """A target whose baseline was measured with the steady clock."""
    path = bench.place("baseline.json")
    before = timed_lab(bench).once(profiled)
    path.write_text(json.dumps(before.as_json()), encoding="utf-8")
    return timed_lab(bench, clock, baseline=str(path))


def _one_long_pause(_request: int, tokens: int) -> tuple[float, ...]:
    """As quick as ever but for the last token."""
    return (*steady(0, tokens)[:-1], steady(0, tokens)[-1] + 0.1)


def _fifth_longer(_request: int, tokens: int) -> tuple[float, ...]:
    """Each token takes a fifth longer, and the first makes good for it."""
    return (FIRST_S, *(FIRST_S + STEP_S * 1.2 * i for i in range(1, tokens)))


def _late_first(_request: int, tokens: int) -> tuple[float, ...]:
    """The first token takes a quarter longer, the others as long as ever."""
    return tuple(FIRST_S * 1.25 + STEP_S * i for i in range(tokens))


PROOFS = (
    Proof(
        "F-PROFILE-DIFF-001",
        "a pause of a tenth of a second before each answer's last token",
        lambda bench: against_steady(bench, _one_long_pause),
        shared("against a baseline", against_steady),
    ),
    Proof(
        "F-PROFILE-DIFF-002",
        "every token takes a fifth longer",
        lambda bench: against_steady(bench, _fifth_longer),
        shared("against a baseline", against_steady),
        also=("F-PROFILE-DIFF-001",),
    ),
    Proof(
        "F-PROFILE-DIFF-003",
        "the first token takes a quarter longer",
        lambda bench: against_steady(bench, _late_first),
        shared("against a baseline", against_steady),
    ),
)
