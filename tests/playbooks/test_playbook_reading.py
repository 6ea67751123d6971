from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity
from pytest_aprqa.domain.oracle_spec import (
    ArithmeticSpec,
    CodeSyntaxSpec,
    CompositeSpec,
    ContainsSpec,
    ExactSpec,
    GarbageSpec,
    OneOfSpec,
    OracleSpec,
    RegexSpec,
    ResponseSpec,
)
from pytest_aprqa.domain.playbook import (
    Category,
    FailurePolicy,
    Matrix,
    ModelRef,
    Playbook,
    Scenario,
    TestMatrix,
)
from pytest_aprqa.formats.playbook_yaml import read_playbook
from tests.playbooks.playbook_texts import read

SHORT = """\
# yaml-language-server: $schema=playbook.schema.json
version: "1.0"
model:
  id: "Qwen/Qwen2.5-Coder-1.5B"
  revision: "main"

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
"""

LONG = """\
name: q
version: "1.0"
model:
  hf_repo: "Qwen/Qwen2.5-Coder-1.5B"
  formats:
    - safetensors
    - apr
    - gguf
test_matrix:
  modalities:
    - run
    - chat
  backends:
    - cpu
    - gpu
gates:
  g1_model_loads: "true"
  g4_output_quality: true
failure_policy: stop_on_p0
scenarios:
  - name: arithmetic_basic
    prompt: "What is 2 + 2?"
    oracle:
      type: arithmetic
      config:
        expected: 4
  - name: code_generation
    prompt: "Write a Python function to reverse a string"
    oracle: {type: code_syntax, language: python}
"""


def test_both_forms_are_the_same_playbook() -> None:
    assert read(SHORT).playbook == read(LONG).playbook


def test_short_form() -> None:
    playbook = read(SHORT).playbook
    assert playbook == Playbook(
        name="q",
        version="1.0",
        model=ModelRef(
            id="Qwen/Qwen2.5-Coder-1.5B",
            formats=(Format.SAFETENSORS, Format.APR, Format.GGUF),
        ),
        test_matrix=Matrix(
            modalities=(Modality.RUN, Modality.CHAT), backends=(Backend.CPU, Backend.GPU)
        ),
        scenarios=(
            Scenario(
                name="arithmetic_basic",
                prompt="What is 2 + 2?",
                oracle=ArithmeticSpec(expected=4),
            ),
            Scenario(
                name="code_generation",
                prompt="Write a Python function to reverse a string",
                oracle=CodeSyntaxSpec(language="python"),
            ),
        ),
    )
    assert playbook.formats == (Format.SAFETENSORS, Format.APR, Format.GGUF)
    assert playbook.failure_policy is FailurePolicy.STOP_ON_P0


def test_the_same_text_gives_equal_documents() -> None:
    first, second = read(SHORT), read(SHORT)
    assert (first.playbook, first.lines) == (second.playbook, second.lines)
    assert first.sha256 == hashlib.sha256(SHORT.encode()).hexdigest()
    assert first.path.name == "q.playbook.yaml"


def test_every_key_has_its_line() -> None:
    document = read(SHORT)
    assert document.line_of("version") == 2
    assert document.line_of("test_matrix", "backends", 1) == 9
    assert document.line_of("scenarios", 1) == 18
    assert document.line_of("scenarios", 1, "oracle") == 20


def test_a_moved_value_has_the_line_it_was_written_on() -> None:
    document = read(SHORT)
    assert document.line_of("model", "formats") == 10
    assert document.line_of("scenarios", 0, "oracle", "expected") == 16
    assert read(LONG).line_of("model", "id") == 4


def test_the_line_of_an_absent_key_is_its_parents() -> None:
    document = read(SHORT)
    assert document.line_of("scenarios", 1, "max_tokens") == 18
    assert document.line_of("gates", "g0_integrity") == 2
    assert document.line_of() == 2


def test_defaults() -> None:
    playbook = read(
        "version: 1.0\nmodel: {id: a/b, formats: [apr]}\n"
        "test_matrix: {modalities: [run], backends: [cpu]}\n"
    ).playbook
    assert playbook.version == "1.0"
    assert (playbook.scenarios, playbook.oracles) == ((), ())
    assert playbook.model.quantizations == ()
    assert playbook.model.revision == "main"
    matrix = playbook.test_matrix
    assert (matrix.seed, matrix.timeout_ms, matrix.max_tokens) == (0, 60_000, 64)
    assert (matrix.temperature, matrix.scenario_count, matrix.prompts) == (0.0, None, ())
    assert playbook.gates.g0_integrity
    assert playbook.metadata == {}


