"""What units took, kept from run to run in pytest's cache; an estimate and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from pytest_aprqa.plugin.costs import Timing

CACHE_KEY = "aprqa/seconds"
_KEPT = 1000
"""Units that are remembered; the newest ones."""


def known_timings(config: pytest.Config) -> dict[str, Timing]:
    """What earlier runs measured, by unit; entries that make no sense are left out."""
    cache = _cache_of(config)
    stored = cache.get(CACHE_KEY, None) if cache is not None else None
    if not isinstance(stored, dict):
        return {}
    parsed = ((str(unit), _parsed(entry)) for unit, entry in stored.items())
    return {unit: timing for unit, timing in parsed if timing is not None}


def merged(known: Mapping[str, Timing], measured: Mapping[str, Timing]) -> dict[str, Timing]:
    """Both together, the newest last; a run of a few items does not displace one of many."""
    news = {
        unit: timing
        for unit, timing in measured.items()
        if unit not in known or timing.items * 2 >= known[unit].items
    }
    old = {unit: timing for unit, timing in known.items() if unit not in news}
    return dict([*old.items(), *news.items()][-_KEPT:])


class Timekeeper:
    """Takes out of the measurement what was not run, and stores the rest at the end of a run."""

    def __init__(
        self,
        config: pytest.Config,
        measured: Callable[[], Mapping[str, Timing]],
        disregard: Callable[[str], None],
    ) -> None:
        self._config = config
        self._measured = measured
        self._disregard = disregard

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """An item that skips, as blocked say, tells nothing of what it takes."""
        if report.skipped:
            self._disregard(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Store what was measured."""
        cache, measured = _cache_of(self._config), self._measured()
        if cache is not None and measured:
            kept = merged(known_timings(self._config), measured)
            cache.set(CACHE_KEY, {unit: asdict(timing) for unit, timing in kept.items()})


def _cache_of(config: pytest.Config) -> pytest.Cache | None:
    """The cache of pytest; None with `-p no:cacheprovider`."""
    return getattr(config, "cache", None)


def _parsed(entry: Any) -> Timing | None:
    """A stored entry, or None when it is damaged or of another version."""
    if not isinstance(entry, dict) or set(entry) != {"items", "seconds", "load_s"}:
        return None
    items, seconds, load_s = entry["items"], entry["seconds"], entry["load_s"]
    if not isinstance(items, int) or items < 1 or not _is_seconds(seconds, load_s):
        return None
    return Timing(items, float(seconds), float(load_s))


def _is_seconds(*values: Any) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
        for value in values
    )
