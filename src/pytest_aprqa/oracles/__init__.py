"""Oracles: what is judged of an answer's text; each imports its parsers when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_aprqa.oracles.assertion import assert_oracle, judge
    from pytest_aprqa.oracles.factory import (
        applicable,
        build_oracle,
        oracle_names,
        parse_oracle,
        why_inapplicable,
    )
    from pytest_aprqa.oracles.verdicts import Oracle

__all__ = [
    "Oracle",
    "applicable",
    "assert_oracle",
    "build_oracle",
    "judge",
    "oracle_names",
    "parse_oracle",
    "why_inapplicable",
]

_HOME = {
    "Oracle": "verdicts",
    "applicable": "factory",
    "assert_oracle": "assertion",
    "build_oracle": "factory",
    "judge": "assertion",
    "oracle_names": "factory",
    "parse_oracle": "factory",
    "why_inapplicable": "factory",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the package itself costs nothing to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
