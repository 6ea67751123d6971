"""The serve modality of whole runs: gates and scenarios on real servers, and planted defects."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from pytest_aprqa.domain.serve import ServeGate
from tests.plugin.conftest import INI, WITHOUT_GATES, Run

MODEL = Path(str(resources.files("pytest_aprqa"))) / "models" / "aprqa-tiny"
PLAYBOOK = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [MODALITIES], backends: [cpu], formats: [FORMATS]}
failure_policy: collect_all
scenarios:
  - {name: sum_1, prompt: "What is 2 + 2?", oracle: arithmetic}
  - {name: sum_2, prompt: "What is 3 + 5?", oracle: arithmetic}
  - name: remembers
    turns: ["My name is Ada.", "What is my name?"]
    oracle: contains
    expected: Ada
"""
# A server of the tests' own, healthy but for the faults that are planted, in place of the target's.
SCRIPTED = """
import subprocess, sys
from pytest_aprqa.engines.serving import server_process
from pytest_aprqa.engines.serving.served import Stopped

class Scripted:
    ours = True
    ready = True
    stopped = False
    model_name = "scripted"

    def __init__(self):
        command = [sys.executable, SERVER, *FAULTS]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    alive = property(lambda self: self.process.poll() is None)

    def wait_ready(self, timeout_s): return 0.0
    def headers(self): return {}
    def describe(self): return {"engine": "scripted 1", "device": "cpu"}
    def memory_bytes(self): return 1 << 27
    def log_tail(self): return "the log of the scripted server"

    def stop(self, limit_s):
        self.stopped = True
        self.process.terminate()
        self.process.wait(limit_s)
        return Stopped(0.1, "ended with status 0", True)

    def close(self):
        self.process.kill()
        self.process.wait()

server_process.start_server = lambda *args, **more: Scripted()
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))


def qualify(
    pytester: pytest.Pytester,
    *arguments: str,
    formats: str = "safetensors, gguf",
    modalities: str = "run, chat, serve",
) -> Run:
    pytester.makefile(".ini", pytest=INI)
    text = PLAYBOOK.replace("FORMATS", formats).replace("MODALITIES", modalities)
    (pytester.path / "model.playbook.yaml").write_text(text)
    return Run(pytester.runpytest_subprocess("--tier=mvp", *arguments, timeout=300), pytester.path)


def test_every_gate_of_both_kinds_of_server_holds(pytester: pytest.Pytester) -> None:
    run = qualify(pytester, "-n2", "-m", "not conversion")
    assert run.exit == 0, run.output
    outcomes = run.outcomes()
    for target in ("safetensors-cpu", "gguf-cpu"):
        for gate in ServeGate:
            assert outcomes[f"{gate.item_name}-{target}"] == "Corroborated"
        for scenario in ("sum_1", "sum_2", "remembers"):
            assert outcomes[f"{scenario}-{target}-serve"] == "Corroborated"
    evidence = {item["id"].rsplit("::", 1)[-1]: item for item in run.record()["evidence"]}
    served = evidence["sum_1-gguf-cpu-serve"]
    assert served["engine"]["engine"].startswith("llama.cpp server")
    assert served["engine"]["device"] == "cpu"
    assert served["metrics"]["ttft_ms"] > 0
    assert evidence["sum_1-safetensors-cpu-serve"]["engine"]["engine"].startswith("transformers")
    stopped = evidence["serve_shutdown-safetensors-cpu"]
    assert (stopped["check"], stopped["modality"], stopped["severity"]) == ("serve", "serve", "P1")
    assert 0 < stopped["measurements"]["stop_seconds"] < 20
    assert evidence["serve_stream-gguf-cpu"]["verdicts"][0]["oracle"] == "serve_stream"
    assert run.card("gates") == "30 of 30 corroborated"
    assert run.card("scope").startswith("safetensors-cpu × run, chat, serve; gguf-cpu × run")


def test_one_serve_item_alone_starts_a_server(pytester: pytest.Pytester) -> None:
    run = qualify(pytester, "-n0", "-k", "serve_usage-gguf-cpu")
    assert run.exit == 0, run.output
    assert run.outcomes() == {"serve_usage-gguf-cpu": "Corroborated"}


def test_gates_are_selected_by_their_mark(pytester: pytest.Pytester) -> None:
    run = qualify(pytester, "--collect-only", "-q", "-m", "gate and gguf and serve and P0")
    names = [line.rsplit("::", 1)[-1] for line in run.result.outlines if "::" in line]
    assert names == [f"{gate.item_name}-gguf-cpu" for gate in ServeGate if gate.severity == "P0"]


@pytest.mark.parametrize(
    ("fault", "gate", "status"),
    [
        ("stream_chunk_lost", "serve_stream", "BLOCKED"),
        ("usage_total", "serve_usage", "PENDING"),
    ],
)
def test_a_planted_defect_of_a_server_is_falsified(
    pytester: pytest.Pytester, fault: str, gate: str, status: str
) -> None:
    server = Path(__file__).parents[1] / "openai_server.py"
    pytester.makeconftest(
        f"{WITHOUT_GATES}SERVER, FAULTS = {str(server)!r}, [{fault!r}]\n{SCRIPTED}"
    )
    wanted = "serve_health or serve_stream or serve_usage"
    run = qualify(pytester, "-n0", "-k", f"safetensors-cpu and ({wanted})")
    assert run.exit == 1, run.output
    outcomes = run.outcomes()
    assert outcomes.pop(f"{gate}-safetensors-cpu") == "Falsified", json.dumps(outcomes)
    assert set(outcomes.values()) == {"Corroborated"}
    assert "  asked    " in run.output
    assert f"reproduce: pytest -n0 model.playbook.yaml::safetensors-cpu::{gate}" in run.output
    assert run.card("MQS").endswith(f"status {status}")


def test_a_server_that_dies_in_a_gate_is_a_crash_and_fails_g3(pytester: pytest.Pytester) -> None:
    server = Path(__file__).parents[1] / "openai_server.py"
    kill = """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.name == "serve_usage-safetensors-cpu":
        from pytest_aprqa.plugin.station import station_of
        station = station_of(pyfuncitem.parent)
        station.server.process.kill()
        station.server.process.wait()
    return (yield)
"""
    pytester.makeconftest(f"{WITHOUT_GATES}SERVER, FAULTS = {str(server)!r}, []\n{SCRIPTED}{kill}")
    run = qualify(pytester, "-n0", "-m", "not conversion", formats="safetensors")
    assert run.exit == 1, run.output
    outcomes = run.outcomes()
    assert outcomes["serve_stream-safetensors-cpu"] == "Corroborated"
    assert outcomes["serve_usage-safetensors-cpu"] == "Crashed"
    assert outcomes["sum_1-safetensors-cpu-serve"] == "Blocked"
    assert "the log of the scripted server" in run.output
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
