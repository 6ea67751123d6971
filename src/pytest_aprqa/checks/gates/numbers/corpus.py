"""Gates of the section `hf_parity`: the ground truth against a golden corpus of logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
from pytest_aprqa.checks.gates.numbers.golden import (
    GoldenError,
    Manifest,
    logits_of,
    manifest_text,
    parsed,
)
from pytest_aprqa.checks.gates.numbers.logits import KLD
from pytest_aprqa.checks.gates.numbers.passes import along, limit_of, ruled
from pytest_aprqa.checks.gates.numbers.reference import placed
from pytest_aprqa.checks.integrity_config import Numbers
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.tolerance import NEAR_SIGMAS, NEARLY_ALL

if TYPE_CHECKING:
    from pathlib import Path

_SECTION = "hf_parity"
_APPLIES = "the playbook names a golden corpus"
_NO_CORPUS = "hf_parity.corpus names no golden corpus"

CORPUS: Family[ModelLab] = Family(
    domain="hf-parity",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    section=_SECTION,
)


def corpus_of(lab: ModelLab) -> Path | None:
    """The corpus's directory; None where the playbook names none."""
    named = lab.sections.hf_parity.corpus
    return None if named is None else lab.beside(named)


def _with_manifest(
    check: Callable[[ModelLab, Path, Manifest], Finding],
) -> Callable[[ModelLab], Finding]:
    def checked(lab: ModelLab) -> Finding:
        corpus = corpus_of(lab)
        if corpus is None:
            return without_meaning(_NO_CORPUS)
        try:
            manifest = parsed(manifest_text(corpus))
        except GoldenError as error:
            return undecided(f"there is no manifest to go by: {error}")
        return check(lab, corpus, manifest)

    return checked


@CORPUS.gate("F-HF-PARITY-002", "The corpus's manifest can be read.", applies=_APPLIES)
def manifest_readable(lab: ModelLab) -> Finding:
    """It is there, and UTF-8."""
    corpus = corpus_of(lab)
    if corpus is None:
        return without_meaning(_NO_CORPUS)
    try:
        text = manifest_text(corpus)
    except GoldenError as error:
        return refuted(str(error), culprit=str(corpus))
    return held(f"{len(text)} characters")


@CORPUS.gate(
    "F-HF-PARITY-003", "The manifest parses and is for this model's vocabulary.", applies=_APPLIES
)
def manifest_fits(lab: ModelLab) -> Finding:
    """A corpus of another model would refute everything."""
    corpus = corpus_of(lab)
    if corpus is None:
        return without_meaning(_NO_CORPUS)
    try:
        text = manifest_text(corpus)
    except GoldenError as error:
        return undecided(f"there is no manifest to parse: {error}")
    try:
        manifest = parsed(text)
    except GoldenError as error:
        return refuted(str(error), culprit=str(corpus))
    size = Numbers.from_config(lab.config).values.get("vocab_size")
    if size is None:
        return undecided("config.json names no vocabulary size")
    if manifest.vocabulary != size:
        told = f"the corpus is for a vocabulary of {manifest.vocabulary}"
        return refuted(f"{told}; expected the model's {size}", culprit=str(corpus))
    return held(f"{len(manifest.prompts)} prompts, a vocabulary of {size}")


@CORPUS.gate(
    "F-HF-PARITY-004", "Every prompt's golden logits load.", cost=Cost.WEIGHTS, applies=_APPLIES
)
@_with_manifest
def goldens_load(lab: ModelLab, corpus: Path, manifest: Manifest) -> Finding:
    """Whole, with their checksum, in their shape, finite."""
    for golden in manifest.prompts:
        try:
            logits_of(corpus, golden, manifest.vocabulary)
        except GoldenError as error:
            return refuted(str(error), culprit=golden.file)
    return held(f"{len(manifest.prompts)} prompts")


GOLDEN: Family[TargetLab] = Family(
    domain="hf-parity",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=_SECTION,
    formats=frozenset({Format.SAFETENSORS}),
)


@dataclass(frozen=True, slots=True)
class Held:
    """The target beside a corpus."""

    told: str
    """Why nothing was compared; empty where it was."""
    kld: Finding | None = None
    near: float = 0.0
    """Share of logits within `eps`."""
    eps: float = 0.0
    elements: int = 0


def held_against(lab: TargetLab) -> Held | None:
    """The target led through the corpus; None where the playbook names none."""
    import numpy as np

    corpus = corpus_of(lab.model)
    if corpus is None:
        return None
    try:
        manifest = parsed(manifest_text(corpus))
        goldens = [(g, logits_of(corpus, g, manifest.vocabulary)) for g in manifest.prompts]
    except GoldenError as error:
        return Held(f"there is no corpus to go by: {error}")
    led = [placed(golden.ids, golden.answer_from, logits) for golden, logits in goldens]
    seen = along(lab, led)
    if seen.problem:
        return Held("", refuted(seen.problem))
    if not seen.positions:
        return Held("the golden model can read none of the corpus's texts")
    limit = limit_of(lab)
    claim = replace(KLD, told="against the corpus, mean KL")
    estimate = claim.number(seen.counting)
    kld = ruled(claim, estimate, claim.limit(limit, seen.noise), seen)
    within = elements = 0
    power = sum(float(np.sum(text.power)) for text in seen.counting)
    elements = seen.positions * manifest.vocabulary
    eps = NEAR_SIGMAS * math.sqrt(limit.nmse * power / elements)
    for (golden, logits), one in zip(goldens, led, strict=True):
        ours = lab.engine.logits(golden.ids)[one.judged]
        within += int((np.abs(ours - logits[one.judged]) <= eps).sum())
    return Held("", kld, within / elements, eps, elements)


@GOLDEN.gate("F-HF-PARITY-001", "Logits match the golden corpus.", applies=_APPLIES)
def as_golden(lab: TargetLab) -> Finding:
    """The mean divergence from the corpus's distributions, and the same vocabulary."""
    found = lab.once(held_against)
    if found is None:
        return without_meaning(_NO_CORPUS)
    return undecided(found.told) if found.kld is None else found.kld


@GOLDEN.gate(
    "F-HFP-001", "Nearly all logits are within eps of the golden corpus's.", applies=_APPLIES
)
def nearly_all_near(lab: TargetLab) -> Finding:
    """99 %, where eps follows from what the engine's arithmetic may cost."""
    found = lab.once(held_against)
    if found is None:
        return without_meaning(_NO_CORPUS)
    if not found.elements:
        return undecided(found.told or "there are no logits to compare")
    told = f"{found.near:.2%} of {found.elements} logits are within {found.eps:.3g}"
    measured = {"near": found.near, "eps": found.eps}
    if found.near < NEARLY_ALL:
        return refuted(f"{told}; expected at least {NEARLY_ALL:.0%}", measured=measured)
    return held(told, measured=measured)


FAMILIES = (CORPUS, GOLDEN)
