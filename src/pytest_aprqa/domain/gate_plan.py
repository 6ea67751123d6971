"""Which gates of the registry a run owes: by tier, by format, and by the playbook's sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.evidence import Narrowing
from pytest_aprqa.domain.gate import Cost, Gate, Place
from pytest_aprqa.domain.gate_ids import ELSEWHERE
from pytest_aprqa.domain.model import Tier
from pytest_aprqa.domain.sections import Sections, Switched

SECTIONS = (
    "differential_tests.tensor_diff",
    "differential_tests.inference_compare",
    "differential_tests.fingerprint",
    "differential_tests.validate_stats",
    "differential_tests.format_validation",
    "profile_ci",
    "trace_payload",
    "contract_tests",
    "ollama_parity",
    "hf_parity",
)
"""The sections that may be switched off, and that list gates."""
_PROFILE = "profile_ci"
_COSTS = list(Cost)
_TIERS = list(Tier)


@dataclass(frozen=True, slots=True)
class GateBook:
    """All gates there are, and the other ids by which they are asked for."""

    gates: tuple[Gate, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str) -> Gate | None:
        """The gate of this id or alias; None where there is none."""
        wanted = self.aliases.get(name, name)
        return next((gate for gate in self.gates if gate.id == wanted), None)


def model_gates(book: GateBook, sections: Sections, tier: Tier | None) -> tuple[Gate, ...]:
    """The gates about the ground truth's files, cheapest first."""
    return _ordered(g for g in _owed(book, sections, tier) if g.place is Place.MODEL)


def target_gates(
    book: GateBook, sections: Sections, tier: Tier | None, target: Target, *, serves: bool
) -> tuple[Gate, ...]:
    """The gates about one target and its server, cheapest first.

    Of an endpoint nothing but its server can be seen.
    """

    def fits(gate: Gate) -> bool:
        if target.format is None:
            return gate.place is Place.SERVER and serves
        places = (Place.TARGET, Place.SERVER) if serves else (Place.TARGET,)
        if gate.place not in places or target.format not in gate.formats:
            return False
        profile = sections.profile_ci
        chosen = target.format in profile.formats and target.backend in profile.backends
        return gate.section != _PROFILE or chosen

    return _ordered(gate for gate in _owed(book, sections, tier) if fits(gate))


def switched_off(book: GateBook, sections: Sections) -> Iterator[Narrowing]:
    """What the playbook's sections leave out by `enabled: false`."""
    for path in SECTIONS:
        section = sections.section(path)
        if not isinstance(section, Switched) or section.enabled:
            continue
        said = "enabled" in section.model_fields_set
        left = [gate.id for gate in book.gates if gate.section == path]
        if said and left:
            yield Narrowing(cells=", ".join(left), reason=f"switched off by {path}.enabled")


def listed_gates(sections: Sections) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every gate id that a section lists, with its place in the playbook."""
    for path in SECTIONS:
        section = sections.section(path)
        if isinstance(section, Switched):
            for index, name in enumerate(section.gates):
                yield (*path.split("."), "gates", index), name


def _owed(book: GateBook, sections: Sections, tier: Tier | None) -> Iterator[Gate]:
    listed = {gate.id for _, name in listed_gates(sections) if (gate := book.named(name))}
    for gate in book.gates:
        if gate.id in ELSEWHERE:
            continue
        section = sections.section(gate.section) if gate.section else None
        if isinstance(section, Switched) and not section.enabled:
            continue
        if gate.id in listed or _TIERS.index(gate.tier) <= _TIERS.index(tier or Tier.MVP):
            yield gate


def _ordered(gates: Iterator[Gate]) -> tuple[Gate, ...]:
    return tuple(sorted(gates, key=lambda gate: _COSTS.index(gate.cost)))
