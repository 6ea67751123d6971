"""Which engines there are: those built in, those that installed packages bring, and a caller's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pytest_aprqa.domain.entry_points import told_of_entry
from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable, Falsified
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import LoadFailed, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.engines.engine import Engine

GROUP = "pytest_aprqa.engines"
"""Entry points of this group are providers, or callables that give one without arguments."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NEEDS = "expected name (one word), why_not(target) and load(target, path, *, threads)"


@runtime_checkable
class EngineProvider(Protocol):
    """What brings an engine: says which targets it can run here, and loads them."""

    @property
    def name(self) -> str:
        """The engine's name, in one word: what `--aprqa-engine` is given."""

    def why_not(self, target: Target) -> str | None:
        """Why the engine cannot run the target on this machine; None when it can.

        Answers fast and loads nothing: it is asked before every item.
        """

    def load(self, target: Target, path: Path, *, threads: int | None) -> Engine:
        """Load the target's weights, to run on at most `threads` CPU threads (None: as it likes).

        `path` is the directory of a safetensors model, or the `.apr` or `.gguf` file.

        Raises:
            LoadFailed: the engine does not take the model.
            EngineUnavailable: this machine cannot run it.
        """


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider, and who brings it, for messages."""

    provider: EngineProvider
    origin: str


def known_providers(further: Iterable[Offer] = ()) -> dict[str, EngineProvider]:
    """Every provider by its name: built in, installed, and the caller's `further` ones.

    Raises:
        AprqaError: an entry point does not load or gives no provider, or two share a name.
    """
    found: dict[str, Offer] = {}
    for offer in (*_built_in(), *_installed(), *further):
        name = offer.provider.name
        if name in found:
            raise AprqaError(
                f"two engines are named {name!r}: one of {found[name].origin}, one of "
                f"{offer.origin}; rename or remove one of them"
            )
        found[name] = offer
    return {name: offer.provider for name, offer in found.items()}


def require_provider(candidate: object, origin: str) -> Offer:
    """The candidate as an offer, once it has what a provider must have.

    Raises:
        AprqaError: it has not; the message names the origin.
    """
    if isinstance(candidate, type) or not isinstance(candidate, EngineProvider):
        shown = one_line(repr(candidate), limit=80)
        raise AprqaError(f"{origin} gives {shown}, which is no engine provider: {_NEEDS}")
    name: object = candidate.name
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise AprqaError(f"{origin} gives an engine provider named {name!r}: {_NEEDS}")
    return Offer(candidate, origin)


def find_provider(providers: Mapping[str, EngineProvider], name: str) -> EngineProvider:
    """The provider of a name.

    Raises:
        AprqaError: there is none; the message lists those that are known.
    """
    if name not in providers:
        raise AprqaError(f"no engine is named {name!r}; known: {', '.join(providers)}")
    return providers[name]


def why_no_provider(providers: Iterable[EngineProvider], target: Target) -> str | None:
    """Why none of the providers can run the target, each one's reason; None when one can.

    Raises:
        AprqaError: a provider breaks instead of answering.
    """
    reasons = {provider.name: why_not(provider, target) for provider in providers}
    if None in reasons.values():
        return None
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


def why_not(provider: EngineProvider, target: Target) -> str | None:
    """The provider's own reason, in one line.

    Raises:
        AprqaError: the provider breaks instead of answering.
    """
    try:
        reason = provider.why_not(target)
    except Exception as error:
        raise AprqaError(
            f"the engine {provider.name} cannot say whether it runs {target.name}: {told(error)}"
        ) from error
    return None if reason is None else one_line(reason)


def load_with(
    provider: EngineProvider, target: Target, path: Path, *, threads: int | None = None
) -> Engine:
    """Load the target with this provider; whatever its engine raises becomes an outcome.

    Raises:
        LoadFailed: the engine does not load the model, whatever it raised.
        EngineUnavailable: this machine cannot run it, or it runs on another device than asked.
        AprqaError: what was loaded is no engine.
    """
    from pytest_aprqa.engines.guarded import guarded

    try:
        loaded = provider.load(target, path, threads=threads)
    except (Falsified, AprqaError):
        raise
    except Exception as error:
        raise LoadFailed(f"{path}: {provider.name} does not load it: {told(error)}") from error
    engine = guarded(loaded, provider.name)
    on_cpu = engine.device.split(":")[0] == "cpu"
    if on_cpu != (target.backend is Backend.CPU):
        engine.close()
        raise EngineUnavailable(
            f"{provider.name} loaded {target.name} on {engine.device}: "
            f"a model that runs there is no evidence for the backend {target.backend}"
        )
    return engine


def _built_in() -> Iterator[Offer]:
    from pytest_aprqa.engines.apr_tool import AprToolProvider
    from pytest_aprqa.engines.built_in import LlamaCppProvider, TransformersProvider

    for provider in (TransformersProvider(), LlamaCppProvider(), AprToolProvider()):
        yield Offer(provider, "pytest-aprqa itself")


def _installed() -> Iterator[Offer]:
    for entry in entry_points(group=GROUP):
        origin = told_of_entry(entry)
        try:
            loaded = entry.load()
            offered = loaded if _is_provider(loaded) else loaded()
        except Exception as error:
            raise AprqaError(
                f"{origin} does not load: {told(error)}; repair or uninstall the package"
            ) from error
        yield require_provider(offered, origin)


def _is_provider(loaded: object) -> bool:
    return not callable(loaded) or (
        not isinstance(loaded, type) and isinstance(loaded, EngineProvider)
    )
