"""What runs a model: each engine turns a GenerationRequest into a Completion.

The names here are what a package that brings an engine needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.domain.completion import (
        Completion,
        FinishReason,
        GenerationRequest,
        Message,
    )
    from pytest_aprqa.domain.errors import EngineUnavailable
    from pytest_aprqa.engines.engine import (
        ContextOverflow,
        Engine,
        EngineCrashed,
        InvalidRequest,
        LoadFailed,
        NoChatTemplate,
    )
    from pytest_aprqa.engines.providers import EngineProvider

__all__ = [
    "Completion",
    "ContextOverflow",
    "Engine",
    "EngineCrashed",
    "EngineProvider",
    "EngineUnavailable",
    "FinishReason",
    "GenerationRequest",
    "InvalidRequest",
    "LoadFailed",
    "Message",
    "NoChatTemplate",
    "Target",
]

_HOME = {
    "Completion": "domain.completion",
    "ContextOverflow": "engines.engine",
    "Engine": "engines.engine",
    "EngineCrashed": "engines.engine",
    "EngineProvider": "engines.providers",
    "EngineUnavailable": "domain.errors",
    "FinishReason": "domain.completion",
    "GenerationRequest": "domain.completion",
    "InvalidRequest": "engines.engine",
    "LoadFailed": "engines.engine",
    "Message": "domain.completion",
    "NoChatTemplate": "engines.engine",
    "Target": "domain.plan",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the package itself costs nothing to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pytest_aprqa.{_HOME[name]}"), name)
