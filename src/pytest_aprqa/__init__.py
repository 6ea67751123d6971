"""Model qualification as pytest items: every pass is earned."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_aprqa.domain.errors import AprqaError, Falsified
    from pytest_aprqa.domain.verdict import Ruling, Verdict
    from pytest_aprqa.oracles import assert_oracle

__version__ = "0.1.0"

__all__ = ["AprqaError", "Falsified", "Ruling", "Verdict", "__version__", "assert_oracle"]

_HOME = {
    "AprqaError": "pytest_aprqa.domain.errors",
    "Falsified": "pytest_aprqa.domain.errors",
    "Ruling": "pytest_aprqa.domain.verdict",
    "Verdict": "pytest_aprqa.domain.verdict",
    "assert_oracle": "pytest_aprqa.oracles",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the package itself costs nothing to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
