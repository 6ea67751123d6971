"""Gates: the model keeps the contracts that a playbook names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.domain.contract import Contract, ExpressionError, TensorClaim, evaluated
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.formats.contract_yaml import ContractError, read_contract

if TYPE_CHECKING:
    from pytest_aprqa.formats.checkpoint import Checkpoint

_ABSENT = object()

contracts: Family[ModelLab] = Family(
    domain="user contract",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    section="contract_tests",
    source="the playbook's contract_tests.contracts (docs/contracts.md)",
)


@dataclass(frozen=True, slots=True)
class Contracts:
    """The contracts that could be read, and what is wrong with the others."""

    read: tuple[Contract, ...]
    problems: tuple[tuple[str, str], ...]
    """A file's name and its mistakes."""


def loaded(lab: ModelLab) -> Contracts:
    """All contracts of the playbook, beside which they lie."""
    read, problems = [], []
    for name in lab.sections.contract_tests.contracts:
        try:
            read.append(read_contract(lab.beside(name)))
        except ContractError as error:
            problems.append((name, str(error)))
    return Contracts(tuple(read), tuple(problems))


@contracts.gate(
    "F-CONTRACT-LOAD-001",
    "Every contract that the playbook names can be read, without a mistake in it",
    severity=Severity.P0,
    applies="the playbook names contracts",
)
def _load(lab: ModelLab) -> Finding:
    found = lab.once(loaded)
    if found.problems:
        name, told = found.problems[0]
        return refuted("; ".join(told.splitlines()), culprit=name, details=told.splitlines())
    if not found.read:
        return without_meaning("the playbook names no contracts")
    return held(f"{len(found.read)} contracts")


_Claims = list[tuple[Contract, Any]]
_Judge = Callable[[ModelLab, Contract, Any], Finding | None]


def _gate(
    gate_id: str,
    assertion: str,
    claims: Callable[[Contract], list[Any]],
    *,
    rung: Rung = Rung.FILE,
    cost: Cost = Cost.HEADERS,
) -> Callable[[_Judge], None]:
    """A gate over one kind of claim; its judge gives a finding for a claim that does not hold."""

    def add(judge: _Judge) -> None:
        @contracts.gate(
            gate_id,
            assertion,
            severity=Severity.P0,
            rung=rung,
            cost=cost,
            applies="a contract has such claims",
        )
        def _check(lab: ModelLab) -> Finding:
            made = [(each, claim) for each in lab.once(loaded).read for claim in claims(each)]
            for contract, claim in made:
                wrong = judge(lab, contract, claim)
                if wrong is not None:
                    return wrong
            if not made:
                return without_meaning("no contract that can be read has such claims")
            return held(f"{len(made)} claims hold")

    return add


def _fitting(checkpoint: Checkpoint, claim: TensorClaim) -> list[str]:
    # Brackets are letters here, as tensor names may have them.
    pattern = claim.names.replace("[", "[[]")
    return [name for name in checkpoint.tensors if fnmatchcase(name, pattern)]


@_gate(
    "F-CONTRACT-USER-TENSORS-001",
    "Tensors are there in the number, the shapes and the encodings that contracts claim",
    lambda contract: list(contract.tensors),
    rung=Rung.TENSOR,
)
def _tensors(lab: ModelLab, contract: Contract, claim: TensorClaim) -> Finding | None:
    names = _fitting(lab.checkpoint, claim)
    where = f"{contract.contract}: {claim.names}"
    try:
        count = None if claim.count is None else evaluated(claim.count, lab.config)
        shape = None
        if claim.shape is not None:
            shape = tuple(evaluated(size, lab.config) for size in claim.shape)
    except ExpressionError as error:
        return refuted(f"{where}: {error}", culprit="config.json")
    if (count is None and not names) or (count is not None and len(names) != count):
        wanted = "at least one" if count is None else count
        return refuted(f"{where}: {len(names)} tensors, expected {wanted}", culprit=claim.names)
    for name in names:
        info = lab.checkpoint.tensors[name]
        if shape is not None and info.shape != shape:
            told = f"{where}: {name} has shape {list(info.shape)}, expected {list(shape)}"
            return refuted(told, culprit=name)
        if claim.dtypes and info.dtype not in claim.dtypes:
            told = f"{where}: {name} is {info.dtype}, expected {' or '.join(claim.dtypes)}"
            return refuted(told, culprit=name)
    return None


