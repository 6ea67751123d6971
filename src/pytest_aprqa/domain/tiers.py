"""How deep each tier goes: which declared cells, how many scenarios in each, how long."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_aprqa.domain.model import Backend, Format, Modality, Tier


@dataclass(frozen=True, slots=True)
class TierRule:
    """What a tier takes of a playbook's matrix; it never adds a cell that is not declared."""

    formats: tuple[Format, ...]
    backends: tuple[Backend, ...]
    modalities: tuple[Modality, ...]
    depth: int | None
    """Scenarios per cell; None takes every listed scenario, or one where none is listed."""
    fills: bool
    """True when generated scenarios fill a shorter list up to the depth."""
    converts: bool
    """Whether the conversions between the formats are owed too."""
    time_limit_s: float
    """Limit for the whole playbook; what is left then is blocked. The upper end of the tier's
    stated time (mvp: 10 minutes, and so on)."""


_ALL_FORMATS = tuple(Format)
_ALL_BACKENDS = tuple(Backend)
_ALL_MODALITIES = tuple(Modality)
_MINUTE = 60.0
_HOUR = 60 * _MINUTE

TIER_RULES = {
    Tier.SMOKE: TierRule(
        (Format.SAFETENSORS,), (Backend.CPU,), (Modality.RUN,), 3, False, False, 2 * _MINUTE
    ),
    Tier.MVP: TierRule(
        _ALL_FORMATS, _ALL_BACKENDS, _ALL_MODALITIES, None, False, True, 10 * _MINUTE
    ),
    Tier.QUICK: TierRule(
        _ALL_FORMATS, (Backend.CPU,), (Modality.RUN, Modality.CHAT), 10, True, True, 30 * _MINUTE
    ),
    Tier.STANDARD: TierRule(
        _ALL_FORMATS, _ALL_BACKENDS, _ALL_MODALITIES, 25, True, True, 2 * _HOUR
    ),
    Tier.DEEP: TierRule(_ALL_FORMATS, _ALL_BACKENDS, _ALL_MODALITIES, 100, True, True, 24 * _HOUR),
}

_NO_TIER = TierRule(_ALL_FORMATS, _ALL_BACKENDS, _ALL_MODALITIES, None, False, True, 24 * _HOUR)
"""Without a tier the playbook's own matrix and depth act."""


def rule_for(tier: Tier | None) -> TierRule:
    """The tier's rule; without a tier, the one that takes the playbook as it is."""
    return _NO_TIER if tier is None else TIER_RULES[tier]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many scenarios a run takes: the first `listed` of the playbook's, then generated ones."""

    listed: int
    generated: int


def depth_of(tier: Tier | None, *, listed: int, scenario_count: int | None) -> Depth:
    """The depth at this tier of a playbook with `listed` scenarios and its own `scenario_count`.

    The playbook's `scenario_count` caps every tier; without a tier it is the depth itself.
    """
    rule = rule_for(tier)
    if tier is None and scenario_count is not None:
        return _split(scenario_count, listed, fills=True)
    wanted = rule.depth if rule.depth is not None else listed or 1
    if tier is Tier.DEEP:
        wanted = max(wanted, listed)
    if scenario_count is not None:
        wanted = min(wanted, scenario_count)
    return _split(wanted, listed, fills=rule.fills or listed == 0)


def _split(wanted: int, listed: int, *, fills: bool) -> Depth:
    taken = min(wanted, listed)
    return Depth(taken, wanted - taken if fills else 0)
