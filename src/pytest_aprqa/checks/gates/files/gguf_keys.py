"""Gates over a GGUF target's keys: what loaders take from them, against the tensors."""

from __future__ import annotations

import math
import re
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.file_hyperparameters import hyperparameters
from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.gguf_survey import sound
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Quantization, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.checks.gates.files.gguf_survey import Claim
    from pytest_aprqa.formats.gguf_field import GgufField

GGUF_KEYS: Family[TargetLab] = Family(
    domain="gguf-keys",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    formats=frozenset({Format.GGUF}),
    source="llama.cpp, llama-model.cpp: the keys that a model is loaded by",
)
_P0 = Severity.P0
_ARCHITECTURE = "general.architecture"
_TOKENS = "tokenizer.ggml.tokens"
_EMBEDDING = "token_embd.weight"
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_REQUIRED = ("block_count", "context_length", "embedding_length")
_TYPES = MappingProxyType(
    {
        **dict.fromkeys((*_REQUIRED, "attention.key_length", "attention.value_length"), "uint32"),
        **dict.fromkeys(("expert_count", "expert_used_count", "rope.dimension_count"), "uint32"),
        "rope.freq_base": "float32",
        "attention.layer_norm_rms_epsilon": "float32",
        "attention.layer_norm_epsilon": "float32",
    }
)
"""The types that llama.cpp demands of keys that hold one number."""
DEFAULT_THETA = 10_000.0
"""What llama.cpp rotates by where the file does not say."""
LABELS = MappingProxyType(
    {
        **{0: ("F32",), 1: ("F16",), 32: ("BF16",), 7: ("Q8_0",), 18: ("Q6_K",)},
        **{2: ("Q4_0",), 3: ("Q4_1",), 8: ("Q5_0",), 9: ("Q5_1",), 10: ("Q2_K", "Q3_K")},
        **{11: ("Q3_K",), 12: ("Q3_K", "Q4_K"), 13: ("Q3_K", "Q5_K"), 14: ("Q4_K",), 15: ("Q4_K",)},
        **{16: ("Q5_K",), 17: ("Q5_K",), 21: ("Q2_K",)},
    }
)
"""Encodings that most weights have by `general.file_type` (llama.cpp, enum llama_ftype); what is
not listed is not judged."""
_FALLBACKS = frozenset(("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "F16"))
"""What llama.cpp's quantizer takes where rows are no multiple of 256."""
_FTYPE = MappingProxyType(
    {
        **{Quantization.F32: 0, Quantization.F16: 1, Quantization.BF16: 32, Quantization.Q8_0: 7},
        **{Quantization.Q6_K: 18, Quantization.Q5_K_M: 17, Quantization.Q5_0: 8},
        **{Quantization.Q4_K_M: 15, Quantization.Q4_0: 2, Quantization.Q3_K_M: 12},
        Quantization.Q2_K: 10,
    }
)
"""The `general.file_type` of each quantization."""


def _fields(lab: TargetLab) -> Mapping[str, GgufField]:
    """The keys of the first part; empty where it cannot be read."""
    found = sound(lab)
    return found[0].fields if found else {}


def _value(lab: TargetLab, key: str) -> Any:
    """A key of the architecture's own (`block_count`); None where it is missing."""
    fields = _fields(lab)
    prefix = fields[_ARCHITECTURE].value if _ARCHITECTURE in fields else ""
    field = fields.get(f"{prefix}.{key}")
    return None if field is None else field.value


def _claims(lab: TargetLab) -> Iterator[Claim]:
    for found in sound(lab):
        yield from found.claims


def _shape(lab: TargetLab, name: str) -> tuple[int, ...] | None:
    return next((claim.shape for claim in _claims(lab) if claim.name == name), None)


@GGUF_KEYS.gate("F-GGUF-ARCH-001", "The file names its architecture and its sizes.", severity=_P0)
def architecture_is_named(lab: TargetLab) -> Finding:
    """The keys without which no model is loaded."""
    fields = _fields(lab)
    if not fields:
        return without_meaning("the header cannot be read")
    named = fields[_ARCHITECTURE].value if _ARCHITECTURE in fields else None
    if not isinstance(named, str) or not named:
        return refuted(
            f"{_ARCHITECTURE} is {named!r:.40}; expected a name such as 'llama'",
            culprit=_ARCHITECTURE,
        )
    missing = [f"{named}.{key}" for key in _REQUIRED if f"{named}.{key}" not in fields]
    if missing:
        return refuted(f"{missing[0]} is missing; expected it written", culprit=missing[0])
    return held(f"{named}, with {len(_REQUIRED)} sizes")


@GGUF_KEYS.gate("F-GGUF-TYPE-001", "Keys have the types that llama.cpp demands.", severity=_P0)
def types_are_demanded(lab: TargetLab) -> Finding:
    """A number of another width is refused, not converted."""
    fields, judged = _fields(lab), 0
    prefix = fields[_ARCHITECTURE].value if _ARCHITECTURE in fields else ""
    for key, kind in _TYPES.items():
        field = fields.get(f"{prefix}.{key}")
        if field is None or field.type == "array":
            continue
        judged += 1
        if field.type != kind:
            name = f"{prefix}.{key}"
            return refuted(f"{name} is a {field.type}; expected {kind}", culprit=name)
    return held(f"{judged} keys of the types") if judged else without_meaning("no such key")


@GGUF_KEYS.gate("F-GGUF-LAYERS-001", "The blocks are as many as block_count says.", severity=_P0)
def blocks_are_counted(lab: TargetLab) -> Finding:
    """Numbered from 0, without a gap."""
    stated = _value(lab, "block_count")
    there = {int(match[1]) for claim in _claims(lab) if (match := _BLOCK.match(claim.name))}
    if type(stated) is not int or not there:
        return without_meaning("there is no block_count, or no block")
    missing, surplus = sorted(set(range(stated)) - there), sorted(there - set(range(stated)))
    if missing or surplus:
        told = f"block {(missing or surplus)[0]} is {'missing' if missing else 'one too many'}"
        return refuted(
            f"block_count is {stated}, but {told}; expected blocks 0 to {stated - 1}",
            culprit=f"blk.{(missing or surplus)[0]}",
        )
    return held(f"{stated} blocks")


@GGUF_KEYS.gate(
    "F-GGUF-DIMS-001", "embedding_length is the width of the token embedding.", severity=_P0
)
def width_is_stated(lab: TargetLab) -> Finding:
    """What every other size is derived from."""
    stated, shape = _value(lab, "embedding_length"), _shape(lab, _EMBEDDING)
    if stated is None or shape is None or len(shape) != 2:
        return without_meaning("there is no embedding_length, or no token embedding")
    if shape[1] != stated:
        return refuted(
            f"embedding_length is {stated!r:.40}; {_EMBEDDING} is {shape[1]} wide",
            culprit=_EMBEDDING,
        )
    return held(f"{stated} wide")


@GGUF_KEYS.gate(
    "F-GGUF-HEADS-001", "The key heads are as many as head_count_kv says.", severity=_P0
)
def key_heads_are_counted(lab: TargetLab) -> Finding:
    """By the rows of the key projections, which stand alone and are of one size."""
    heads, width = _value(lab, "attention.head_count"), _value(lab, "embedding_length")
    groups = _value(lab, "attention.head_count_kv")
    groups = heads if groups is None else groups
    size = _value(lab, "attention.key_length")
    if any(type(number) is not int or number < 1 for number in (heads, width, groups)):
        return without_meaning("the file gives no head counts that hold for all layers")
    if _value(lab, "attention.key_length_swa") is not None:
        return without_meaning("layers have heads of different sizes")
    rows = [
        (claim.name, claim.shape[0])
        for claim in _claims(lab)
        if claim.name.endswith(".attn_k.weight") and len(claim.shape) == 2
    ]
    expected = groups * (size if type(size) is int else width // heads)
    for name, count in rows:
        if count != expected:
            return refuted(
                f"{name} has {count} rows; expected {expected}, {groups} heads of "
                f"{expected // groups}",
                culprit=name,
            )
    if not rows:
        return without_meaning("no key projection stands alone")
    return held(f"{len(rows)} key projections of {expected} rows")


@GGUF_KEYS.gate("F-GGUF-EPS-001", "The norm's epsilon is there and small.", severity=_P0)
def epsilon_is_there(lab: TargetLab) -> Finding:
    """Loaders refuse a file without; 0.01 is above any that models are trained with."""
    if not _fields(lab):
        return without_meaning("the header cannot be read")
    keys = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
    stated = {key: value for key in keys if (value := _value(lab, key)) is not None}
    if not stated:
        return refuted(f"neither {keys[0]} nor {keys[1]} is there; expected one", culprit=keys[0])
    for key, value in stated.items():
        if not isinstance(value, float) or not 0 < value <= 0.01:
            return refuted(f"{key} is {value!r:.40}; expected more than 0, up to 0.01", culprit=key)
    return held(", ".join(f"{key} {value:.3g}" for key, value in stated.items()))


@GGUF_KEYS.gate("F-GGUF-ROPE-001", "Positions rotate by the ground truth's theta.", severity=_P0)
def theta_is_kept(lab: TargetLab) -> Finding:
    """What the file says, or what llama.cpp takes where it says nothing."""
    expected = hyperparameters(Format.SAFETENSORS, lab.model.config).get("rope_theta")
    if not isinstance(expected, int | float) or not _fields(lab):
        return without_meaning("config.json gives no one rope_theta")
    stated = _value(lab, "rope.freq_base")
    found = DEFAULT_THETA if stated is None else stated
    if not isinstance(found, int | float) or abs(found - expected) > 1e-6 * abs(expected):
        return refuted(
            f"rope.freq_base is {found!r:.40}; expected {expected:g} as in config.json",
            culprit="rope.freq_base",
        )
    return held(f"theta {found:g}")


@GGUF_KEYS.gate("F-GGUF-LABEL-001", "general.file_type is what most weights are.")
def label_is_true(lab: TargetLab) -> Finding:
    """By the values in the blocks' matrices; short rows fall back to small blocks."""
    field = _fields(lab).get("general.file_type")
    label = -1 if field is None else field.value
    if label not in LABELS:
        return without_meaning("the file has no label that names one encoding")
    found: Counter[tuple[str, bool]] = Counter()
    for claim in _claims(lab):
        if len(claim.shape) >= 2 and _BLOCK.match(claim.name) and claim.encoding:
            found[claim.encoding, claim.shape[-1] % 256 != 0] += math.prod(claim.shape)
    if not found:
        return without_meaning("the file has no matrix in a block")
    allowed = LABELS[label]
    fitting = sum(
        count
        for (encoding, short), count in found.items()
        if encoding in allowed or (short and allowed[0].endswith("_K") and encoding in _FALLBACKS)
    )
    whole = sum(found.values())
    if 2 * fitting < whole:
        most = found.most_common(1)[0][0][0]
        return refuted(
            f"general.file_type is {label} ({'/'.join(allowed)}), but {1 - fitting / whole:.0%} of "
            f"the weights are not; most are {most}",
            culprit="general.file_type",
        )
    return held(f"{fitting / whole:.0%} of the weights are {'/'.join(allowed)}")


@GGUF_KEYS.gate("F-GGUF-QUANT-001", "The file is labelled as the quantization that was asked for.")
def quantization_is_kept(lab: TargetLab) -> Finding:
    """By `general.file_type`."""
    field = _fields(lab).get("general.file_type")
    if lab.quantization is None or field is None:
        return without_meaning("no quantization was asked for, or the file has no label")
    expected = _FTYPE[lab.quantization]
    if field.value != expected:
        return refuted(
            f"general.file_type is {field.value!r:.40}; expected {expected} for {lab.quantization}",
            culprit="general.file_type",
        )
    return held(f"general.file_type {expected}, {lab.quantization}")


@GGUF_KEYS.gate("F-GGUF-VOCAB-001", "The embedding has a row for each token.", severity=_P0)
def rows_are_tokens(lab: TargetLab) -> Finding:
    """llama.cpp takes the vocabulary's size from the list of tokens."""
    field, shape = _fields(lab).get(_TOKENS), _shape(lab, _EMBEDDING)
    if field is None or shape is None or len(shape) != 2:
        return without_meaning("there is no list of tokens, or no token embedding")
    if len(field.value) != shape[0]:
        return refuted(
            f"{_TOKENS} has {len(field.value)} entries, {_EMBEDDING} has {shape[0]} rows; expected "
            f"one row for each token",
            culprit=_EMBEDDING,
        )
    return held(f"{shape[0]} tokens, {shape[0]} rows")


@GGUF_KEYS.gate("F-GGUF-LISTS-001", "Every list of the tokenizer is as long as its tokens.")
def lists_are_of_one_length(lab: TargetLab) -> Finding:
    """Types and scores, which loaders read by a token's number."""
    fields = _fields(lab)
    tokens = fields.get(_TOKENS)
    judged = 0
    for key in ("tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
        field = fields.get(key)
        if tokens is None or field is None or field.type != "array":
            continue
        judged += 1
        if len(field.value) != len(tokens.value):
            return refuted(
                f"{key} has {len(field.value)} entries; expected {len(tokens.value)}", culprit=key
            )
    return held(f"{judged} lists of one length") if judged else without_meaning("no lists")


@GGUF_KEYS.gate("F-GGUF-IDS-001", "Every special id of the keys is a token.")
def ids_are_tokens(lab: TargetLab) -> Finding:
    """Start, end, padding and others."""
    fields = _fields(lab)
    tokens, judged = fields.get(_TOKENS), 0
    for key, field in fields.items():
        if tokens is None or not re.fullmatch(r"tokenizer\.ggml\.\w+_token_id", key):
            continue
        judged += 1
        if type(field.value) is not int or not 0 <= field.value < len(tokens.value):
            return refuted(
                f"{key} is {field.value!r:.40}; expected an id below {len(tokens.value)}",
                culprit=key,
            )
    return held(f"{judged} ids of tokens") if judged else without_meaning("no special ids")


FAMILIES = (GGUF_KEYS,)
