"""Gates over what a derived file says of itself, against the ground truth's own files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_aprqa.checks.conversion_rungs import compare_label
from pytest_aprqa.checks.diagnosis.settings import changed_settings, said
from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.conversion.tensors import DERIVED
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.conversion.portable import PortableModel

SETTINGS: Family[TargetLab] = Family(
    domain="conversion",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=DERIVED,
)
FILES: Family[TargetLab] = Family(
    domain="conversion",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.TOKENS,
    formats=DERIVED,
)
REFERENCE: Family[ModelLab] = Family(
    domain="reference", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.FILE
)
_CLAIMS = {
    "architecture": ("F-CONV-009", "The kind of model is kept."),
    "vocabulary": ("F-CONV-010", "The vocabulary keeps its size."),
    "layers": ("F-CONV-011", "The number of layers is kept."),
    "hidden": ("F-CONV-HIDDEN-001", "The hidden size is kept."),
    "feed-forward": ("F-CONV-FFN-001", "The feed-forward size is kept."),
    "heads": ("F-CONV-HEADCOUNT-001", "The attention heads keep their numbers and size."),
    "rope": ("F-CONV-ROPE-002", "The rotary embedding keeps its base and scaling."),
    "eps": ("F-CONV-EPS-001", "The norms keep their epsilon."),
    "activation": ("F-CONV-ACT-001", "The activation is kept."),
    "context": ("F-CONV-CONTEXT-001", "The context keeps its length."),
    "window": ("F-CONV-WINDOW-001", "Attention windows are kept."),
    "tie": ("F-CONV-TIE-002", "Whether the head is the embedding is kept."),
    "ids": ("F-CONV-IDS-001", "Start, end and padding ids are kept."),
    "scaling": ("F-CONV-FACTOR-001", "Multipliers and soft caps are kept."),
}
"""Each group of settings, its gate and what that asserts."""


def _kept(group: str) -> Callable[[TargetLab], Finding]:
    def check(lab: TargetLab) -> Finding:
        changed = changed_settings(lab.model.portable, lab.portable, group)
        if changed:
            return refuted(f"{lab.file.name}: {changed[0]}", culprit=lab.file.name)
        keys = said(lab.model.portable, group)
        if not keys:
            return without_meaning("the ground truth's config.json says nothing of it")
        return held(f"{keys} settings kept")

    return check


for _group, (_gate, _claim) in _CLAIMS.items():
    SETTINGS.gate(_gate, _claim, severity=Severity.P0)(_kept(_group))


def _file(lab: TargetLab, name: str) -> Finding:
    ours, theirs = (m.files.get(name) for m in (lab.model.portable, lab.portable))
    if ours is None:
        return without_meaning(f"the ground truth has no {name}")
    if theirs is None:
        return refuted(f"{lab.file.name} holds no {name}", culprit=lab.file.name)
    if ours != theirs:
        return refuted(f"{lab.file.name}: its {name} is another", culprit=name)
    return held(f"{name} is kept, {len(ours)} bytes")


@FILES.gate(
    "F-CONV-TOK-001",
    "The file holds the tokenizer, and it is the ground truth's.",
    severity=Severity.P0,
)
def tokenizer_kept(lab: TargetLab) -> Finding:
    """tokenizer.json byte for byte; the format's own keys are told by the gates over tokens."""
    return _file(lab, "tokenizer.json")


@FILES.gate("F-CONV-TOKCONFIG-001", "The tokenizer's settings and chat template are kept.")
def tokenizer_config_kept(lab: TargetLab) -> Finding:
    """tokenizer_config.json byte for byte."""
    return _file(lab, "tokenizer_config.json")


@FILES.gate("F-CONV-GENCONFIG-001", "The generation settings are kept.")
def generation_config_kept(lab: TargetLab) -> Finding:
    """generation_config.json, which may name more end tokens than config.json."""
    return _file(lab, "generation_config.json")


@FILES.gate(
    "F-CONV-LABEL-001", "The file names the quantization that its tensors are in.", rung=Rung.FILE
)
def label_is_true(lab: TargetLab) -> Finding:
    """Most matrices are in the encoding that the name promises, and the file says so."""
    if lab.quantization is None:
        return without_meaning("the target names no quantization")
    rung = compare_label(lab.file, lab.format, lab.quantization)
    if rung.passed:
        return held(rung.verdict.reason)
    return refuted(rung.verdict.reason, culprit=lab.file.name)


@REFERENCE.gate(
    "F-REF-CONFIG-001", "config.json says what the reference's does.", severity=Severity.P0
)
def config_as_reference(lab: ModelLab) -> Finding:
    """In every setting that changes what the model computes; the stored type may be another."""
    from pytest_aprqa.checks.diagnosis.settings import GROUPS
    from pytest_aprqa.conversion.reading import read_portable

    named = lab.sections.differential_tests.reference
    if named is None:
        return without_meaning("differential_tests.reference names no other copy of the model")
    reference = read_portable(lab.beside(named))
    changed = [s for group in GROUPS for s in changed_settings(reference, lab.portable, group)]
    if changed:
        return refuted(f"config.json: {changed[0]}", culprit="config.json")
    return held(f"{sum(said(reference, group) for group in GROUPS)} settings as the reference's")


@REFERENCE.gate(
    "F-REF-FILES-001",
    "Tokenizer, template and generation settings are the reference's.",
    severity=Severity.P0,
)
def files_as_reference(lab: ModelLab) -> Finding:
    """By what they hold; the template may lie in a file of its own."""
    from pytest_aprqa.conversion.reading import read_portable

    named = lab.sections.differential_tests.reference
    if named is None:
        return without_meaning("differential_tests.reference names no other copy of the model")
    theirs, ours = (_contents(m) for m in (read_portable(lab.beside(named)), lab.portable))
    for name, content in theirs.items():
        if ours.get(name) != content:
            state = "is another" if ours.get(name) else "is missing"
            home = "tokenizer_config.json" if name == _TEMPLATE else name
            return refuted(f"{name} {state}, against the reference's ({home})", culprit=home)
    return held(f"{len(theirs)} files as the reference's")


_TEMPLATE = "the chat template"


def _contents(model: PortableModel) -> dict[str, object]:
    """What each file holds, the chat template apart."""
    found: dict[str, object] = {}
    for name, data in model.files.items():
        found[name] = (
            json.loads(data) if name.endswith(".json") else data.decode("utf-8", "replace")
        )
    settings = found.get("tokenizer_config.json")
    template = found.pop("chat_template.jinja", None)
    if isinstance(settings, dict):
        template = settings.pop("chat_template", None) or template
    if template:
        found[_TEMPLATE] = template
    return found


FAMILIES = (SETTINGS, FILES, REFERENCE)
ALIASES = {"F-CONV-CONFIG-001": "F-CONV-011", "F-CONV-007": "F-CONV-LABEL-001"}
