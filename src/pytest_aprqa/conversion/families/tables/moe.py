"""Mixtures of experts: a router, and experts that GGUF stacks into one tensor."""

from __future__ import annotations

from pytest_aprqa.conversion.families.family_table import TensorRule
from pytest_aprqa.conversion.families.tables.common import BLOCK, LAYER

_MLP = LAYER + "mlp."


def experts(*, when: str = "") -> tuple[TensorRule, ...]:
    """The router's and the experts' rows."""

    def stacked(which: str, *shape: str) -> TensorRule:
        return TensorRule(
            f"{_MLP}experts.{{e}}.{which}_proj",
            f"{BLOCK}ffn_{which}_exps",
            shape,
            when=when,
            count="experts",
        )

    return (
        TensorRule(_MLP + "gate", BLOCK + "ffn_gate_inp", ("experts", "hidden"), when=when),
        stacked("gate", "expert_inter", "hidden"),
        stacked("up", "expert_inter", "hidden"),
        stacked("down", "hidden", "expert_inter"),
    )
