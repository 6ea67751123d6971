"""Oracles of other packages: found by their dotted name, made with a playbook's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from pytest_aprqa.domain.entry_points import told_of_entry
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.oracle_spec import PluginSpec, is_plugin_name
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.verdict import Verdict
from pytest_aprqa.oracles.verdicts import Oracle

GROUP = "pytest_aprqa.oracles"
"""The entry-point group: an entry's name is the oracle's, its value is the factory."""

OracleFactory = Callable[..., Any]
"""Called with the settings by keyword; gives an object with `judge(question, answer)`.

The object may have `why_inapplicable(question)` as well. Settings that it does not take are a
TypeError or a ValueError.
"""

_offered: dict[str, tuple[OracleFactory, str]] = {}


@dataclass(frozen=True, slots=True)
class PluginOracle:
    """Judges with an oracle of another package, held to the oracle protocol."""

    name: str
    oracle: Any

    def judge(self, question: str, answer: str) -> Verdict:
        """Rule on the answer, under the name that the playbook gives the oracle.

        Raises:
            AprqaError: the oracle breaks, or gives no verdict: neither is the answer's fault.
        """
        try:
            verdict = self.oracle.judge(question, answer)
        except Exception as error:
            raise AprqaError(f"the oracle {self.name} broke: {_told(error)}") from error
        if not isinstance(verdict, Verdict):
            raise AprqaError(
                f"the oracle {self.name} gave {type(verdict).__name__}; expected a Verdict"
            )
        return Verdict(self.name, verdict.ruling, verdict.reason)

    def why_inapplicable(self, question: str) -> str | None:
        """Why it can judge no answer to the question, where it can tell; None if it can.

        Raises:
            AprqaError: the oracle breaks.
        """
        ask = getattr(self.oracle, "why_inapplicable", None)
        if ask is None:
            return None
        try:
            reason = ask(question)
        except Exception as error:
            raise AprqaError(f"the oracle {self.name} broke: {_told(error)}") from error
        return None if reason is None else one_line(reason)


def offer(name: object, factory: object, origin: str) -> Callable[[], None]:
    """Make an oracle known in this process; what is returned makes it unknown again.

    Raises:
        AprqaError: the name has no dot, the factory cannot be called, or the name is taken.
    """
    if not isinstance(name, str) or not is_plugin_name(name):
        raise AprqaError(f"{origin}: {name!r} is no oracle's name; expected one as acme.polite")
    if not callable(factory):
        raise AprqaError(f"{origin}: {name} is {factory!r}, which cannot be called")
    if name in _offered:
        raise AprqaError(_told_of_two(name, _offered[name][1], origin))
    _offered[name] = (factory, origin)
    return lambda: _forget(name)


def known_names() -> tuple[str, ...]:
    """The names of all oracles of other packages, in order; nothing is imported."""
    return tuple(sorted({*_offered, *(entry.name for entry in entry_points(group=GROUP))}))


def build_plugin_oracle(spec: PluginSpec) -> Oracle:
    """The oracle of a spec.

    Raises:
        AprqaError: nobody brings it, two do, its entry point does not load, or it does not take
            the settings.
    """
    factory, origin = _find(spec.type)
    try:
        oracle = factory(**spec.settings)
    except (TypeError, ValueError) as error:
        shown = ", ".join(spec.settings) or "none"
        raise AprqaError(
            f"{spec.type} does not take these settings ({shown}): {_told(error)}"
        ) from error
    except Exception as error:
        raise AprqaError(f"{spec.type}, {origin}, cannot be made: {_told(error)}") from error
    if not callable(getattr(oracle, "judge", None)):
        raise AprqaError(
            f"{spec.type}, {origin}, gives {type(oracle).__name__}, which has no "
            "judge(question, answer)"
        )
    return PluginOracle(spec.type, oracle)


def why_unusable(spec: PluginSpec) -> str | None:
    """Why there is no such oracle, or none with these settings, in one line; None if there is."""
    try:
        build_plugin_oracle(spec)
    except AprqaError as error:
        return one_line(error)
    return None


def why_plugin_inapplicable(spec: PluginSpec, question: str) -> str | None:
    """Why the oracle can judge no answer to the question, or cannot be had; None if it can."""
    try:
        oracle = build_plugin_oracle(spec)
        assert isinstance(oracle, PluginOracle)
        return oracle.why_inapplicable(question)
    except AprqaError as error:
        return one_line(error)


def _find(name: str) -> tuple[OracleFactory, str]:
    found = [*_of_hooks(name), *_of_packages(name)]
    if not found:
        known = ", ".join(known_names())
        hint = f"known beside those built in: {known}" if known else "no package here brings one"
        raise AprqaError(f"unknown oracle {name!r}; {hint}; install the package that has it")
    if len(found) > 1:
        raise AprqaError(_told_of_two(name, found[0][1], found[1][1]))
    load, origin = found[0]
    try:
        factory = load()
    except Exception as error:
        raise AprqaError(
            f"{origin} does not load: {_told(error)}; repair or uninstall the package"
        ) from error
    if not callable(factory):
        raise AprqaError(f"{origin} is {type(factory).__name__}, which cannot be called")
    return factory, origin


def _of_hooks(name: str) -> Iterator[tuple[Callable[[], Any], str]]:
    if name in _offered:
        factory, origin = _offered[name]
        yield (lambda: factory), origin


def _of_packages(name: str) -> Iterator[tuple[Callable[[], Any], str]]:
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            yield entry.load, told_of_entry(entry)


def _forget(name: str) -> None:
    _offered.pop(name, None)


def _told_of_two(name: str, one: str, other: str) -> str:
    return f"two oracles are named {name!r}: one of {one}, one of {other}; remove one of them"


def _told(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}")
