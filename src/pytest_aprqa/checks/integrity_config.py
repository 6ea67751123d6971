"""G0, configuration: the numbers of config.json against the tensors, and who is to blame."""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import Expectations, IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.formats.checkpoint import TensorInfo

# One meaning, the names it has in configurations (Llama's first, then GPT-2, MPT, OPT, Falcon).
_KEYS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "vocab_size": ("vocab_size",),
    "head_dim": ("head_dim",),
}
_EXPECTED = {
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "vocab_size": "vocab_size",
    "intermediate_dim": "intermediate_size",
}
# Where multimodal configurations keep the language model's numbers.
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")
_EMBEDDING = re.compile(
    r"^(?P<tower>.*?)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$"
)
_OTHER_TOWERS = re.compile(r"vision|visual|audio|image|encoder")
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


@dataclass(frozen=True, slots=True)
class Blame:
    """A number of config.json that the tensors contradict, and what they say instead."""

    meaning: str
    finding: IntegrityFinding
    observed: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The language model's sizes as config.json gives them, under one set of names."""

    section: str
    values: Mapping[str, int]
    names: Mapping[str, str]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Numbers:
        """Read the top level, or the section that a multimodal model keeps for text."""
        section = next((key for key in _TEXT_SECTIONS if isinstance(config.get(key), dict)), "")
        source = config[section] if section else config
        found = {
            meaning: next((key for key in keys if type(source.get(key)) is int), None)
            for meaning, keys in _KEYS.items()
        }
        names = {meaning: key for meaning, key in found.items() if key is not None}
        return cls(section, {meaning: source[key] for meaning, key in names.items()}, names)

    def said(self, meaning: str) -> str:
        """`config.json says KEY VALUE`, in the file's own words."""
        prefix = f"{self.section}." if self.section else ""
        return f"config.json says {prefix}{self.names[meaning]} {self.values[meaning]}"


def expectation_findings(
    config: Mapping[str, Any], expectations: Expectations
) -> tuple[list[IntegrityFinding], list[str]]:
    """Where config.json differs from the sizes a playbook states; what it leaves unsaid."""
    numbers = Numbers.from_config(config)
    findings, notes = [], []
    for expected_name, meaning in _EXPECTED.items():
        expected = getattr(expectations, expected_name)
        if expected is None:
            continue
        if meaning not in numbers.values:
            notes.append(f"expected {expected_name} {expected}: config.json has no {meaning}")
        elif numbers.values[meaning] != expected:
            message = f"{numbers.said(meaning)}, but the playbook expects {expected}"
            findings.append(IntegrityFinding("expectation", meaning, message))
    return findings, notes


