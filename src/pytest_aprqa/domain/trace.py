"""What was seen inside one forward pass of a model, as data that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class TraceLevel(StrEnum):
    """How much of a pass is recorded."""

    NONE = "none"
    """The logits alone."""
    BASIC = "basic"
    """And each module: its name, kind, shape and time."""
    LAYER = "layer"
    """And statistics of the embedding, every layer, the last norm and the head."""
    PAYLOAD = "payload"
    """And of every other module, its first values, attention, norms, and the hidden states."""


class Role(StrEnum):
    """What a module is in a decoder."""

    EMBEDDING = "embedding"
    LAYER = "layer"
    ATTENTION = "attention"
    MLP = "mlp"
    NORM = "norm"
    FINAL_NORM = "final_norm"
    HEAD = "head"
    OTHER = "other"


SPINE = (Role.EMBEDDING, Role.LAYER, Role.FINAL_NORM, Role.HEAD)
"""The roles that the level `layer` has statistics of."""


@dataclass(frozen=True, slots=True)
class ValueStats:
    """Statistics of a tensor; all but the counts are over its finite values."""

    size: int
    nan: int
    inf: int
    mean: float
    std: float
    minimum: float
    maximum: float
    max_abs: float
    l2: float
    zeros: float
    """Share of values that are exactly zero."""
    first: tuple[float | None, ...] = ()
    """The first values of the last token; None stands for one that is not finite."""

    @property
    def not_finite(self) -> int:
        """How many values are NaN or infinite."""
        return self.nan + self.inf


@dataclass(frozen=True, slots=True)
class ModuleTrace:
    """One module's part of the pass, in the order in which modules ended."""

    name: str
    kind: str
    """The name of its class."""
    role: Role
    layer: int | None
    shape: tuple[int, ...]
    """Of its output."""
    seconds: float
    """From the begin of its forward to its end, what is inside it included."""
    values: ValueStats | None = None
    """Of its output; None where the level records none."""


@dataclass(frozen=True, slots=True)
class ResidualTrace:
    """What one layer does to the stream of hidden states; medians are over the tokens."""

    layer: int
    name: str
    change: float
    """Median of |out - in| / |in|."""
    cosine: float
    """Median cosine between out and in."""
    rms_in: float
    """Median root mean square of the layer's input."""
    rms_out: float
    """Median root mean square of its output."""
    attention: float | None
    """Median of |what attention gives| / |in|; None where the layer has no attention of its own."""
    mlp: float | None
    """The same for the MLP."""
    dead_neurons: float | None
    """Share of the MLP's neurons that are zero at every token; None where it has experts."""
    head_rms: tuple[float, ...] = ()
    """Root mean square of what each attention head gives, before the output projection."""


@dataclass(frozen=True, slots=True)
class AttentionTrace:
    """One layer's attention weights [heads, tokens, tokens]."""

    layer: int
    name: str
    entropy: tuple[float, ...]
    """For each head: entropy over what a token may see, over its largest (the logarithm of the
    tokens up to it), in the mean over all tokens but the first."""
    row_low: float
    """Smallest sum of a token's weights."""
    row_high: float
    """Largest."""
    lowest: float
    """Smallest weight."""
    highest: float
    """Largest weight."""
    ahead: float
    """Largest weight that a token gives to a later one."""
    sinks: bool
    """Whether part of the softmax goes to no token (learned sinks): sums are then below 1."""
    dtype: str
    """The type the weights are in."""


@dataclass(frozen=True, slots=True)
class NormTrace:
    """One norm, held against the plain formula without epsilon."""

    name: str
    scale: float
    """Length of what it gave over what the formula gives, of the median token; 1 where epsilon
    takes nothing. For single tokens (a start token, say) with tiny embeddings it does."""
    scale_high: float
    """The largest over the tokens."""
    cosine: float
    """Smallest cosine between the two."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One pass over `token_ids`."""

    level: TraceLevel
    token_ids: tuple[int, ...]
    layers: int
    """How many decoder layers the configuration names."""
    dtype: str
    """What the model computes in."""
    activation: str
    """The MLP's activation by its configured name; empty where none is told."""
    seconds: float
    """The whole pass."""
    modules: tuple[ModuleTrace, ...] = ()
    residuals: tuple[ResidualTrace, ...] = ()
    attention: tuple[AttentionTrace, ...] = ()
    norms: tuple[NormTrace, ...] = ()
    remarks: tuple[str, ...] = ()
    """What the level asks for and could not be recorded, and why."""

    def of_role(self, role: Role) -> tuple[ModuleTrace, ...]:
        """The modules of one role, in their order."""
        return tuple(module for module in self.modules if module.role is role)

    def as_json(self) -> dict[str, Any]:
        """The trace as an object of JSON."""
        return asdict(self)


def trace_of(told: Mapping[str, Any]) -> Trace:
    """A trace from what `as_json` gave, also after a way through JSON."""
    modules = tuple(
        ModuleTrace(
            **{
                **entry,
                "role": Role(entry["role"]),
                "shape": tuple(entry["shape"]),
                "values": None if entry["values"] is None else _made(ValueStats, entry["values"]),
            }
        )
        for entry in told["modules"]
    )
    return Trace(
        **{
            **told,
            "level": TraceLevel(told["level"]),
            "token_ids": tuple(told["token_ids"]),
            "modules": modules,
            "residuals": tuple(_made(ResidualTrace, entry) for entry in told["residuals"]),
            "attention": tuple(_made(AttentionTrace, entry) for entry in told["attention"]),
            "norms": tuple(_made(NormTrace, entry) for entry in told["norms"]),
            "remarks": tuple(told["remarks"]),
        }
    )


def _made(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    return kind(**{key: value for key, value in values.items() if key in known})
