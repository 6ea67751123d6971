"""Gates: the values of config.json are such as the model's kind can have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "hidden_activations")
_EPS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_ACTIVE = ("num_experts_per_tok", "num_experts_per_token")
# transformers.activations.ACT2FN, as of transformers 5.
_KNOWN = frozenset(
    {
        *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python"),
        *("gelu_pytorch_tanh", "gelu_python_tanh", "quick_gelu", "laplace", "leaky_relu"),
        *("linear", "mish", "prelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish"),
        *("tanh", "xielu"),
    }
)
# Published models have 1e-12 (BERT) to 1e-5; half a float cannot hold less than 6e-8, float32 can.
_EPS_LEAST, _EPS_MOST = 1e-13, 1e-3

family: Family[ModelLab] = Family(
    domain="family contract",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    section="contract_tests",
    source="transformers' configuration classes",
)


def _configs(lab: ModelLab) -> Iterator[Mapping[str, Any]]:
    """config.json, and the text model's part of it where there are several."""
    inner = lab.config.get("text_config")
    if isinstance(inner, Mapping):
        yield inner
    yield lab.config


def _value(lab: ModelLab, keys: tuple[str, ...]) -> tuple[str, Any]:
    """The first of the keys that has a value, and the value; None where none has."""
    found = ((k, c[k]) for c in _configs(lab) for k in keys if c.get(k) is not None)
    return next(found, (keys[0], None))


def _bad(reason: str) -> Finding:
    return refuted(f"config.json: {reason}", culprit="config.json")


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


@family.gate(
    "F-CONTRACT-FAMILY-001",
    "The attention heads can be shared out evenly among the key and value heads",
    severity=Severity.P0,
    applies="config.json counts key and value heads",
)
def _kv_heads(lab: ModelLab) -> Finding:
    (name, heads), (other, kv) = _value(lab, _HEADS), _value(lab, _KV_HEADS)
    if heads is None or kv is None:
        return without_meaning("config.json does not count key and value heads")
    if not (_count(heads) and _count(kv)) or heads % kv:
        return _bad(f"{name} {heads!r} is no multiple of {other} {kv!r}")
    return held(f"{heads} heads over {kv} key and value heads")


@family.gate(
    "F-CONTRACT-FAMILY-002",
    "The width can be shared out evenly among the heads, where no width of a head is stated",
    severity=Severity.P0,
    applies="config.json states no head_dim",
)
def _width(lab: ModelLab) -> Finding:
    own = ("head_dim", "qk_nope_head_dim", "qk_head_dim", "kv_channels")
    if _value(lab, own)[1] is not None:
        return without_meaning("config.json states the width of a head")
    (name, heads), (other, width) = _value(lab, _HEADS), _value(lab, _WIDTH)
    if heads is None or width is None:
        return without_meaning("config.json does not count heads and width")
    if not (_count(heads) and _count(width)) or width % heads:
        return _bad(f"{other} {width!r} is no multiple of {name} {heads!r}")
    return held(f"{width} in {heads} heads of {width // heads}")


def _thetas(value: Any) -> Iterator[tuple[str, Any]]:
    """Every base of rotary positions in an object, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("rope_theta", "rotary_emb_base", "rope_local_base_freq"):
                if inner is not None:
                    yield key, inner
            else:
                yield from _thetas(inner)


@family.gate(
    "F-CONTRACT-FAMILY-003",
    "Every base of rotary positions is a finite number above 1",
    severity=Severity.P0,
    applies="config.json has a base of rotary positions",
)
def _theta(lab: ModelLab) -> Finding:
    found = list(_thetas(lab.config))
    for key, value in found:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 1:
            return _bad(f"{key} is {value!r:.40}, expected a finite number above 1")
    if not found:
        return without_meaning("config.json has no base of rotary positions")
    return held(", ".join(f"{key} {value:g}" for key, value in found))


@family.gate(
    "F-CONTRACT-FAMILY-004",
    "The activation is one that libraries know",
    severity=Severity.P0,
    applies="config.json names an activation",
)
def _activation(lab: ModelLab) -> Finding:
    name, value = _value(lab, _ACTIVATION)
    if value is None:
        return without_meaning("config.json names no activation")
    if value not in _KNOWN:
        return _bad(f"{name} is {value!r:.40}, expected one such as silu or gelu")
    return held(f"{name} is {value}")


@family.gate(
    "F-CONTRACT-FAMILY-005",
    "What norms add to a variance is a small positive number",
    severity=Severity.P0,
    applies="config.json says what norms add",
)
def _eps(lab: ModelLab) -> Finding:
    name, value = _value(lab, _EPS)
    if value is None:
        return without_meaning("config.json does not say what norms add")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not _EPS_LEAST <= value <= _EPS_MOST:
        return _bad(f"{name} is {value!r:.40}, expected {_EPS_LEAST:g} to {_EPS_MOST:g}")
    return held(f"{name} is {value:g}")


@family.gate(
    "F-CONTRACT-FAMILY-006",
    "No more experts are asked for a token than there are",
    severity=Severity.P0,
    applies="the model is a mixture of experts",
)
def _experts(lab: ModelLab) -> Finding:
    (name, active), (other, there) = _value(lab, _ACTIVE), _value(lab, _EXPERTS)
    if active is None or not there:
        return without_meaning("the model is no mixture of experts")
    if not (_count(active) and _count(there)) or active > there:
        return _bad(f"{name} is {active!r}, but {other} is {there!r}")
    return held(f"{active} of {there} experts")


FAMILIES = (family,)
