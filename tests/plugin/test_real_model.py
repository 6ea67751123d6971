"""The embedded model, really run: healthy, with planted faults, and fluent but wrong."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from pytest_aprqa import assert_oracle
from tests.plugin.conftest import INI, WITHOUT_GATES, Run
from tests.plugin.faults import (
    G0_FAULTS,
    Fault,
    every_token_ends,
    length_in_words,
    noise_for_a_layer,
    wrong_sums,
)

MODEL = Path(str(resources.files("pytest_aprqa"))) / "models" / "aprqa-tiny"
PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
SHORT = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [run, chat], backends: [cpu], formats: [safetensors]}
scenarios:
  - {name: sum_1, prompt: "What is 2 + 2?", oracle: arithmetic}
  - {name: sum_2, prompt: "What is 3 + 5?", oracle: arithmetic}
  - {name: sum_3, prompt: "What is 9 - 4?", oracle: arithmetic}
  - {name: sum_4, prompt: "Calculate 6 + 7", oracle: arithmetic}
  - {name: hello, prompt: "Hello", oracle: garbage}
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model, to be broken."""
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    return copy


def qualify(pytester: pytest.Pytester, *arguments: str) -> Run:
    """Run the short playbook at tier mvp."""
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(SHORT)
    result = pytester.runpytest_subprocess("--tier=mvp", *arguments, timeout=300)
    return Run(result, pytester.path)


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
@pytest.mark.parametrize(
    ("fault", "word"), G0_FAULTS.items(), ids=[fault.__name__ for fault in G0_FAULTS]
)
def test_g0_stops_a_planted_fault(
    pytester: pytest.Pytester, model: Path, fault: Fault, word: str, mode: str
) -> None:
    fault(model)
    run = qualify(pytester, f"--aprqa-model={model}", mode)
    assert run.exit == 1
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
    assert run.card("gateways").startswith("safetensors-cpu: G0 FAIL  G1 not run")
    counts = run.result.parseoutcomes()
    assert (counts.get("passed", 0), counts["failed"], counts["blocked"]) == (0, 1, 15)
    [result] = run.record()["gateways"]
    assert word in result["reason"], result


@pytest.mark.parametrize(
    ("fault", "gateway"),
    [(length_in_words, "G1"), (every_token_ends, "G2"), (noise_for_a_layer, "G4")],
)
def test_later_gateways_stop_what_g0_cannot_see(
    pytester: pytest.Pytester, model: Path, fault: Fault, gateway: str
) -> None:
    fault(model)
    run = qualify(pytester, f"--aprqa-model={model}", "-n0")
    assert run.exit == 1
    assert f"{gateway} FAIL" in run.card("gateways")
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"


def test_a_fluent_but_wrong_model_is_falsified_by_scenarios(
    pytester: pytest.Pytester, model: Path
) -> None:
    _disturb_until_the_sums_are_wrong(model)
    run = qualify(pytester, f"--aprqa-model={model}", "-n0")
    assert run.exit == 1
    assert run.card("gateways") == "safetensors-cpu: G0 ok  G1 ok  G2 ok  G3 ok  G4 ok"
    outcomes = run.outcomes()
    assert "Falsified" in outcomes.values()
    assert "Crashed" not in outcomes.values()
    assert outcomes["hello-safetensors-cpu-chat"] == "Corroborated"
    points = int(run.card("MQS").split(" / ")[0])
    assert 0 < points < 700


def test_the_embedded_playbook_passes(pytester: pytest.Pytester) -> None:
    shutil.copy(PLAYBOOKS / "embedded.playbook.yaml", pytester.path)
    only = "--aprqa-format=safetensors"  # the other formats have a playbook of their own
    result = pytester.runpytest_subprocess("--tier=mvp", "-n2", only, timeout=300)
    run = Run(result, pytester.path)
    assert run.exit == 0
    assert run.card("MQS").startswith("800 / 1000   grade B")
    assert "apr, gguf: left out by --aprqa-format safetensors" in run.output
    record = run.record("embedded")
    assert record["model"]["source"] == "embedded"
    assert set(record["model"]["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    asked = [e for e in record["evidence"] if e["metrics"] and e["check"] == "scenario"]
    assert all(e["engine"]["engine"].startswith("transformers") for e in asked)
    batched = [e["metrics"]["batch_size"] for e in asked if e["modality"] != "serve"]
    assert batched.count(1) < len(batched) / 2
    assert run.card("gates") == "18 of 18 corroborated"
    assert all(e["output"] and e["rendered_prompt"] for e in asked)


def test_a_limit_of_one_millisecond_is_a_timeout_and_not_a_crash(
    pytester: pytest.Pytester,
) -> None:
    text = SHORT.replace("backends: [cpu]", "timeout_ms: 1, backends: [cpu]")
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(text)
    result = pytester.runpytest_subprocess("--tier=mvp", "-n0", timeout=300)
    run = Run(result, pytester.path)
    assert run.exit == 1
    outcomes = run.outcomes()
    # Nothing ends in a batch either, so there is nothing to compare.
    assert outcomes.pop("batched_equals_alone-safetensors-cpu") == "Skipped"
    assert set(outcomes.values()) == {"Timeout"}
    assert run.card("gateways") == "safetensors-cpu: G0 ok  G1 ok  G2 ok  G3 ok  G4 ok"
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"


def test_collection_imports_no_torch(pytester: pytest.Pytester) -> None:
    shutil.copy(PLAYBOOKS / "embedded.playbook.yaml", pytester.path)
    pytester.makeconftest(
        "import sys\n"
        "def pytest_sessionfinish():\n"
        "    heavy = {'torch', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy))\n"
    )
    result = pytester.runpytest_subprocess("--collect-only", "-q", "-s")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*heavy: []"])


def test_no_network_is_needed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        WITHOUT_GATES + "import socket\n"
        "def refuse(*args, **kwargs):\n"
        "    raise AssertionError('a network connection was tried')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
    )
    run = qualify(pytester, "-n0", "-k", "sum_1")
    assert run.exit == 0


def test_an_assertion_helper_works_in_any_test() -> None:
    verdict = assert_oracle("arithmetic", question="What is 17 + 25?", answer="It is 42.")
    assert verdict.corroborated


def _disturb_until_the_sums_are_wrong(model: Path) -> None:
    """Add noise, a little more each time, until at most one of the four sums is right."""
    from pytest_aprqa.domain.completion import GenerationRequest, Message
    from pytest_aprqa.domain.model import Backend
    from pytest_aprqa.engines.transformers_engine import load

    sums = {"What is 2 + 2?": "4", "What is 3 + 5?": "8", "What is 9 - 4?": "5"}
    healthy = (model / "model.safetensors").read_bytes()
    for strength in (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0):
        (model / "model.safetensors").write_bytes(healthy)
        wrong_sums(model, strength)
        engine = load(model, backend=Backend.CPU, threads=1)
        answers = [
            engine.generate(
                GenerationRequest(messages=(Message("user", question),), max_tokens=16)
            ).text
            for question in sums
        ]
        engine.close()
        right = sum(a.strip() == b for a, b in zip(answers, sums.values(), strict=True))
        if right == 0:
            return
    raise AssertionError(f"the sums stayed right: {json.dumps(answers)}")