def blame_numbers(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> Iterator[Blame]:
    """The numbers of config.json that no tensor agrees with; for tensors known to disagree."""
    numbers = Numbers.from_config(config)
    embedding, tower = _embedding(tensors)
    if embedding is None:
        return
    matrices = _roles(tensors, tower)
    hidden = numbers.values.get("hidden_size")
    for blame in _blame_embedding(numbers, embedding, matrices):
        hidden = blame.observed if blame.meaning == "hidden_size" else hidden
        yield blame
    yield from _blame_layers(numbers, tensors, tower)
    yield from _blame_rows(numbers, "intermediate_size", matrices, ("gate_proj", "up_proj"))
    head_dim, origin = _head_dim(numbers, hidden)
    if head_dim:
        for meaning, roles in (
            ("num_key_value_heads", ("k_proj", "v_proj")),
            ("num_attention_heads", ("q_proj",)),
        ):
            yield from _blame_rows(
                numbers, meaning, matrices, roles, each=head_dim, unit=f"head_dim {origin}"
            )


def corrected(config: Mapping[str, Any], blames: list[Blame]) -> dict[str, Any]:
    """The configuration with every blamed number as the tensors have it."""
    changed = copy.deepcopy(dict(config))
    numbers = Numbers.from_config(config)
    section = changed[numbers.section] if numbers.section else changed
    for blame in blames:
        section[numbers.names[blame.meaning]] = blame.observed
        if blame.meaning == "num_hidden_layers":
            section.pop("layer_types", None)  # one entry for each layer; derived anew
    return changed


def dtype_findings(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> tuple[list[IntegrityFinding], list[str]]:
    """Whether most float values are stored in the dtype that config.json declares."""
    numbers = Numbers.from_config(config)
    places = [config, config[numbers.section]] if numbers.section else [config]
    declared = next(
        (p[key] for p in places for key in ("dtype", "torch_dtype") if isinstance(p.get(key), str)),
        None,
    )
    sizes: Counter[str] = Counter()
    for info in tensors.values():
        if info.dtype in _DTYPES.values():
            sizes[info.dtype] += info.nbytes
    if declared is None or not sizes:
        return [], ["the tensors' dtype: config.json declares none"]
    expected = _DTYPES.get(declared.removeprefix("torch."))
    stored = sizes.most_common(1)[0][0]
    if stored == expected:
        return [], []
    message = f"config.json says dtype {declared}, but most weights are stored as {stored}"
    return [IntegrityFinding("dtype", "dtype", message)], []


def embedding_rows(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> int | None:
    """How many tokens the model has a row for: by its tensors, else by config.json."""
    embedding, _ = _embedding(tensors)
    if embedding is not None:
        return embedding.shape[0]
    return Numbers.from_config(config).values.get("vocab_size")


def _embedding(tensors: Mapping[str, TensorInfo]) -> tuple[TensorInfo | None, str]:
    """The language model's token embedding and the prefix of its tower; None if not plain."""
    found = [
        (info, match["tower"])
        for name, info in tensors.items()
        if (match := _EMBEDDING.match(name))
        and len(info.shape) == 2
        and not _OTHER_TOWERS.search(name)
    ]
    return found[0] if len(found) == 1 else (None, "")


def _roles(tensors: Mapping[str, TensorInfo], tower: str) -> dict[str, list[TensorInfo]]:
    """The tower's layer tensors by the last word of their module (`q_proj`, `input_layernorm`)."""
    pattern = re.compile(re.escape(tower) + r"(layers|h)\.\d+\.(self_attn\.|mlp\.|)(\w+)\.weight$")
    roles: dict[str, list[TensorInfo]] = {}
    for name, info in tensors.items():
        if match := pattern.match(name):
            roles.setdefault(match[3], []).append(info)
    return roles


def _blame_embedding(
    numbers: Numbers, embedding: TensorInfo, roles: Mapping[str, list[TensorInfo]]
) -> Iterator[Blame]:
    rows, columns = embedding.shape
    hidden, vocab = numbers.values.get("hidden_size"), numbers.values.get("vocab_size")
    norms = [info for role in ("input_layernorm", "ln_1") for info in roles.get(role, [])]
    if hidden not in (None, columns) and all(norm.shape != (hidden,) for norm in norms):
        text = f"{numbers.said('hidden_size')}, but {embedding.name} has {columns} columns"
        yield Blame("hidden_size", IntegrityFinding("config", "hidden_size", text), columns)
    if vocab not in (None, rows) and columns != vocab:
        text = f"{numbers.said('vocab_size')}, but {embedding.name} has {rows} rows"
        yield Blame("vocab_size", IntegrityFinding("config", "vocab_size", text), rows)


def _blame_layers(
    numbers: Numbers, tensors: Mapping[str, TensorInfo], tower: str
) -> Iterator[Blame]:
    pattern = re.compile(re.escape(tower) + r"(layers|h)\.(\d+)\.")
    matches = [match for name in tensors if (match := pattern.match(name))]
    layers = numbers.values.get("num_hidden_layers")
    if not matches or layers is None:
        return
    indices = {int(match[2]) for match in matches}
    # Layers that are all there but in number; a gap is a matter of missing tensors.
    if indices == set(range(len(indices))) and len(indices) != layers:
        stem = f"{tower}{matches[0][1]}."
        span = f"{stem}0" if len(indices) == 1 else f"{stem}0–{len(indices) - 1}"
        text = f"{numbers.said('num_hidden_layers')}, but the weights hold {len(indices)} ({span})"
        finding = IntegrityFinding("config", "num_hidden_layers", text)
        yield Blame("num_hidden_layers", finding, len(indices))


def _blame_rows(
    numbers: Numbers,
    meaning: str,
    roles: Mapping[str, list[TensorInfo]],
    names: tuple[str, ...],
    *,
    each: int = 1,
    unit: str = "",
) -> Iterator[Blame]:
    """A number that times `each` should be the rows of some matrices, and is in none of them."""
    claimed = numbers.values.get(meaning)
    found = [info for name in names for info in roles.get(name, []) if len(info.shape) == 2]
    if claimed is None or not found or any(info.shape[0] == claimed * each for info in found):
        return
    rows, count = Counter(info.shape[0] for info in found).most_common(1)[0]
    if count < len(found) or rows % each:
        return
    per, instead = (f" of {unit}", f" ({rows // each} such heads)") if unit else ("", "")
    text = f"{numbers.said(meaning)}{per}, but {found[0].name} has {rows} rows{instead}"
    yield Blame(meaning, IntegrityFinding("config", meaning, text), rows // each)


def _head_dim(numbers: Numbers, hidden: int | None) -> tuple[int | None, str]:
    """The size of one attention head and how it is known; None if it is not."""
    explicit = numbers.values.get("head_dim")
    if explicit:
        return explicit, str(explicit)
    heads = numbers.values.get("num_attention_heads")
    if not hidden or not heads or hidden % heads:
        return None, ""
    size = hidden // heads
    return size, f"{size} (hidden_size {hidden} / num_attention_heads {heads})"
