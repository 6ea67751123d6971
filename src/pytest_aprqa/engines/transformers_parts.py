"""Which module of a transformers model is what: embedding, layers, attention, norms, head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_aprqa.domain.trace import Role
from pytest_aprqa.engines.engine import InvalidRequest

_HEAD_OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj", "wo")
"""What families call the projection after the attention heads."""
_NEURON_OUTPUTS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "w2")
"""What families call the projection after the MLP's activation."""


@dataclass(frozen=True, slots=True)
class Part:
    """One module, what it is, and the layer that it is in."""

    name: str
    module: Any
    role: Role
    layer: int | None


@dataclass(frozen=True, slots=True)
class Parts:
    """The modules that a trace listens to, each layer's after those before it."""

    modules: tuple[Part, ...]
    layer_names: dict[int, str]
    head_outputs: dict[int, Any]
    """By layer, the projection whose input is what the attention heads give."""
    neuron_outputs: dict[int, Any]
    """By layer, the projection whose input is what the MLP's neurons give."""
    heads: int
    """Attention heads of a layer."""


def parts_of(model: Any) -> Parts:
    """The parts of a causal language model.

    Raises:
        InvalidRequest: it has no list of as many layers as its configuration names.
    """
    config = model.config.get_text_config()
    names = {module: name for name, module in model.named_modules()}
    found = _layers(model, int(config.num_hidden_layers))
    if found is None:
        raise InvalidRequest(
            f"{type(model).__name__} has no list of {config.num_hidden_layers} layers to trace"
        )
    holder, layers = found
    layer_names = {i: names[layer] for i, layer in enumerate(layers)}
    parts = [Part(names[e], e, Role.EMBEDDING, None) for e in [model.get_input_embeddings()]]
    head_outputs: dict[int, Any] = {}
    neuron_outputs: dict[int, Any] = {}
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    for i, layer in enumerate(layers):
        parts.append(Part(layer_names[i], layer, Role.LAYER, i))
        for name, module in layer.named_modules():
            if not name or _is_container(module):
                continue
            role = _role(name, module)
            parts.append(Part(f"{layer_names[i]}.{name}", module, role, i))
            if role is Role.ATTENTION and (out := _child(module, _HEAD_OUTPUTS)) is not None:
                head_outputs[i] = out
            if role is Role.MLP and (out := _child(module, _NEURON_OUTPUTS)) is not None:
                neuron_outputs[i] = out
    last = [child for child in holder.children() if _is_norm(child)]
    parts += [Part(names[norm], norm, Role.FINAL_NORM, None) for norm in last[-1:]]
    if (head := model.get_output_embeddings()) is not None:
        parts.append(Part(names[head], head, Role.HEAD, None))
    return Parts(tuple(parts), layer_names, head_outputs, neuron_outputs, heads)


def _layers(model: Any, count: int) -> tuple[Any, Any] | None:
    """The module that holds the decoder's layers, and the layers."""
    # The decoder first: a tower for images beside it may have as many layers.
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    for module in (*decoder.modules(), *model.modules()):
        for child in module.children():
            if _is_container(child) and len(child) == count and not _is_norm(child[0]):
                return module, child
    return None


def _role(name: str, module: Any) -> Role:
    kind = type(module).__name__.lower()
    if _is_norm(module):
        return Role.NORM
    if "." in name:
        return Role.OTHER
    if "attention" in kind or "attn" in name:
        return Role.ATTENTION
    if any(word in kind for word in ("mlp", "moe", "feedforward")) or name in ("mlp", "ffn"):
        return Role.MLP
    return Role.OTHER


def _is_norm(module: Any) -> bool:
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())


def _is_container(module: Any) -> bool:
    return type(module).__name__ == "ModuleList"


def _child(module: Any, names: tuple[str, ...]) -> Any:
    return next((c for name, c in module.named_children() if name in names), None)
