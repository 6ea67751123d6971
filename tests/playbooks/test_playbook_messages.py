# ruff: noqa: E501 -- a case is a line, as its message is
from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_aprqa.domain.errors import PlaybookError
from pytest_aprqa.formats.playbook_yaml import read_playbook
from pytest_aprqa.formats.yaml_source import MAX_BYTES
from tests.playbooks.playbook_texts import problems

NOT_YET = (
    "this version does not run this section yet and ignores nothing: "
    "remove it, or wait for the version that runs it"
)
ROOT_KEYS = (
    "name, version, description, model, test_matrix, scenarios, oracles, gates, endpoint, "
    "failure_policy, metadata, differential_tests, profile_ci, trace_payload, contract_tests, "
    "ollama_parity, hf_parity, falsification_gates"
)
SCENARIO_KEYS = (
    "name, prompt, turns, system, oracle, max_tokens, temperature, seed, timeout_ms, stop, "
    "modalities, severity, category, expected, language"
)
ORACLES = "arithmetic, garbage, code_syntax, response, exact, regex, contains, one_of, composite"

MODEL = "  id: a/b\n  formats: [apr]"
MATRIX = "  modalities: [run, chat]\n  backends: [cpu]"


def playbook(*, model: str = MODEL, matrix: str = MATRIX, rest: str = "") -> str:
    """A playbook whose `rest` begins on line 8 when the other parts are as they are."""
    return f'version: "1.0"\nmodel:\n{model}\ntest_matrix:\n{matrix}\n{rest}'


def scenario(lines: str) -> str:
    """A playbook with one scenario, whose keys after the name begin on line 10."""
    indented = "".join(f"    {line}\n" for line in lines.splitlines())
    return playbook(rest=f"scenarios:\n  - name: s\n{indented}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: the file is empty; a playbook has version, model and test_matrix"),
        ("# only this\n", "1: the file is empty; a playbook has version, model and test_matrix"),
        ("- a\n- b\n", "1: expected a mapping of sections, got a list"),
        ("\nplaybook\n", "2: expected a mapping of sections, got 'playbook'"),
        ("a: 1\n---\nb: 2\n", "2: a second document begins; a playbook file holds one"),
        ("a:\n\tb: 1\n", "2: a tab where YAML wants spaces; indent with spaces"),
        ("a: [1, 2\n", "2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n  b: 2\n", "2: not valid YAML: mapping values are not allowed here"),
        ("a: *x\n", "1: not valid YAML: found undefined alias 'x'"),
        ("a: 1\nb: &x [*x]\n", "2: an alias inside the value it stands for"),
        ("[" * 60, "1: nested deeper than 40 levels"),
        (b"a: 1\nb: \xff\n", "2: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: 1\nb: \x00\n", "2: character U+0000 is not allowed"),
        ('a: "\\UFFFFFFFF"\n', "1: an escape in a quoted text is not a character"),
        (
            b"#" * (MAX_BYTES + 1),
            "1: 1048577 bytes; a playbook has at most 1048576",
        ),
        (
            "\n".join(f"{k}: &{k} [{', '.join([f'*{p}' if p else 'x'] * 9)}]" for p, k in
                      zip(["", *"abcde"], "abcdef", strict=True)),
            "1: more than 20000 values once aliases are followed",
        ),
    ],
)  # fmt: skip
def test_text_that_is_no_document(text: str | bytes, expected: str) -> None:
    assert problems(text) == [expected]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "q.playbook.yaml"
    with pytest.raises(PlaybookError) as caught:
        read_playbook(path)
    assert caught.value.problems == (f"{path}: cannot be read: No such file or directory",)
    assert caught.value.path == path


