"""What an APR v2 file must obey beyond its layout to load in both aprender and realizar.

The two readers' sources (https://github.com/paiml/aprender, https://github.com/paiml/realizar)
disagree in places; a file that obeys every rule here is read alike by both.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.apr_fields import field_problems
from pytest_aprqa.formats.apr_header import CODES, MAX_RANK, NAME_MAX_BYTES
from pytest_aprqa.formats.apr_tokenizer import tokenizer_problems
from pytest_aprqa.formats.encodings import fits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_aprqa.formats.tensor import Tensor

PORTABLE = ("F32", "F16", "BF16", "Q4_K", "Q6_K", "APR_Q4", "APR_Q8")
"""Encodings that aprender and realizar read alike."""
EMBEDDINGS = ("embed_tokens", "tok_embeddings", "token_embd")
"""Parts of names by which realizar finds the embedding: the first in the index that has one."""
HEADS = ("lm_head.weight", "output.weight")
POSITIONS = ("model.position_embedding.weight", "position_embd.weight")
"""Learned positions (GPT-2): a model that has them rotates nothing."""
# Beyond these realizar refuses the file (its validated configuration); a head cannot be wider than
# the widest hidden state.
_RANGES = MappingProxyType(
    {
        "hidden_size": (1, 65536),
        "num_layers": (1, 256),
        "num_heads": (1, 256),
        "num_kv_heads": (1, 256),
        "vocab_size": (1, 1_000_000),
        "intermediate_size": (1, 262_144),
        "max_position_embeddings": (1, 2_097_152),
        "head_dim": (1, 65536),
        "rope_theta": (1, 1e8),
        "rms_norm_eps": (1e-10, 0.01),
    }
)
_REQUIRED = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size")
# Adjacent pairs, and first half with second half.
_ROPE_TYPES = (0, 2)


def apr_problems(metadata: Mapping[str, Any], tensors: Sequence[Tensor]) -> list[str]:
    """One line for each rule that a file of this metadata and these tensors would break.

    Rules on names, encodings, spellings and types hold for every file; those on sizes, rope,
    embedding and head for files whose metadata name an `architecture`, which loaders then build.
    """
    problems = [*field_problems(metadata), *tokenizer_problems(metadata), *_tensors(tensors)]
    if metadata.get("architecture") is not None:
        problems += _architecture(metadata, {tensor.name: tensor for tensor in tensors})
    return problems


def _tensors(tensors: Sequence[Tensor]) -> list[str]:
    counts = Counter(tensor.name for tensor in tensors)
    problems = [
        f"tensor {name!r:.80} is there {count} times; expected each name once"
        for name, count in counts.items()
        if count > 1
    ]
    for tensor in tensors:
        problems += (f"tensor {tensor.name!r:.80} {wrong}" for wrong in _tensor(tensor))
    return problems


def _tensor(tensor: Tensor) -> list[str]:
    """What is wrong with one tensor."""
    name, encoding, shape = tensor.name, tensor.encoding, tensor.shape
    wrong = []
    if not name or not name.isprintable() or len(name.encode()) > NAME_MAX_BYTES:
        wrong.append(f"has no usable name; expected 1 to {NAME_MAX_BYTES} printable bytes")
    if len(shape) > MAX_RANK:
        wrong.append(f"has {len(shape)} dimensions; expected at most {MAX_RANK}")
    if encoding not in PORTABLE:
        why = "realizar reads its code otherwise" if encoding in CODES else "APR has no code for it"
        wrong.append(f"is {encoding}: {why}; expected one of {', '.join(PORTABLE)}")
    elif encoding != "F32" and _read_raw(name, shape):
        wrong.append(f"is {encoding}; loaders read norms, biases and vectors as F32 whatever it is")
    elif not fits(encoding, shape):
        wrong.append(f"is {encoding} with rows of {shape[-1]}; expected a multiple of 256")
    return wrong


def _read_raw(name: str, shape: tuple[int, ...]) -> bool:
    """Whether loaders take the bytes for float32 without a look at the dtype code."""
    norm = name.endswith("norm.weight") or "layernorm" in name or "layer_norm" in name
    return len(shape) < 2 or norm or name.endswith(".bias")


def _architecture(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with a model that loaders are to build."""
    name = metadata["architecture"]
    problems = []
    if not isinstance(name, str) or not name or name != name.lower():
        problems.append(f"architecture is {name!r:.40}; expected a lower-case name such as 'llama'")
    required = [*_REQUIRED, "rms_norm_eps"]
    if not any(positions in tensors for positions in POSITIONS):
        required += ["rope_type", "rope_theta"]
    problems += (
        f"{key} is missing; loaders would guess it from the architecture; expected it written"
        for key in required
        if metadata.get(key) is None
    )
    problems += _ranges(metadata)
    problems += _heads(metadata)
    return problems + _embedding_and_head(metadata, tensors)


def _number(metadata: Mapping[str, Any], key: str) -> int | float | None:
    """A field's number; None when it is missing or none, which other rules tell."""
    value = metadata.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ranges(metadata: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, (least, most) in _RANGES.items():
        value = _number(metadata, key)
        if value is not None and not least <= value <= most:
            problems.append(f"{key} is {value}; expected {least:g} to {most:g}")
    rope = _number(metadata, "rope_type")
    if rope is not None and rope not in _ROPE_TYPES:
        problems.append(f"rope_type is {rope}; expected 0 (adjacent pairs) or 2 (halves)")
    return problems


def _heads(metadata: Mapping[str, Any]) -> list[str]:
    hidden, heads = _number(metadata, "hidden_size"), _number(metadata, "num_heads")
    problems = []
    if hidden and heads and hidden % heads and metadata.get("head_dim") is None:
        problems.append(f"hidden_size {hidden} is no multiple of num_heads {heads}; write head_dim")
    groups = _number(metadata, "num_kv_heads")
    if heads and groups and heads % groups:
        problems.append(f"num_heads {heads} is no multiple of num_kv_heads {groups}")
    return problems


def _embedding_and_head(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """Both must exist (nothing is tied in APR) and be [vocab_size, hidden_size]."""
    expected = (metadata.get("vocab_size"), metadata.get("hidden_size"))
    ordered = sorted(tensors, key=str.encode)
    embedding = next((n for n in ordered if any(part in n for part in EMBEDDINGS)), None)
    head = next((n for n in HEADS if n in tensors), None)
    problems = []
    if embedding is None:
        problems.append("there is no embedding; expected model.embed_tokens.weight")
    if head is None:
        problems.append(
            "there is no lm_head.weight; loaders tie nothing: write the embedding once more"
        )
    problems += (
        f"tensor {name} is {list(tensors[name].shape)}; "
        f"expected [vocab_size, hidden_size] = {list(expected)}"
        for name in (embedding, head)
        if name is not None and tensors[name].shape != expected
    )
    return problems
