from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pytest_aprqa.formats.playbook_yaml import playbook_json_schema
from tests.playbooks.playbook_texts import problems
from tests.playbooks.test_playbook_reading import LONG, SHORT
from tests.playbooks.test_playbook_samples import SECTIONS, sample, without

ROOT = Path(__file__).parents[2]

VALID: dict[str, Any] = {
    "name": "q",
    "version": "1.0",
    "model": {"id": "a/b", "formats": ["apr"]},
    "test_matrix": {"modalities": ["run", "chat"], "backends": ["cpu"]},
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = playbook_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def scenario(**keys: Any) -> dict[str, Any]:
    return {"scenarios": [{"name": "s", "prompt": "q"} | keys]}


def test_the_written_schema_is_current() -> None:
    main = runpy.run_path(str(ROOT / "tools" / "write_schemas.py"))["main"]
    assert main(["--check"]) == 0, "run tools/write_schemas.py"


def test_stale_schemas_are_found_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(ROOT / "tools" / "write_schemas.py"))["main"]
    playbook = tmp_path / "playbooks" / "playbook.schema.json"
    evidence = tmp_path / "docs" / "evidence.schema.json"
    assert main(["--check"], root=tmp_path) == 1
    assert capsys.readouterr().err == "".join(
        f"{path} is not current; run tools/write_schemas.py\n" for path in (playbook, evidence)
    )
    assert not playbook.exists()
    assert main([], root=tmp_path) == 0
    assert json.loads(playbook.read_text(encoding="utf-8")) == playbook_json_schema()
    assert main(["--check"], root=tmp_path) == 0


def test_the_schema_names_itself_and_describes_its_keys() -> None:
    schema = playbook_json_schema()
    assert schema["$id"] == "urn:pytest-aprqa:playbook"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for part in (schema, *(schema["$defs"][name] for name in ("ModelRef", "Matrix", "Scenario"))):
        assert [
            key for key, value in part["properties"].items() if "description" not in value
        ] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": "1.2.3"},
        {"model": {"hf_repo": "a/b", "formats": ["apr", "gguf"], "quantizations": ["q4_k_m"]}},
        {"model": {"id": "a/b"}, "test_matrix": VALID["test_matrix"] | {"formats": ["apr"]}},
        {"gates": {"g0_integrity": True, "g1_model_loads": "true", "g2_basic_inference": "Yes"}},
        {"oracles": ["garbage", {"type": "arithmetic", "config": {"tolerance": 0.01}}]},
        {"oracles": [["garbage", "response"], {"type": "composite", "any": ["garbage"]}]},
        {"metadata": {"a": [1, {"b": None}]}},
        {"profile_ci": {"enabled": "true", "assertions": {"min_throughput": "1e1"}}},
        {"differential_tests": {"inference_compare": {"enabled": True, "tolerance": "1e-5"}}},
        {"trace_payload": {"enabled": True, "gates": ["F-TRACE-PAYLOAD-001"]}},
        {"falsification_gates": [{"id": "F-QUAL-001", "condition": "tps >= 10"}]},
        scenario(),
        scenario(oracle="arithmetic", expected=4),
        scenario(oracle="contains", expected=["a", "b"]),
        scenario(oracle={"type": "exact", "ignore_case": "no"}, expected="a"),
        scenario(oracle="code_syntax", language="rust"),
        scenario(oracle=["garbage", "arithmetic"], expected=4),
        scenario(modalities=["chat"], system="x", severity="P0", category="EDGE", stop=["."]),
        {"scenarios": [{"name": "s", "turns": ["a", "b"]}]},
    ],
)
def test_schema_and_reader_accept(
    validator: jsonschema.Draft202012Validator, changes: dict[str, Any]
) -> None:
    data = VALID | changes
    assert problems(json.dumps(data)) == []
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "one"},
        {"zzz": 1},
        {"profile_ci": {"enabled": "maybe"}},
        {"profile_ci": {"warmup": "3"}},
        {"trace_payload": {"level": "all"}},
        {"differential_tests": {"inference_compare": {"tolerance": "1e-5x"}}},
        {"falsification_gates": [{"id": "F-QUAL-001"}]},
        {"model": {"id": "a/b"}},
        {"model": {"id": "a b", "formats": ["apr"]}},
        {"model": {"id": "a/b", "hf_repo": "a/b", "formats": ["apr"]}},
        {"model": {"id": "a/b", "formats": ["ggml"]}},
        {"model": {"id": "a/b", "formats": ["apr", "apr"]}},
        {"model": {"formats": ["apr"]}},
        {"test_matrix": {"modalities": [], "backends": ["cpu"]}},
        {"test_matrix": {"modalities": ["run"]}},
        {"test_matrix": VALID["test_matrix"] | {"seed": "42"}},
        {"test_matrix": VALID["test_matrix"] | {"timeout_ms": 0}},
        {"gates": {"g0_integrity": False}},
        {"gates": {"g0_integrity": "false"}},
        {"failure_policy": "stop-on-p0"},
        {"oracles": ["hf_parity"]},
        {"oracles": ["composite"]},
        {"oracles": ["regex"]},
        {"oracles": [{"type": "composite"}]},
        {"oracles": [{"type": "garbage", "config": {"x": 1}}]},
        {"oracles": [{"type": "garbage", "min_unique_chars": 1, "config": {}}]},
        scenario(name="a b"),
        scenario(prompt=None),
        scenario(turns=["x"]),
        scenario(expected=4),
        scenario(oracle="garbage", expected=4),
        scenario(oracle={"type": "arithmetic"}, language="rust"),
        scenario(oracle="code_syntax", language="cobol"),
        scenario(max_tokens=0),
        scenario(command="x"),
        {"scenarios": [{"name": "s"}]},
    ],
)
def test_schema_and_reader_reject(
    validator: jsonschema.Draft202012Validator, changes: dict[str, Any]
) -> None:
    data = VALID | changes
    assert problems(json.dumps(data)) != []
    assert not validator.is_valid(data)


@pytest.mark.parametrize(
    "text", [SHORT, LONG, *(without(sample(name), SECTIONS[name]) for name in SECTIONS)]
)
def test_the_schema_accepts_real_files(
    validator: jsonschema.Draft202012Validator, text: str
) -> None:
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