def test_a_file_name_that_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "My Model.playbook.yaml"
    path.write_text(playbook())
    with pytest.raises(PlaybookError) as caught:
        read_playbook(path)
    assert caught.value.problems == (
        f"{path}:1: name: missing, and the file's name 'My Model' cannot serve; add name",
    )


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("metadata: {a: 1}\nmetadata: {}", "9: metadata: key given twice, first on line 8"),
        ("metadata: {a: 1, a: 2}", "8: metadata.a: key given twice, first on the same line"),
        ("metadata: {1: a}", "8: metadata: a key is 1; keys are text: quote it"),
        ("metadata: {[a]: a}", "8: metadata: a key is a list or mapping; keys are text: quote it"),
        ("metadata: {a: !!set {}}", "8: metadata.a: tag '!!set' is not read; write the plain value"),
        ("metadata: {a: !x b}", "8: metadata.a: tag '!x' is not read; write the plain value"),
        ("metadata: {a: .nan}", "8: metadata.a: '.nan' is not a number a playbook can hold"),
        (
            "metadata: {a: 12345678901234567890}",
            "8: metadata.a: '12345678901234567890' is not a number a playbook can hold",
        ),
        ('metadata: {a: "\\ud800"}', "8: metadata.a: half of a surrogate pair is not Unicode text"),
        ("metadata: [a]", "8: metadata: expected a mapping, got a list"),
        ("scenarios:", "8: scenarios: expected a list, got nothing"),
        ("scenario: []", f"8: scenario: unknown key 'scenario'; did you mean 'scenarios'? allowed: {ROOT_KEYS}"),
        ("zzz: []", f"8: zzz: unknown key 'zzz'; allowed: {ROOT_KEYS}"),
        ("'a b\\n': 1", f"8: 'a b\\\\n': unknown key 'a b\\\\n'; allowed: {ROOT_KEYS}"),
        ("name: A", "8: name: expected a name of lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit, got 'A'"),
        ("name: '${MODEL_NAME}-ci'", "8: name: ${MODEL_NAME} is a template's placeholder; fill it in before running"),
        ("failure_policy: stop-on-p0", "8: failure_policy: unknown failure policy 'stop-on-p0'; did you mean 'stop_on_p0'? allowed: stop_on_first, stop_on_p0, collect_all"),
        ("gates: {g1_model_loads: false}", "8: gates.g1_model_loads: a gateway cannot be switched off: a score without it would mean nothing; remove the line"),
        ('gates: {g0_integrity: "No"}', "8: gates.g0_integrity: a gateway cannot be switched off: a score without it would mean nothing; remove the line"),
        ("gates: {g0_integrity: 1}", "8: gates.g0_integrity: expected true or false, got 1"),
        ("oracles: garbage", "8: oracles: expected a list, got 'garbage'; write [garbage]"),
        ("oracles: [garbige]", f"8: oracles[0]: unknown oracle 'garbige'; did you mean 'garbage'? allowed: {ORACLES}"),
        ("oracles: [{type: garbige}]", f"8: oracles[0].type: unknown oracle 'garbige'; did you mean 'garbage'? allowed: {ORACLES}"),
        ("oracles: [{config: {}}]", f"8: oracles[0].type: missing; add type; allowed: {ORACLES}"),
        ("oracles: [5]", "8: oracles[0]: expected an oracle's name, list or mapping, got 5"),
        ("oracles: [hf_parity]", f"8: oracles[0]: hf_parity: {NOT_YET.replace('section', 'oracle')}"),
        ("oracles: [{type: hf_parity}]", f"8: oracles[0].type: hf_parity: {NOT_YET.replace('section', 'oracle')}"),
        ("oracles: [exact]", "8: oracles[0].expected: missing; add expected: what the answer must be"),
        ("oracles: [regex]", "8: oracles[0].pattern: missing; add pattern: the regular expression to find"),
        ("oracles: [composite]", "8: oracles[0]: composite names no oracle; add all, any or none"),
        ("oracles: [{type: composite, all: []}]", "8: oracles[0]: composite names no oracle; add all, any or none"),
        ("oracles: [[]]", "8: oracles[0]: the list is empty; name at least one oracle"),
        ("oracles: [{type: garbage, config: {max_repetition_ratio: 2}}]", "8: oracles[0].config.max_repetition_ratio: must be at most 1, got 2"),
        ("oracles: [{type: garbage, config: {min_unique: 2}}]", "8: oracles[0].config.min_unique: unknown key 'min_unique'; did you mean 'min_unique_chars'? allowed: max_repetition_ratio, min_unique_chars"),
        ("oracles: [{type: garbage, config: 5}]", "8: oracles[0].config: expected a mapping of the oracle's settings"),
        ("oracles: [{type: garbage, min_unique_chars: 1, config: {}}]", "8: oracles[0].min_unique_chars: beside config; write all of the settings in config"),
        ("oracles: [{type: garbage, config: {type: a}}]", "8: oracles[0].config.type: is not a setting; type stands beside config"),
        ("oracles: [{type: composite, none: [garbage, {type: arithmetic, tolerance: x}]}]", "8: oracles[0].none[1].tolerance: expected a number, got 'x'"),
        ("oracles: [[garbage, {type: regex, pattern: '('}]]", "8: oracles[0][1].pattern: not a regular expression: missing ), unterminated subpattern at position 0"),
        ("oracles: [{type: code_syntax, languages: [cobol]}]", "8: oracles[0].languages[0]: unknown language 'cobol'; allowed: python, javascript, typescript, rust, go, java, c, cpp, sql, bash"),
        ("oracles: [{type: response, json_schema: a}]", "8: oracles[0].json_schema: expected a mapping, got 'a'"),
    ],
)  # fmt: skip
def test_mistakes_of_the_whole(rest: str, expected: str) -> None:
    assert problems(playbook(rest=rest)) == [expected]


