"""The two error roots: the model is wrong, or the set-up is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_aprqa.domain.verdict import Verdict


class Falsified(AssertionError):
    """The evidence refutes the hypothesis: the model is wrong."""

    __module__ = "pytest_aprqa"  # its public home, as failure summaries show it

    def __init__(self, message: str, *, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


class AprqaError(Exception):
    """The set-up is wrong: playbook, options, files or environment; never the model's fault."""


class PlaybookError(AprqaError):
    """A playbook file has mistakes; `problems` holds one line `file:line: path: what` for each."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.path = path
        self.problems = tuple(problems)


class ModelUnavailable(AprqaError):
    """The model's files are not on this machine; the message says how to get them."""


class EngineUnavailable(AprqaError):
    """No engine on this machine can run the target (no CUDA device, say); never a pass."""
