"""The sections of a playbook that set gates, as the project's first example writes them."""

from __future__ import annotations

import json

import pytest

EXAMPLE = """\
version: "1.0"
model:
  id: "embedded/aprqa-tiny"

test_matrix:
  modalities: [run, chat]
  backends: [cpu, gpu]
  formats: [safetensors, apr, gguf]  # safetensors is ground truth

scenarios:
  - name: "arithmetic_basic"
    prompt: "What is 2 + 2?"
    oracle: arithmetic
    expected: 4

  - name: "code_generation"
    prompt: "Write a Python function to reverse a string"
    oracle: code_syntax
    language: python

# Differential Testing (v1.3.0)
differential_tests:
  tensor_diff:
    enabled: true
    filter: "embed,lm_head"
    gates: ["F-ROSETTA-DIFF-001"]
  inference_compare:
    enabled: true
    prompt: "What is 2+2?"
    tolerance: 1e-5

# Profile CI Assertions (v1.3.0)
profile_ci:
  enabled: true
  assertions:
    min_throughput: 10.0  # tok/s
    max_p99_ms: 500       # ms

# Trace Payload (v1.3.0)
trace_payload:
  enabled: true
  gates: ["F-TRACE-PAYLOAD-001", "F-TRACE-PAYLOAD-002"]
"""
INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:syrupy\n"
ASKED = {
    "F-ROSETTA-DIFF-001": {"apr-cpu", "gguf-cpu"},
    "F-ROSETTA-INF-001": {"apr-cpu", "gguf-cpu"},
    "F-ROSETTA-INF-002": {"apr-cpu", "gguf-cpu"},
    "F-PROFILE-CI-001": {"safetensors-cpu", "apr-cpu", "gguf-cpu"},
    "F-PROFILE-CI-002": {"safetensors-cpu", "apr-cpu", "gguf-cpu"},
    "F-TRACE-PAYLOAD-001": {"safetensors-cpu", "apr-cpu"},
    "F-TRACE-PAYLOAD-002": {"safetensors-cpu", "apr-cpu", "gguf-cpu"},
}
"""The gates that the sections set, and the targets they have a meaning for."""


def test_the_example_runs_as_it_is_written(pytester: pytest.Pytester) -> None:
    pytester.makefile(".ini", pytest=INI)
    path = pytester.path / "example.playbook.yaml"
    path.write_text(EXAMPLE, encoding="utf-8")

    result = pytester.runpytest_subprocess(
        "-n0", "--tier=mvp", "-k", " or ".join(ASKED), timeout=300
    )

    assert result.ret == 0, result.stdout.str()
    (run,) = (pytester.path / ".aprqa").iterdir()
    record = json.loads((run / "example" / "evidence.json").read_text(encoding="utf-8"))
    shown: dict[str, set[str]] = {}
    for item in record["evidence"]:
        if item["outcome"] == "Corroborated" and item["gate"] in ASKED:
            shown.setdefault(item["gate"], set()).add(item["target"])
    assert shown == ASKED