@pytest.mark.parametrize(
    "section",
    [
        "property_tests", "state_machine", "kernel_profile", "mvp_matrix", "verification_tests",
    ],
)  # fmt: skip
def test_sections_that_are_not_run_yet(section: str) -> None:
    text = playbook(rest=f"{section}: {{enabled: true}}")
    assert problems(text) == [f"8: {section}: {NOT_YET}"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("  formats: [apr]", "2: model.id: missing; add the repository, as id: org/name"),
        ("  id: a/b", "2: model.formats: missing; add formats: [safetensors], here or in test_matrix; allowed: safetensors, apr, gguf"),
        ("  id: ab\n  formats: [apr]", "3: model.id: expected org/name (of letters, digits, '-', '_' and '.'), got 'ab'"),
        ("  hf_repo: a/b c\n  formats: [apr]", "3: model.hf_repo: expected org/name (of letters, digits, '-', '_' and '.'), got 'a/b c'"),
        ("  hf_repo: ${HF_REPO}\n  formats: [apr]", "3: model.hf_repo: ${HF_REPO} is a template's placeholder; fill it in before running"),
        ("  id: a/b\n  hf_repo: a/b\n  formats: [apr]", "4: model.hf_repo: is the same key as id; keep one"),
        ("  id: a/b\n  formats: []", "4: model.formats: is empty; list at least one"),
        ("  id: a/b\n  formats: apr", "4: model.formats: expected a list, got 'apr'; write [apr]"),
        ("  id: a/b\n  formats: [ggml]", "4: model.formats[0]: unknown format 'ggml'; allowed: safetensors, apr, gguf"),
        ("  id: a/b\n  formats: [apr, apr]", "4: model.formats[1]: 'apr' is listed twice; list it once"),
        ("  id: a/b\n  formats: [apr]\n  quantizations: [Q4_K_M]", "5: model.quantizations[0]: unknown quantization 'Q4_K_M'; did you mean 'q4_k_m'? allowed: f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_0, q4_k_m, q4_0, q3_k_m, q2_k"),
        ("  id: a/b\n  formats: [apr]\n  size_category: auto", "5: model.size_category: unknown size category 'auto'; allowed: tiny, small, medium, large, xlarge, huge"),
        ("  id: a/b\n  formats: [apr]\n  expected_num_layers: 0", "5: model.expected_num_layers: must be more than 0, got 0"),
        ("  id: a/b\n  formats: [apr]\n  revision: 5", "5: model.revision: expected text, got 5; quote it"),
        ("  id: a/b\n  formats: [apr]\n  local_path: ''", "5: model.local_path: is empty; write it or remove it"),
        ("  id: a/b\n  formats: [apr]\n  endpoint: x", "5: model.endpoint: expected the root of a server such as http://127.0.0.1:8000, without user, password or query: keys come from the environment, got 'x'"),
        ("  id: a/b\n  formats: [apr]\n  endpoint: {url: http://u:p@x}", "5: model.endpoint.url: expected the root of a server such as http://127.0.0.1:8000, without user, password or query: keys come from the environment, got 'http://u:p@x'"),
        ("  id: a/b\n  formats: [apr]\n  endpoint: {url: http://x, key: k}", "5: model.endpoint.key: unknown key 'key'; allowed: url, model, api_key_env"),
    ],
)  # fmt: skip
def test_mistakes_of_the_model(model: str, expected: str) -> None:
    assert problems(playbook(model=model)) == [expected]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("  backends: [cpu]", "5: test_matrix.modalities: missing; add modalities: [run]; allowed: run, chat, serve"),
        ("  modalities: [run]", "5: test_matrix.backends: missing; add backends: [cpu]; allowed: cpu, gpu"),
        ("  modalities: []\n  backends: [cpu]", "6: test_matrix.modalities: is empty; list at least one"),
        ("  modalities: [run]\n  backends: [cpu, gpuu]", "7: test_matrix.backends[1]: unknown backend 'gpuu'; did you mean 'gpu'? allowed: cpu, gpu"),
        ("  modalities: [run, run]\n  backends: [cpu]", "6: test_matrix.modalities[1]: 'run' is listed twice; list it once"),
        (f"{MATRIX}\n  formats: [gguf]", "8: test_matrix.formats: differs from model.formats; keep one of the two"),
        (f"{MATRIX}\n  seed: abc", "8: test_matrix.seed: expected an integer, got 'abc'"),
        (f'{MATRIX}\n  seed: "42"', "8: test_matrix.seed: expected an integer, got '42'; remove the quotes"),
        (f"{MATRIX}\n  seed: true", "8: test_matrix.seed: expected an integer, got true"),
        (f"{MATRIX}\n  seed: 1.0", "8: test_matrix.seed: expected an integer, got 1.0"),
        (f"{MATRIX}\n  seed: -1", "8: test_matrix.seed: must be at least 0, got -1"),
        (f"{MATRIX}\n  timeout_ms: 3600001", "8: test_matrix.timeout_ms: must be at most 3600000, got 3600001"),
        (f"{MATRIX}\n  timeout_ms: 0", "8: test_matrix.timeout_ms: must be at least 1, got 0"),
        (f"{MATRIX}\n  scenario_count: 1001", "8: test_matrix.scenario_count: must be at most 1000, got 1001"),
        (f"{MATRIX}\n  max_tokens: 32769", "8: test_matrix.max_tokens: must be at most 32768, got 32769"),
        (f"{MATRIX}\n  temperature: warm", "8: test_matrix.temperature: expected a number, got 'warm'"),
        (f"{MATRIX}\n  prompts: [4]", "8: test_matrix.prompts[0]: expected text, got 4; quote it"),
    ],
)  # fmt: skip
def test_mistakes_of_the_matrix(matrix: str, expected: str) -> None:
    assert problems(playbook(matrix=matrix)) == [expected]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("severity: P0", "9: scenarios[0]: asks nothing; add prompt, or turns for a chat"),
        ("prompt:", "9: scenarios[0]: asks nothing; add prompt, or turns for a chat"),
        ("prompt: a\nturns: [b]", "9: scenarios[0]: has both prompt and turns; keep one"),
        ("turns: []", "10: scenarios[0].turns: is empty; list at least one"),
        ("prompt: 42", "10: scenarios[0].prompt: expected text, got 42; quote it"),
        ("prompt: a\nseverity: P3", "11: scenarios[0].severity: unknown severity 'P3'; allowed: P0, P1, P2"),
        ("prompt: a\ncategory: PREF", "11: scenarios[0].category: unknown category 'PREF'; did you mean 'PERF'? allowed: QUAL, PERF, STAB, COMP, EDGE, REGR"),
        ("prompt: a\ncommand: rm", f"11: scenarios[0].command: unknown key 'command'; allowed: {SCENARIO_KEYS}"),
        ("prompt: a\nmodalities: [serve, run]", "11: scenarios[0].modalities: serve not in test_matrix.modalities (run, chat); a scenario can only restrict the matrix"),
        ("turns: [a]\nmodalities: [run]", "10: scenarios[0].turns: turns needs the modality chat or serve; this scenario is left with run"),
        ("prompt: a\nsystem: b\nmodalities: [run]", "11: scenarios[0].system: system needs the modality chat or serve; this scenario is left with run"),
        ("prompt: a\nexpected: 4", "11: scenarios[0].expected: given without an oracle; expected is for oracle: arithmetic, contains, exact or one_of"),
        ("prompt: a\nlanguage: rust", "11: scenarios[0].language: given without an oracle; language is for oracle: code_syntax"),
        ("prompt: a\noracle:", "11: scenarios[0].oracle: has no value; name an oracle or remove the line"),
        ("prompt: a\noracle:\nexpected: 4", "11: scenarios[0].oracle: has no value; name an oracle or remove the line"),
        ("prompt: a\noracle: arithmetic\nexpected:", "12: scenarios[0].expected: has no value; give one or remove the line"),
        ("prompt: a\noracle: garbage\nexpected: 4", "12: scenarios[0].expected: the oracle 'garbage' takes no expected; arithmetic, contains, exact or one_of would"),
        ("prompt: a\noracle: arithmetic\nlanguage: rust", "12: scenarios[0].language: the oracle 'arithmetic' takes no language; code_syntax would"),
        ("prompt: a\noracle: [exact, contains]\nexpected: a", "12: scenarios[0].expected: more than one oracle takes expected; write it inside the one it is for"),
        ("prompt: a\noracle: {type: exact, expected: a}\nexpected: a", "12: scenarios[0].expected: given in the oracle too; keep one"),
        ("prompt: a\noracle: arithmetic\nexpected: four", "12: scenarios[0].expected: expected a number, got 'four'"),
        ("prompt: a\noracle: exact\nexpected: 4", "12: scenarios[0].expected: expected text, got 4; quote it"),
        ("prompt: a\noracle: contains\nexpected: 4", "12: scenarios[0].expected: expected text or a list of texts, got 4"),
        ("prompt: a\noracle: contains\nexpected: [a, 4]", "12: scenarios[0].expected: expected text or a list of texts, got a list"),
        ("prompt: a\noracle: one_of\nexpected: b", "12: scenarios[0].expected: expected a list, got 'b'; write [b]"),
        ("prompt: a\noracle: one_of\nexpected: []", "12: scenarios[0].expected: is empty; list at least one"),
        ("prompt: a\noracle: code_syntax\nlanguage: pyton", "12: scenarios[0].language: unknown language 'pyton'; did you mean 'python'? allowed: python, javascript, typescript, rust, go, java, c, cpp, sql, bash"),
        ("prompt: a\noracle: exact", "11: scenarios[0].oracle.expected: missing; add expected: what the answer must be"),
        ("prompt: a\noracle: {type: arithmetic,\n tolerance: -1}", "12: scenarios[0].oracle.tolerance: must be at least 0, got -1"),
        ("prompt: a\nmax_tokens: 0", "11: scenarios[0].max_tokens: must be at least 1, got 0"),
        ("prompt: a\nstop: ['']", "11: scenarios[0].stop[0]: is empty; write it or remove it"),
    ],
)  # fmt: skip
def test_mistakes_of_a_scenario(lines: str, expected: str) -> None:
    assert problems(scenario(lines)) == [expected]


