"""Engines and oracles that come from hooks and entry points, and which engine was asked for."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.oracle_spec import CompositeSpec, OracleSpec, PluginSpec
from pytest_aprqa.engines.engine import told
from pytest_aprqa.engines.providers import (
    EngineProvider,
    Offer,
    find_provider,
    known_providers,
    require_provider,
    why_not,
)
from pytest_aprqa.oracles import plugins

if TYPE_CHECKING:
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.formats.playbook_yaml import PlaybookDocument

ENGINES_HOOK = "pytest_aprqa_engines"
ORACLES_HOOK = "pytest_aprqa_oracles"
_CHOSEN = pytest.StashKey[Mapping[Format | None, Sequence[EngineProvider]]]()


def providers_for(config: pytest.Config, target: Target) -> Sequence[EngineProvider]:
    """The engines that `--aprqa-engine` allows the target; none: the built-in one is used."""
    chosen = config.stash.get(_CHOSEN, {})
    return chosen.get(target.format, chosen.get(None, ()))


def provider_for(config: pytest.Config, target: Target) -> EngineProvider | None:
    """The engine that runs the target: the first of those allowed that can; None: the built-in."""
    allowed = providers_for(config, target)
    return next((provider for provider in allowed if why_not(provider, target) is None), None)


def choose_engines(config: pytest.Config) -> None:
    """Find the engines that `--aprqa-engine` names.

    Raises:
        pytest.UsageError: a name that nobody brings, or an entry point or hook that is broken.
    """
    from pytest_aprqa.plugin.options import engine_choices

    try:
        known = known_providers(_offered(config))
        config.stash[_CHOSEN] = {
            format_: tuple(find_provider(known, name) for name in names)
            for format_, names in engine_choices(config).items()
        }
    except AprqaError as error:
        raise pytest.UsageError(f"--aprqa-engine: {error}") from error


def register_oracles(config: pytest.Config) -> None:
    """Make the oracles of `pytest_aprqa_oracles` known until the session's configuration ends.

    Raises:
        pytest.UsageError: a hook that is broken, a name without a dot, or one given twice.
    """
    try:
        for given in _results(config, ORACLES_HOOK):
            if not isinstance(given, Mapping):
                raise AprqaError(f"{ORACLES_HOOK} gave {given!r}; expected factories by name")
            for name, factory in given.items():
                config.add_cleanup(plugins.offer(name, factory, _origin(factory, ORACLES_HOOK)))
    except AprqaError as error:
        raise pytest.UsageError(str(error)) from error


def unusable_oracles(document: PlaybookDocument, shown: str) -> list[str]:
    """One line for each oracle of another package that this playbook cannot have.

    `shown` is the file's name in messages; a line has the place, as for every other mistake.
    """
    playbook = document.playbook
    named = [
        (("scenarios", index, "oracle"), scenario.oracle)
        for index, scenario in enumerate(playbook.scenarios)
        if scenario.oracle is not None
    ]
    listed = [(("oracles", index), oracle) for index, oracle in enumerate(playbook.oracles)]
    problems = []
    for top, oracle in (*named, *listed):
        for loc, spec in _plugin_specs(oracle, top):
            why = plugins.why_unusable(spec)
            if why is not None:
                place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in loc)
                problems.append(f"{shown}:{document.line_of(*loc)}: {place.lstrip('.')}: {why}")
    return problems


def _plugin_specs(
    spec: OracleSpec, loc: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], PluginSpec]]:
    if isinstance(spec, PluginSpec):
        yield loc, spec
    elif isinstance(spec, CompositeSpec):
        for group in ("all", "any", "none"):
            for index, member in enumerate(getattr(spec, group)):
                yield from _plugin_specs(member, (*loc, group, index))


def _offered(config: pytest.Config) -> Iterator[Offer]:
    for given in _results(config, ENGINES_HOOK):
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise AprqaError(f"{ENGINES_HOOK} gave {given!r}; expected a list of providers")
        for candidate in given:
            yield require_provider(candidate, _origin(candidate, ENGINES_HOOK))


def _results(config: pytest.Config, hook: str) -> list[Any]:
    """What the implementations of a hook gave; one that breaks is told with its place."""
    try:
        results: list[Any] = getattr(config.hook, hook)(config=config)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise AprqaError(
            f"the hook {hook} broke at {frame.filename}:{frame.lineno}: {told(error)}"
        ) from error
    return results


def _origin(offered: object, hook: str) -> str:
    kind = offered if isinstance(offered, type) or callable(offered) else type(offered)
    name = getattr(kind, "__qualname__", type(offered).__qualname__)
    module = getattr(kind, "__module__", "?")
    return f"{module}.{name} from the hook {hook}"
