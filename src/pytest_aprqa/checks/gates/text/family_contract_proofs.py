"""Proofs of the gates about config.json: one value is such as no model has."""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.checks.gates.text.own_tokenizer_proofs import changed_model, healthy_model


def _config(bench: ProofBench, **values: Any) -> Lab:
    return changed_model(bench, lambda content: content.update(values), "config.json")


def _proof(gate: str, defect: str, **values: Any) -> Proof:
    planted = partial(_config, **values)
    return Proof(
        gate=gate, defect=defect, planted=planted, healthy=shared("text-model", healthy_model)
    )


PROOFS = (
    _proof("F-CONTRACT-FAMILY-001", "8 heads over 3 of keys", num_key_value_heads=3),
    _proof("F-CONTRACT-FAMILY-002", "a width of 250 in 8 heads", hidden_size=250),
    _proof("F-CONTRACT-FAMILY-003", "a base of rotary positions below zero", rope_theta=-10000.0),
    _proof("F-CONTRACT-FAMILY-004", "an activation that nobody knows", hidden_act="siluu"),
    _proof("F-CONTRACT-FAMILY-005", "norms that add 1 to a variance", rms_norm_eps=1.0),
    Proof(
        gate="F-CONTRACT-FAMILY-006",
        defect="four experts a token of two",
        planted=partial(_config, num_local_experts=2, num_experts_per_tok=4),
        healthy=shared(
            "text-experts", partial(_config, num_local_experts=8, num_experts_per_tok=2)
        ),
    ),
)