@pytest.mark.parametrize("name", ["a b", "a[0]", "a:b", "-a", "", "a\u00e9"])
def test_scenario_names_can_be_selected(name: str) -> None:
    text = playbook(rest=f'scenarios:\n  - name: "{name}"\n    prompt: x\n')
    assert problems(text) == [
        "9: scenarios[0].name: expected a name of letters, digits, '.', '_' and '-', "
        f"beginning with a letter or digit, so that -k can select it, got {name!r}"
    ]


def test_scenario_names_are_unique() -> None:
    rest = (
        "scenarios:\n  - {name: a, prompt: x}\n  - {name: b, prompt: x}\n  - {name: a, prompt: y}"
    )
    assert problems(playbook(rest=rest)) == [
        "11: scenarios[2].name: 'a' is the name of scenarios[0] too; names are unique"
    ]


def test_sections_that_are_missing() -> None:
    assert problems("description: x\n") == [
        '1: version: missing; add version: "1.0"',
        "1: model: missing; add model: with id and formats",
        "1: test_matrix: missing; add test_matrix: with modalities and backends",
    ]


@pytest.mark.parametrize("version", ["1", "true", "1.0.0.0", '"v1"'])
def test_versions(version: str) -> None:
    shown = version.strip('"')
    assert problems(playbook().replace('"1.0"', version)) == [
        f'1: version: expected a version such as "1.0" or "1.0.0", got {shown!r}'
    ]


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
version: 1
modle: x
model:
  id: Qwen Coder
  formats: [safetensor, gguf]
  quantizations: q4_k_m
