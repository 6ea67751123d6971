"""`aprqa gates`: which falsification gates are there, what does each claim, can it fail?"""

from __future__ import annotations

import fnmatch
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.domain.gate import Cost, Gate, Place
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pytest_aprqa.checks.gates.proof import Proof

NAME = "gates"
HELP = "list, explain and prove the falsification gates"
DESCRIPTION = """\
Every gate is one claim about a model that can be refuted. `list` shows them, `explain` tells all
about one, and `prove` shows that it can fail: it plants the gate's defect in a copy of the embedded
model, looks for the gate to be falsified there, and for it to be corroborated without the defect.
"""
EXAMPLES = """\
examples:
  aprqa gates list --severity P0 --domain conversion
  aprqa gates list 'F-TOK-*'
  aprqa gates explain F-CONV-ROPE-001
  aprqa gates prove F-CONV-ROPE-001 'F-TRACE-*'
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa gates`."""
    parts = command.add_subparsers(title="parts", metavar="PART", required=True, dest="part")
    shown = parts.add_parser("list", help="show the gates, one line each")
    shown.add_argument("ids", metavar="ID", nargs="*", help="ids or patterns such as 'F-CONV-*'")
    shown.add_argument("--domain", help="only gates of this domain")
    shown.add_argument("--severity", choices=list(Severity), help="only gates of this severity")
    shown.add_argument("--category", choices=list(Category), help="only gates of this category")
    shown.add_argument("--place", choices=list(Place), help="only gates about this")
    shown.add_argument("--cost", choices=list(Cost), help="only gates that take this")
    shown.add_argument("--json", action="store_true", help="write one JSON document")
    told = parts.add_parser("explain", help="tell all about gates")
    told.add_argument("ids", metavar="ID", nargs="+", help="ids, or aliases of other catalogues")
    told.add_argument("--json", action="store_true", help="write one JSON document")
    proven = parts.add_parser("prove", help="see gates fail on their planted defects")
    proven.add_argument("ids", metavar="ID", nargs="+", help="ids or patterns")
    proven.add_argument("--json", action="store_true", help="write one JSON document")


def run(chosen: argparse.Namespace) -> Exit:
    """Do the part; `prove` gives status 1 when a gate does not do as its proof says."""
    if chosen.part == "list":
        return _list(chosen)
    return _explain(chosen) if chosen.part == "explain" else _prove(chosen)


def _list(chosen: argparse.Namespace) -> Exit:
    found = [
        gate
        for gate in _matching(chosen.ids)
        if chosen.domain in (None, gate.domain)
        and chosen.severity in (None, gate.severity)
        and chosen.category in (None, gate.category)
        and chosen.place in (None, gate.place)
        and chosen.cost in (None, gate.cost)
    ]
    if chosen.json:
        write_json([_as_json(gate) for gate in found])
        return Exit.FINE
    screen = Screen()
    screen.table(
        ("gate", "domain", "severity", "about", "asserts"),
        [(g.id, g.domain, g.severity, g.place, g.assertion) for g in found],
    )
    screen.line(f"{len(found)} gates", style="bold")
    return Exit.FINE


def _explain(chosen: argparse.Namespace) -> Exit:
    from pytest_aprqa.checks.gates.registry import aliases, gate_named, proofs

    found = [gate_named(name) for name in chosen.ids]
    by_gate = {proof.gate: proof for proof in proofs()}
    others = {gate.id: [a for a, of in aliases().items() if of == gate.id] for gate in found}
    if chosen.json:
        write_json(
            [
                _as_json(gate) | {"aliases": others[gate.id], "defect": by_gate[gate.id].defect}
                for gate in found
            ]
        )
        return Exit.FINE
    screen = Screen()
    for gate in found:
        screen.line(f"{gate.id}: {gate.assertion}", style="bold")
        screen.pairs(_facts(gate, others[gate.id], by_gate[gate.id]), indent="  ")
    return Exit.FINE


def _facts(gate: Gate, others: list[str], proof: Proof) -> dict[str, str]:
    facts = {
        "domain": gate.domain,
        "severity": gate.severity,
        "category": gate.category,
        "about": gate.place,
        "formats": ", ".join(sorted(gate.formats)),
        "applies": gate.applies,
        "takes": gate.cost,
        "from tier": gate.tier,
        "set by": gate.section or "no section of a playbook",
        "source": gate.source,
        "fails when": proof.defect,
        "also seen by": ", ".join(proof.also) or "no other gate of its family",
        "known as": ", ".join(others) or "nothing else",
        "prove it": f"aprqa gates prove {gate.id}",
    }
    return {name: str(value) for name, value in facts.items()}


def _prove(chosen: argparse.Namespace) -> Exit:
    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.checks.gates.registry import proofs
    from pytest_aprqa.formats.scratch import scratch

    wanted = {gate.id for gate in _matching(chosen.ids)}
    screen = Screen()
    told: list[dict[str, Any]] = []
    with scratch() as space:
        bench = ProofBench(space)
        try:
            for proof in (proof for proof in proofs() if proof.gate in wanted):
                told.append(_proven(proof, bench))
                if not chosen.json:
                    _tell(screen, told[-1])
        finally:
            bench.close()
    if chosen.json:
        write_json(told)
    else:
        screen.line(f"{sum(p['proven'] for p in told)} of {len(told)} proven", style="bold")
    return Exit.FINE if all(p["proven"] for p in told) else Exit.WRONG


def _proven(proof: Proof, bench: Any) -> dict[str, Any]:
    from pytest_aprqa.checks.gates.proving import plant, try_healthy
    from pytest_aprqa.domain.verdict import Ruling

    planted, healthy = plant(proof, bench), try_healthy(proof, bench)
    return {
        "gate": proof.gate,
        "defect": proof.defect,
        "proven": planted.exact and healthy.ruling is Ruling.CORROBORATED,
        "planted": {"ruling": planted.finding.ruling, "reason": planted.finding.reason},
        "healthy": {"ruling": healthy.ruling, "reason": healthy.reason},
        "others_falsified": sorted(planted.fallen - {proof.gate}),
    }


def _tell(screen: Screen, told: dict[str, Any]) -> None:
    screen.line(told["gate"], style="green" if told["proven"] else "red")
    screen.pairs(
        {
            "planted": told["defect"],
            told["planted"]["ruling"]: told["planted"]["reason"],
            "healthy": f"{told['healthy']['ruling']}: {told['healthy']['reason']}",
        },
        indent="  ",
    )


def _matching(patterns: Iterable[str]) -> list[Gate]:
    """The gates of these ids, aliases or patterns, in the registry's order; all for none."""
    from pytest_aprqa.checks.gates.registry import gate_named, gates

    wanted = list(patterns)
    if not wanted:
        return list(gates())
    named: set[str] = set()
    for pattern in wanted:
        fitting = {gate.id for gate in gates() if fnmatch.fnmatchcase(gate.id, pattern)}
        named |= fitting or {gate_named(pattern).id}
    return [gate for gate in gates() if gate.id in named]


def _as_json(gate: Gate) -> dict[str, Any]:
    return asdict(gate) | {"formats": sorted(gate.formats), "rung": gate.rung.name.lower()}
