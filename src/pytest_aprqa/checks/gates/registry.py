"""All falsification gates: which families there are, by which ids they are found."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.family import Family, GateCheck
    from pytest_aprqa.checks.gates.proof import Proof
    from pytest_aprqa.domain.gate import Gate

_PROOFS = "_proofs"


@cache
def _modules() -> tuple[str, ...]:
    """The modules that hold families: those with a module of proofs beside them.

    Each has FAMILIES, and ALIASES where its claims are known elsewhere by other ids; its module of
    proofs has PROOFS.
    """
    package = import_module("pytest_aprqa.checks.gates")
    found = walk_packages(package.__path__, f"{package.__name__}.")
    return tuple(sorted(m.name.removesuffix(_PROOFS) for m in found if m.name.endswith(_PROOFS)))


@cache
def families() -> tuple[Family[Any], ...]:
    """Every family of gates."""
    return tuple(family for name in _modules() for family in import_module(name).FAMILIES)


@cache
def aliases() -> Mapping[str, str]:
    """Ids by which the same claim is known elsewhere, and the gate that makes it."""
    return {
        alias: gate_id
        for name in _modules()
        for alias, gate_id in getattr(import_module(name), "ALIASES", {}).items()
    }


@cache
def checks() -> Mapping[str, GateCheck[Any]]:
    """Every gate's check, by the gate's id.

    Raises:
        AprqaError: two gates have one id.
    """
    found: dict[str, GateCheck[Any]] = {}
    for family in families():
        for check in family.checks:
            if check.gate.id in found:
                raise AprqaError(f"{check.gate.id} is the id of two gates")
            found[check.gate.id] = check
    return found


def gates() -> tuple[Gate, ...]:
    """Every gate."""
    return tuple(check.gate for check in checks().values())


@cache
def proofs() -> tuple[Proof, ...]:
    """Every proof, each of one gate."""
    return tuple(proof for name in _modules() for proof in import_module(name + _PROOFS).PROOFS)


def family_of(gate_id: str) -> Family[Any]:
    """The family that a gate is of."""
    return next(f for f in families() if any(c.gate.id == gate_id for c in f.checks))


def gate_named(name: str) -> Gate:
    """The gate of this id or alias.

    Raises:
        AprqaError: there is none; the message names similar ones.
    """
    known = checks()
    wanted = aliases().get(name.upper(), name.upper())
    wanted = name if name in known else wanted
    if wanted in known:
        return known[wanted].gate
    close = difflib.get_close_matches(name.upper(), [*known, *aliases()], n=3)
    hint = f"; did you mean {', '.join(close)}?" if close else "; `aprqa gates` lists them"
    raise AprqaError(f"there is no gate {name!r}{hint}")
