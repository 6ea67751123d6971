"""One question put to one target: what is asked, how, and what judges the answer."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_aprqa.domain.completion import GREEDY_BELOW
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity
from pytest_aprqa.domain.oracle_spec import OracleSpec
from pytest_aprqa.domain.playbook import Category

ENDPOINT = "endpoint"
"""The name of the target that is asked over HTTP at a server that is not ours."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded once: one model in one format (and quantization) on one backend.

    An endpoint's target has none of them: what its server has loaded, and where, is not known.
    """

    model_id: str
    format: Format | None
    quantization: Quantization | None
    backend: Backend | None

    @property
    def is_endpoint(self) -> bool:
        """Whether the target is a server that is not ours."""
        return self.format is None

    @property
    def name(self) -> str:
        """The target's part of an item's id, such as `gguf-q4_k_m-cpu`."""
        parts = (self.format or ENDPOINT, self.quantization, self.backend)
        return "-".join(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class Judging:
    """Which oracles judge a case.

    `named` oracles must each rule, an inapplicable one being a mistake in the playbook; of the
    `offered` ones those that apply rule.
    """

    named: tuple[OracleSpec, ...] = ()
    offered: tuple[OracleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario put to one target in one modality, every setting resolved."""

    target: Target
    modality: Modality
    scenario: str
    index: int | None
    """Position in the playbook's `scenarios` or `prompts`; None for a generated scenario."""
    turns: tuple[str, ...]
    system: str | None
    judging: Judging
    max_tokens: int
    temperature: float
    seed: int
    timeout_ms: int
    stop: tuple[str, ...]
    severity: Severity
    category: Category

    @property
    def item_name(self) -> str:
        """The item's name, which identifies the cell by itself.

        Without brackets: pytest 9.2 reads them as parameters and `--lf` then finds no such item.
        """
        return f"{self.scenario}-{self.target.name}-{self.modality}"

    @property
    def batchable(self) -> bool:
        """Whether the question can be generated together with others: greedy, and one turn.

        A server makes batches of its own.
        """
        return (
            not self.target.is_endpoint
            and self.modality is not Modality.SERVE
            and self.temperature < GREEDY_BELOW
            and len(self.turns) == 1
        )

    @property
    def question(self) -> str:
        """What the oracle judges the answer against: the last thing the user said."""
        return self.turns[-1]
