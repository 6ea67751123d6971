"""What transformers makes of a configuration, compared with the tensors that the files hold.

The library's own loader is run on the `meta` device: it renames and fuses as it does for real,
but no weight is read and no memory is taken.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.transformers_quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.formats.checkpoint import TensorInfo

# Buffers that old transformers versions saved; today's loaders compute them and ignore the file's.
_LEGACY_BUFFERS = re.compile(r"(attn|attention)\.(masked_)?bias$|inv_freq$|position_ids$")
# Far above every published model (126 layers, 512 experts); building more would only take time.
MAX_REPEATS = 2000
_REPEATS = re.compile(r"(layers?|experts|depth|blocks)$")
# Remote code is never run; and a dictionary of labels is as long as its number says.
_LEFT_OUT = ("auto_map", "num_labels")


class ArchitectureUnjudged(Exception):
    """The configuration leads to no model; `unknown` says that its architecture is not known."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Differences:
    """Where the model that a configuration describes and the stored tensors disagree."""

    model_class: str
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    trouble: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.missing, self.unexpected, self.mismatched, self.trouble)))


def compare_architecture(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> Differences:
    """The differences between the tensors and the causal model that `config` describes."""
    parsed = parse_config(config)
    model_class = _model_class(parsed)
    import torch

    stored = {
        name: torch.empty(info.shape, dtype=torch.float32, device="meta")
        for name, info in tensors.items()
    }
    with quiet():
        try:
            model, info = model_class.from_pretrained(
                None,
                config=parsed,
                state_dict=stored,
                device_map="meta",
                dtype=torch.float32,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except Exception as error:  # a library may raise anything for numbers that do not fit
            trouble = tuple(_odd_siblings(tensors)) or (one_line(f"{error!r}"),)
            return Differences(model_class.__name__, trouble=trouble)
    mismatched = ((name, tuple(have), tuple(want)) for name, have, want in info["mismatched_keys"])
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    return Differences(
        model_class.__name__,
        missing=_natural(info["missing_keys"]),
        unexpected=_natural(n for n in info["unexpected_keys"] if not _LEGACY_BUFFERS.search(n)),
        mismatched=tuple(sorted(mismatched, key=lambda item: _natural_key(item[0]))),
        trouble=tuple(map(one_line, info["error_msgs"])),
        tied=tuple(dict(ties).items()),
    )


def parse_config(config: Mapping[str, Any]) -> Any:
    """The transformers configuration object; never with remote code."""
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ArchitectureUnjudged(
            f"config.json says model_type {model_type!r:.60}, which transformers does not know; "
            f"expected an architecture that needs no remote code",
            unknown=True,
        )
    for key, value in _numbers(config):
        if _REPEATS.search(key) and value > MAX_REPEATS:
            raise ArchitectureUnjudged(
                f"config.json says {key} {value}; expected at most {MAX_REPEATS}"
            )
    plain = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    with quiet():
        try:
            return CONFIG_MAPPING[model_type].from_dict(plain)
        except Exception as error:  # each configuration class has its own way to refuse
            raise ArchitectureUnjudged(
                one_line(f"config.json is no valid {model_type} configuration: {error}")
            ) from error


def _model_class(parsed: Any) -> Any:
    import transformers

    for name in ("MODEL_FOR_CAUSAL_LM_MAPPING", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING"):
        mapping = getattr(transformers, name, {})
        if type(parsed) in mapping:
            found = mapping[type(parsed)]
            return found[0] if isinstance(found, list | tuple) else found
    raise ArchitectureUnjudged(
        f"config.json says model_type {parsed.model_type!r}, which transformers has no causal "
        f"language model for; expected one that generates text",
        unknown=True,
    )


def _numbers(node: Mapping[str, Any], *, depth: int = 0) -> Iterator[tuple[str, int]]:
    for key, value in node.items():
        if type(value) is int:
            yield key, value
        elif isinstance(value, dict) and depth < 4:
            yield from _numbers(value, depth=depth + 1)


def _odd_siblings(tensors: Mapping[str, TensorInfo]) -> Iterator[str]:
    """Tensors whose shape differs from those that have the same name but for its numbers.

    This is how a single bad expert is found after the loader failed to stack the experts.
    """
    families: dict[str, list[TensorInfo]] = defaultdict(list)
    for name, info in tensors.items():
        families[re.sub(r"\.\d+(?=\.)", ".N", name)].append(info)
    for family in families.values():
        usual, count = Counter(info.shape for info in family).most_common(1)[0]
        if count > len(family) // 2:
            for info in family:
                if info.shape != usual:
                    yield (
                        f"{info.name} has shape {list(info.shape)}, "
                        f"but {count} like it have {list(usual)}"
                    )


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _natural(names: Any) -> tuple[str, ...]:
    """Sorted with layer 2 before layer 10."""
    return tuple(sorted(names, key=_natural_key))
