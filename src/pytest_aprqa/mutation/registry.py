"""All mutation operators."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.mutation import files, settings, texts, weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_aprqa.mutation.operator import Operator

OPERATORS: tuple[Operator, ...] = (
    *weights.OPERATORS,
    *settings.OPERATORS,
    *texts.OPERATORS,
    *files.OPERATORS,
)
"""In the order in which they are listed."""


def operators_named(patterns: Sequence[str]) -> tuple[Operator, ...]:
    """The operators whose ids fit one of the patterns; all for none.

    Raises:
        AprqaError: a pattern fits none.
    """
    if not patterns:
        return OPERATORS
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(op.id, pattern) for op in OPERATORS):
            raise AprqaError(f"no operator fits {pattern!r}; `aprqa mutate --list` shows them")
    return tuple(op for op in OPERATORS if any(fnmatch.fnmatchcase(op.id, p) for p in patterns))
