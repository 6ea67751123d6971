"""Operators over weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.mutation.operator import Damage, Operator, Site, graded
from pytest_aprqa.mutation.weight_damage import (
    ALL,
    BIAS,
    DOWN,
    EMBEDDING,
    GATE,
    NORM,
    OUT,
    UP,
    K,
    Q,
    V,
    clipped,
    coarse,
    columns_,
    copy_over,
    drop,
    exchange,
    expert,
    flip_bits,
    noise,
    on,
    one_head,
    permuted,
    permuted_columns,
    rows_,
    shift,
    swap_heads,
    transpose,
    weave,
    zero_bias,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _operator(
    name: str, told: str, sizes: dict[Any, Any], apply: Callable[[Site], Damage]
) -> Operator:
    return Operator(name, told, ALL, sizes, apply)


OPERATORS = (
    _operator(
        "scale-matrix",
        "an up projection scaled",
        graded(10.0, 1.3, 1.03),
        on(UP, "scaled by {}", lambda v, s: v * s.size),
    ),
    _operator(
        "scale-down",
        "a down projection scaled",
        graded(10.0, 1.5, 1.05),
        on(DOWN, "scaled by {}", lambda v, s: v * s.size),
    ),
    _operator(
        "scale-norm",
        "a norm scaled",
        graded(5.0, 1.5, 1.05),
        on(NORM, "scaled by {}", lambda v, s: v * s.size),
    ),
    _operator(
        "scale-embedding",
        "the embedding scaled",
        graded(10.0, 1.5, 1.05),
        on(EMBEDDING, "scaled by {}", lambda v, s: v * s.size),
    ),
    _operator(
        "scale-values",
        "a value projection scaled",
        graded(10.0, 1.5, 1.05),
        on(V, "scaled by {}", lambda v, s: v * s.size),
    ),
    _operator(
        "scale-head",
        "one query head scaled",
        graded(20.0, 3.0, 1.1),
        one_head(lambda v, s: v * s.size, "scaled by {}"),
    ),
    _operator("scale-expert", "one expert scaled", graded(10.0, 1.5, 1.05), expert),
    _operator(
        "zero-head",
        "one query head zeroed",
        graded(moderate=0.0),
        one_head(lambda v, s: v * 0, "zeroed"),
    ),
    _operator(
        "noise-matrix",
        "noise in an up projection",
        graded(2.0, 0.3, 0.03),
        on(UP, "noise of {} standard deviations", noise),
    ),
    _operator(
        "noise-embedding",
        "noise in the embedding",
        graded(2.0, 0.3, 0.03),
        on(EMBEDDING, "noise of {} standard deviations", noise),
    ),
    _operator(
        "noise-attention",
        "noise in an output projection",
        graded(2.0, 0.3, 0.03),
        on(OUT, "noise of {} standard deviations", noise),
    ),
    _operator(
        "flip-exponent",
        "exponent bits flipped in an up projection",
        graded((500, 1), (20, 4), (1, 6)),
        on(UP, "bits flipped {}", flip_bits),
    ),
    _operator(
        "flip-mantissa",
        "mantissa bits flipped in a down projection",
        graded(moderate=(20000, 9), subtle=(100, 12)),
        on(DOWN, "bits flipped {}", flip_bits),
    ),
    _operator(
        "flip-sign",
        "signs flipped in a key projection",
        graded((8000, 0), (500, 0), (10, 0)),
        on(K, "signs flipped {}", flip_bits),
    ),
    _operator(
        "zero-matrix", "an up projection zeroed", graded(0.0), on(UP, "zeroed", lambda v, s: v * 0)
    ),
    _operator("zero-norm", "a norm zeroed", graded(0.0), on(NORM, "zeroed", lambda v, s: v * 0)),
    _operator(
        "zero-rows",
        "rows of an output projection zeroed",
        graded(0.5, 0.1, 0.005),
        on(OUT, "the first {} of its rows zeroed", rows_),
    ),
    _operator(
        "zero-columns",
        "columns of a down projection zeroed",
        graded(0.5, 0.1, 0.005),
        on(DOWN, "the first {} of its columns zeroed", columns_),
    ),
    _operator(
        "zero-tokens",
        "rows of the embedding zeroed",
        graded(0.6, 0.1, 0.005),
        on(EMBEDDING, "the first {} of its rows zeroed", rows_),
    ),
    _operator(
        "negate-matrix",
        "a value projection negated",
        graded(-1.0),
        on(V, "negated", lambda v, s: -v),
    ),
    _operator(
        "swap-layers",
        "query projections of two layers exchanged",
        graded(1),
        exchange((Q, 0), (Q, -1)),
    ),
    _operator(
        "swap-norms",
        "norms of two layers exchanged",
        graded(moderate=1),
        exchange((NORM, 0), (NORM, -1)),
    ),
    _operator(
        "swap-gate-up",
        "gate and up projections exchanged",
        graded(1),
        exchange((GATE, None), (UP, None)),
    ),
    _operator(
        "swap-key-value",
        "key and value projections exchanged",
        graded(1),
        exchange((K, None), (V, None)),
    ),
    _operator(
        "copy-layer",
        "layer 0 written over the last one",
        graded("layer", "matrix", "norm"),
        copy_over,
    ),
    _operator("transpose-square", "a square query projection transposed", graded(1), transpose),
    _operator(
        "permute-rows",
        "rows of an up projection permuted",
        graded(0.9, 40, 2),
        on(UP, "{} rows permuted", permuted),
    ),
    _operator(
        "permute-columns",
        "columns of an up projection permuted",
        graded(0.9, 40, 2),
        on(UP, "{} columns permuted", permuted_columns),
    ),
    _operator(
        "permute-tokens",
        "rows of the embedding permuted",
        graded(0.9, 100, 2),
        on(EMBEDDING, "{} rows permuted", permuted),
    ),
    _operator("permute-heads", "query heads exchanged", graded("all", 4, 2), swap_heads),
    _operator(
        "weave-rope",
        "rows of queries and keys in the other rope style",
        graded("both", "keys"),
        weave,
    ),
    _operator(
        "shift-tokens",
        "rows of the embedding shifted",
        graded(1),
        on(EMBEDDING, "rows shifted by {}", shift),
    ),
    _operator(
        "shift-rows",
        "rows of a down projection shifted",
        graded(17, 1),
        on(DOWN, "rows shifted by {}", shift),
    ),
    _operator(
        "offset-norm",
        "a norm moved",
        graded(1.0, 0.2, 0.02),
        on(NORM, "moved by {}", lambda v, s: v + s.size),
    ),
    _operator(
        "offset-matrix",
        "an up projection moved",
        graded(1.0, 0.02, 0.002),
        on(UP, "moved by {}", lambda v, s: v + s.size),
    ),
    _operator("drop-bias", "a bias dropped", graded(1), drop(BIAS)),
    _operator("scale-bias", "a bias scaled", graded(20.0, 0.0, 1.1), zero_bias),
    _operator("drop-tensor", "a tensor dropped", graded(1), drop(DOWN)),
    _operator("drop-norm", "the last norm dropped", graded(1), drop("norm.weight")),
    _operator(
        "coarse-matrix",
        "an up projection rounded",
        graded(1, 3, 30),
        on(UP, "rounded to {} steps", coarse),
    ),
    _operator(
        "clip-matrix",
        "a down projection clipped",
        graded(0.3, 1.0, 2.5),
        on(DOWN, "clipped at {} standard deviations", clipped),
    ),
)
