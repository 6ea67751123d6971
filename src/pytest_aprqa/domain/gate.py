"""What a falsification gate is: one claim about a model that can be refuted, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pytest_aprqa.domain.model import Format, Severity, Tier
from pytest_aprqa.domain.playbook import Category

GATE_ID = re.compile(r"(?:F|G[0-4])(?:-[A-Z0-9]+)+[a-z]?")
"""What a gate's id looks like: `F-CONV-RT-001`, `G0-INTEGRITY`."""


class Place(StrEnum):
    """What one item of a gate is about."""

    MODEL = "model"
    """The files of the ground truth, once for each playbook."""
    TARGET = "target"
    """One loaded target: its file and its answers."""
    SERVER = "server"
    """The server of one target."""
    CONVERSION = "conversion"
    """One conversion between formats."""
    SCENARIO = "scenario"
    """One question put to a target."""
    GATEWAY = "gateway"
    """What stands before everything else that is asked of a target."""
    RUN = "run"
    """All evidence of a run, at its end."""


class Cost(StrEnum):
    """What a gate's check takes, the cheapest first."""

    EVIDENCE = "evidence"
    """Nothing: it reads what others gathered."""
    HEADERS = "headers"
    """Headers, config and tokenizer files."""
    WEIGHTS = "weights"
    """One reading of all weights, shared."""
    LOGITS = "logits"
    """Teacher-forced passes over some text, shared."""
    ANSWERS = "answers"
    """Some generated answers."""
    SERVER = "server"
    """Requests to a running server."""
    TIMING = "timing"
    """Repeated runs on a quiet machine."""


class Rung(IntEnum):
    """How near to the root of a defect a gate looks: the lowest that is refuted explains the rest.

    Bytes before tensors before tokens before templates before logits before texts.
    """

    FILE = 0
    TENSOR = 1
    TOKENS = 2
    TEMPLATE = 3
    LOGITS = 4
    TEXT = 5
    SERVER = 6
    SPEED = 7


@dataclass(frozen=True, slots=True)
class Gate:
    """One falsification gate: what it asserts, how much that matters, when and where it is asked.

    Attributes:
        id: Its name everywhere, one meaning each.
        domain: The family of gates it is one of.
        assertion: The one sentence that can be refuted.
        severity: P0 blocks the model.
        category: The part of the score it counts for.
        place: What one item of it is about.
        cost: What it takes.
        rung: How near to the root of a defect it looks.
        tier: The smallest tier that asks it.
        source: Where the claim or its limit comes from.
        formats: The target formats it has a meaning for.
        section: The section of a playbook that sets it, and may switch it off; empty for none.
        applies: When it has a meaning, in words.
    """

    id: str
    domain: str
    assertion: str
    severity: Severity
    category: Category
    place: Place
    cost: Cost
    rung: Rung
    tier: Tier
    source: str
    formats: frozenset[Format] = frozenset(Format)
    section: str = ""
    applies: str = "always"

    @property
    def item_name(self) -> str:
        """The gate's part of its item's name."""
        return self.id