test_matrix:
  modalities: []
  backends: [cpu, gpuu]
  seed: "42"
  timeout_ms: 1.5
scenarios:
  - name: has space
    prompt: 42
    oracle: arithmatic
  - name: dup
    prompt: a
    oracle:
      type: arithmetic
      config: {tolerance: -1}
    expected: four
  - name: dup
    prompt: a
    turns: [b]
    oracle: garbage
    expected: 3
  - nope
gates:
  g1_model_loads: "false"
kernel_profile: {}
metadata: {}
metadata: {}
"""
    found = problems(text)
    assert [re.sub(r"; allowed: .*|, beginning .*", "", problem) for problem in found] == [
        '1: version: expected a version such as "1.0" or "1.0.0", got \'1\'',
        "2: modle: unknown key 'modle'; did you mean 'model'? allowed: " + ROOT_KEYS,
        "4: model.id: expected org/name (of letters, digits, '-', '_' and '.'), got 'Qwen Coder'",
        "5: model.formats[0]: unknown format 'safetensor'; did you mean 'safetensors'? "
        "allowed: safetensors, apr, gguf",
        "6: model.quantizations: expected a list, got 'q4_k_m'; write [q4_k_m]",
        "8: test_matrix.modalities: is empty; list at least one",
        "9: test_matrix.backends[1]: unknown backend 'gpuu'; did you mean 'gpu'? allowed: cpu, gpu",
        "10: test_matrix.seed: expected an integer, got '42'; remove the quotes",
        "11: test_matrix.timeout_ms: expected an integer, got 1.5",
        "13: scenarios[0].name: expected a name of letters, digits, '.', '_' and '-'",
        "14: scenarios[0].prompt: expected text, got 42; quote it",
        "15: scenarios[0].oracle: unknown oracle 'arithmatic'; did you mean 'arithmetic'? "
        f"allowed: {ORACLES}",
        "20: scenarios[1].oracle.config.tolerance: must be at least 0, got -1",
        "21: scenarios[1].expected: expected a number, got 'four'",
        "22: scenarios[2]: has both prompt and turns; keep one",
        "22: scenarios[2].name: 'dup' is the name of scenarios[1] too; names are unique",
        "26: scenarios[2].expected: the oracle 'garbage' takes no expected; "
        "arithmetic, contains, exact or one_of would",
        "27: scenarios[3]: expected a mapping, got 'nope'",
        "29: gates.g1_model_loads: a gateway cannot be switched off: a score without it would "
        "mean nothing; remove the line",
        f"30: kernel_profile: {NOT_YET}",
        "32: metadata: key given twice, first on line 31",
    ]


def test_the_path_is_shown_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "q.playbook.yaml").write_text(playbook(rest="zzz: 1"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlaybookError, match=r"^q\.playbook\.yaml:8: zzz: unknown key"):
        read_playbook(Path("q.playbook.yaml"))