@_gate(
    "F-CONTRACT-USER-STATS-001",
    "Values of tensors have the mean, the deviation and the extremes that contracts claim",
    lambda contract: [claim for claim in contract.tensors if claim.bounds],
    rung=Rung.TENSOR,
    cost=Cost.WEIGHTS,
)
def _stats(lab: ModelLab, contract: Contract, claim: TensorClaim) -> Finding | None:
    where = f"{contract.contract}: {claim.names}"
    names = _fitting(lab.checkpoint, claim)
    if not names:
        return refuted(f"{where}: no tensor has such a name", culprit=claim.names)
    for name in names:
        seen = _statistics(lab.checkpoint, name)
        for what, bounds in claim.bounds.items():
            if not bounds.hold(seen[what]):
                told = f"{where}: {name} has {what} {seen[what]:.6g}, expected "
                told += f"{bounds.least} to {bounds.most}"
                return refuted(told, culprit=name, measured={what: seen[what]})
    return None


def _statistics(checkpoint: Checkpoint, name: str) -> Mapping[str, float]:
    """Mean, deviation and extremes, a piece of bounded size at a time; NaN where a value is."""
    import numpy as np

    count, total, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    try:
        for piece in checkpoint.float32_chunks(name):
            wide = piece.astype(np.float64)
            count += wide.size
            total += float(wide.sum())
            squares += float(wide @ wide)
            low, high = float(np.minimum(low, wide.min())), float(np.maximum(high, wide.max()))
    finally:
        checkpoint.release(name)
    mean = total / count if count else math.nan
    variance = squares / count - mean**2 if count else math.nan
    deviation = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
    return {"mean": mean, "std": deviation, "min": low, "max": high}


def _metadata_claims(contract: Contract) -> list[Any]:
    claimed = contract.metadata
    return [
        *(("required", key, None) for key in claimed.required),
        *(("forbidden", key, None) for key in claimed.forbidden),
        *(("equal", key, value) for key, value in claimed.equal.items()),
    ]


@_gate(
    "F-CONTRACT-USER-METADATA-001",
    "config.json has the keys and values that contracts claim, and none that they forbid",
    _metadata_claims,
)
def _metadata(lab: ModelLab, contract: Contract, claim: Any) -> Finding | None:
    kind, key, value = claim
    found: Any = lab.config
    for part in key.split("."):
        found = found.get(part, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    there = found is not _ABSENT
    if kind == "forbidden":
        wrong = f"{key} is there, though it must not be" if there else ""
    elif not there:
        wrong = f"{key} is missing"
    else:
        same = kind == "required" or (found == value and type(found) is type(value))
        wrong = "" if same else f"{key} is {found!r:.60}, expected {value!r:.60}"
    return refuted(f"{contract.contract}: {wrong}", culprit="config.json") if wrong else None


@_gate(
    "F-CONTRACT-USER-FILES-001",
    "Files are there, or are not, and have the digests that contracts claim",
    lambda contract: list(contract.files),
)
def _files(lab: ModelLab, contract: Contract, claim: Any) -> Finding | None:
    from pytest_aprqa.formats.digest import sha256_of

    path = lab.directory / claim.name
    if path.is_file() != claim.present:
        told = "is missing" if claim.present else "is there, though it must not be"
        return refuted(f"{contract.contract}: {claim.name} {told}", culprit=claim.name)
    if claim.sha256 is not None and claim.present and (digest := sha256_of(path)) != claim.sha256:
        told = f"{claim.name} has SHA-256 {digest}, expected {claim.sha256}"
        return refuted(f"{contract.contract}: {told}", culprit=claim.name)
    return None


FAMILIES = (contracts,)
