"""Proofs of the gates about users' contracts: a contract that the embedded model does not keep."""

from __future__ import annotations

from functools import partial

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.domain.sections import ContractTests, Sections

_KEPT = """\
contract: kept
tensors:
  - names: model.layers.*.self_attn.q_proj.weight
    count: num_hidden_layers
    shape: [num_attention_heads * head_dim, hidden_size]
    dtypes: [BF16]
    mean: {least: -0.05, most: 0.05}
    std: {least: 0.001}
metadata:
  required: [model_type, rope_parameters.rope_theta]
  forbidden: [auto_map]
  equal: {tie_word_embeddings: true}
files:
  - name: tokenizer.json
  - name: pytorch_model.bin
    present: false
"""


def contract_lab(bench: ProofBench, text: str = _KEPT) -> Lab:
    """The embedded model under a contract."""
    path = bench.place("contract.yaml")
    path.write_text(text, encoding="utf-8")
    sections = Sections(contract_tests=ContractTests(contracts=(path.name,)))
    return bench.model_lab(sections=sections, home=path.parent)


def _proof(gate: str, defect: str, old: str, new: str) -> Proof:
    assert old in _KEPT
    planted = partial(contract_lab, text=_KEPT.replace(old, new))
    healthy = shared("text-contract", contract_lab)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy)


PROOFS = (
    _proof("F-CONTRACT-LOAD-001", "a key of the contract is misspelt", "forbidden:", "forbiden:"),
    _proof(
        "F-CONTRACT-USER-TENSORS-001",
        "a dimension is another than the contract claims",
        "num_attention_heads * head_dim",
        "num_key_value_heads * head_dim",
    ),
    _proof(
        "F-CONTRACT-USER-STATS-001",
        "a deviation is less than the contract claims",
        "least: 0.001",
        "least: 100",
    ),
    _proof(
        "F-CONTRACT-USER-METADATA-001",
        "a value of config.json is another than the contract claims",
        "tie_word_embeddings: true",
        "tie_word_embeddings: false",
    ),
    _proof(
        "F-CONTRACT-USER-FILES-001",
        "a file has another digest than the contract claims",
        "name: tokenizer.json",
        f"name: tokenizer.json\n    sha256: {'ab' * 32}",
    ),
)