def test_every_setting() -> None:
    playbook = read("""\
name: q.1
version: 1.10
description: all of it
model:
  id: a/b
  revision: 0123abc
  local_path: models/b
  formats: [apr, gguf]
  quantizations: [q4_k_m, bf16]
  size_category: tiny
  family: qwen2
  size_variant: "0.5b"
  expected_hidden_dim: 896
  expected_num_layers: 24
  expected_num_heads: 14
  expected_num_kv_heads: 2
  expected_vocab_size: 151936
  expected_intermediate_dim: 4864
test_matrix:
  modalities: [run, chat, serve]
  backends: [cpu]
  formats: [apr, gguf]
  scenario_count: 3
  prompts: ["1+1=", no]
  seed: 42
  timeout_ms: 120000
  max_tokens: 32
  temperature: 1e-5
scenarios:
  - name: chat-1.a
    turns: [Hello, "And you?"]
    system: Be brief.
    max_tokens: 8
    temperature: 0
    seed: 7
    timeout_ms: 1000
    stop: ["\\n"]
    modalities: [serve, chat]
    severity: P0
    category: EDGE
oracles: [garbage]
failure_policy: collect_all
metadata: {tags: [a, 1, null], nested: {x: 1.5}}
""").playbook
    assert playbook.version == "1.10"
    assert playbook.formats == (Format.APR, Format.GGUF)
    assert playbook.model.quantizations == (Quantization.Q4_K_M, Quantization.BF16)
    assert playbook.model.expected_vocab_size == 151936
    assert playbook.test_matrix.prompts == ("1+1=", "no")
    assert playbook.test_matrix.temperature == 1e-5
    (scenario,) = playbook.scenarios
    assert scenario.turns == ("Hello", "And you?")
    assert scenario.stop == ("\n",)
    assert scenario.severity is Severity.P0
    assert scenario.category is Category.EDGE
    assert scenario.expands_to(playbook.test_matrix.modalities) == (Modality.CHAT, Modality.SERVE)
    assert playbook.metadata == {"tags": ["a", 1, None], "nested": {"x": 1.5}}


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("oracle: garbage", GarbageSpec()),
        ("oracle: {type: arithmetic, tolerance: 1e-3}", ArithmeticSpec(tolerance=1e-3)),
        ("oracle: {type: arithmetic, config: {tolerance: 0.01}}", ArithmeticSpec(tolerance=0.01)),
        ("oracle: arithmetic\n    expected: 4", ArithmeticSpec(expected=4)),
        ("oracle: exact\n    expected: four", ExactSpec(expected="four")),
        (
            "oracle: {type: exact, ignore_case: 'Yes'}\n    expected: four",
            ExactSpec(expected="four", ignore_case=True),
        ),
        ("oracle: contains\n    expected: four", ContainsSpec(expected="four")),
        ("oracle: contains\n    expected: [a, b]", ContainsSpec(expected=("a", "b"))),
        ("oracle: one_of\n    expected: [a, b]", OneOfSpec(expected=("a", "b"))),
        ("oracle: {type: regex, pattern: '^4$'}", RegexSpec(pattern="^4$")),
        ("oracle: code_syntax\n    language: rust", CodeSyntaxSpec(language="rust")),
        ("oracle: {type: response, items: 3}", ResponseSpec(items=3)),
        (
            "oracle: [garbage, arithmetic]\n    expected: 4",
            CompositeSpec(all=(GarbageSpec(), ArithmeticSpec(expected=4))),
        ),
        (
            "oracle: {type: composite, any: [garbage, {type: contains, config: {expected: x}}]}",
            CompositeSpec(any=(GarbageSpec(), ContainsSpec(expected="x"))),
        ),
    ],
)
def test_ways_to_write_an_oracle(written: str, spec: OracleSpec) -> None:
    document = read(f"""\
version: "1.0"
model: {{id: a/b, formats: [apr]}}
test_matrix: {{modalities: [run], backends: [cpu]}}
scenarios:
  - name: s
    prompt: q
    {written}
""")
    assert document.playbook.scenarios[0].oracle == spec


def test_aliases_are_followed() -> None:
    playbook = read("""\
version: "1.0"
model: {id: a/b, formats: [apr]}
test_matrix: {modalities: [run], backends: [cpu]}
scenarios:
  - {name: s, prompt: &q Hello, oracle: &o {type: garbage}}
  - {name: t, prompt: *q, oracle: *o}
""").playbook
    assert playbook.scenarios[0].oracle == playbook.scenarios[1].oracle
    assert playbook.scenarios[1].prompt == "Hello"


def test_the_name_comes_from_the_file(tmp_path: Path) -> None:
    text = SHORT.replace("[cpu, gpu]", "[cpu]")
    for file in ("a-1b.playbook.yaml", "a-1b.yaml", "a-1b.yml"):
        (tmp_path / file).write_text(text)
        assert read_playbook(tmp_path / file).playbook.name == "a-1b"


def test_pytest_does_not_collect_the_matrix() -> None:
    assert TestMatrix is Matrix
    assert Matrix.__test__ is False
    assert "__test__" not in Matrix.model_fields


def test_a_scenario_goes_where_it_has_a_meaning() -> None:
    every = tuple(Modality)
    assert Scenario(name="a", prompt="x").expands_to(every) == every
    chat = (Modality.CHAT, Modality.SERVE)
    assert Scenario(name="a", prompt="x", system="y").expands_to(every) == chat
    assert Scenario(name="a", turns=("x",)).expands_to(every) == chat
    only = Scenario(name="a", prompt="x", modalities=(Modality.SERVE, Modality.RUN))
    assert only.expands_to(every) == (Modality.RUN, Modality.SERVE)
