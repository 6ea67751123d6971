"""A bench for the plugin: playbooks run in a subprocess against a scripted engine.

The script is a Python dict from question to answer (or to an exception's name), so that a whole
run costs a second and every failure can be staged. Real models are in test_real_model.py.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLAYBOOK = """\
version: "1.0"
model:
  id: "test/scripted"
  local_path: "model"
test_matrix:
  modalities: [run, chat]
  backends: [cpu]
  formats: [safetensors]
scenarios:
  - name: arithmetic_basic
    prompt: "What is 2 + 2?"
    oracle: arithmetic
  - name: arithmetic_more
    prompt: "What is 3 + 4?"
    oracle: arithmetic
  - name: capital
    prompt: "What is the capital of France?"
    oracle: contains
    expected: Paris
"""

INI = """\
[pytest]
filterwarnings = error
addopts = -p no:syrupy
"""

HEALTHY = {
    "What is 2 + 2?": "4",
    "What is 3 + 4?": "7",
    "What is the capital of France?": "The capital of France is Paris.",
    "*": "I do not know that yet, but here is a sentence.",
}

CONFTEST = """\
import json
import os
import signal
import time
from pathlib import Path

from pytest_aprqa.checks import gateways as gateway_checks
from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.gates import registry
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.domain.completion import Completion, FinishReason
from pytest_aprqa.domain.gate_plan import GateBook
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines import choice
from pytest_aprqa.engines.engine import (
    EngineCrashed,
    InvalidRequest,
    LoadFailed,
    NoChatTemplate,
)
from pytest_aprqa.plugin import subject

SCRIPT = json.loads((Path(__file__).parent / "script.json").read_text())


class ScriptedEngine:
    name, version, device = "scripted", "1", "cpu"
    context_length = 512
    has_chat_template = not SCRIPT.get("no template")

    def generate(self, request):
        if request.messages and not self.has_chat_template:
            raise NoChatTemplate("the model has no chat template: chat does not apply to it")
        question = request.prompt if request.prompt is not None else request.messages[-1].content
        answer = SCRIPT["answers"].get(question, SCRIPT["answers"]["*"])
        reason = FinishReason.STOP
        if answer == "!crash":
            raise EngineCrashed("RuntimeError: a layer broke", "  in forward")
        if answer == "!refuse":
            raise InvalidRequest("the model's chat template refuses the messages")
        if answer == "!timeout":
            answer, reason = "so far", FinishReason.TIMEOUT
        if answer == "!kill" and os.environ.get("PYTEST_XDIST_WORKER"):
            os.kill(os.getpid(), signal.SIGKILL)
        if answer == "!interrupt":
            raise KeyboardInterrupt
        if answer == "!hang":
            time.sleep(600)
        return Completion(answer, (1, 2, 3), 4, reason, 0.001, 0.003, 1 << 20, question)

    def describe(self):
        return {"engine": "scripted 1"}

    def close(self):
        if SCRIPT.get("log"):
            with open(SCRIPT["log"], "a") as stream:
                stream.write("close\\n")


def load_engine(target, path, *, threads=None, exact=False):
    if target.backend == "gpu" and SCRIPT.get("no device"):
        raise EngineUnavailable("torch finds no CUDA device")
    if SCRIPT.get("log"):
        with open(SCRIPT["log"], "a") as stream:
            stream.write(f"load {target.name}\\n")
    if SCRIPT.get("load fails"):
        raise LoadFailed("tensor model.norm.weight has no place in the architecture")
    return ScriptedEngine()


def check_integrity(target, directory, expectations, *, format_, quantization, given=None):
    ok = not SCRIPT.get("integrity fails")
    reason = "agreed" if ok else "config.json says 4 layers, the weights hold 3"
    result = GatewayResult(gateway=Gateway.G0, target=target, passed=ok, reason=reason)
    return result, directory


choice.load_engine = load_engine
choice.prefetch = lambda target, *, threads: None
choice._has_cuda_driver = lambda: bool(SCRIPT.get("driver"))
gateway_checks.check_integrity = check_integrity


def scripted_gates():
    # The real ones look into files and logits that this engine does not have.
    for name, (place, says) in SCRIPT.get("gates", {}).items():
        family = Family(
            domain="scripted", place=Place(place), cost=Cost.HEADERS, rung=Rung.TENSOR,
            section="trace_payload",
        )

        def check(lab, says=says):
            if says == "crash":
                raise EngineCrashed("RuntimeError: a layer broke", "  in forward")
            return Finding(Ruling(says), "as the script says", culprit="model.norm.weight")

        family.gate(name, f"{name} holds", severity=Severity.P0)(check)
        yield name, family.checks[0]


CHECKS = dict(scripted_gates())
subject.gate_book = lambda: GateBook(tuple(c.gate for c in CHECKS.values()))
registry.checks = lambda: CHECKS
"""


WITHOUT_GATES = """\
from pytest_aprqa.domain.gate_plan import GateBook
from pytest_aprqa.plugin import subject

subject.gate_book = GateBook
"""
"""A conftest.py that leaves the registry's gates out: most tests are about something else."""
WITH_GATES = ("test_sections", "test_given_files", "test_every_gate")


@pytest.fixture(autouse=True)
def _without_gates(request: pytest.FixtureRequest) -> None:
    """Leave the registry's gates out of the runs of all modules but a few."""
    module = request.module.__name__.rsplit(".", 1)[-1]
    if "pytester" in request.fixturenames and module not in WITH_GATES:
        pytester: pytest.Pytester = request.getfixturevalue("pytester")
        pytester.makeconftest(WITHOUT_GATES)


@dataclass
class Run:
    """One finished run: pytest's result and the evidence that it wrote."""

    result: pytest.RunResult
    root: Path

    @property
    def output(self) -> str:
        """All that pytest printed."""
        return self.result.stdout.str()

    @property
    def exit(self) -> int:
        """The exit status."""
        return int(self.result.ret)

    def record(self, playbook: str = "model") -> dict[str, Any]:
        """The `evidence.json` of the newest run."""
        newest = max((self.root / ".aprqa").iterdir(), key=lambda path: path.name)
        data: dict[str, Any] = json.loads((newest / playbook / "evidence.json").read_text())
        return data

    def outcomes(self, playbook: str = "model") -> dict[str, str]:
        """Outcome by item name."""
        return {
            item["id"].rsplit("::", 1)[-1]: item["outcome"]
            for item in self.record(playbook)["evidence"]
        }

    def card(self, label: str) -> str:
        """The text behind a label of the score card."""
        lines = [line for line in self.result.outlines if line.startswith(f"  {label} ")]
        assert lines, f"no {label!r} in:\n{self.output}"
        return lines[-1].removeprefix(f"  {label}").strip()


class Bench:
    """Writes playbooks and scripts, and runs pytest on them."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        (self.root / "model").mkdir()
        (self.root / "model" / "config.json").write_text("{}")
        pytester.makeconftest(CONFTEST)
        pytester.makefile(".ini", pytest=INI)
        self.playbook(PLAYBOOK)
        self.script()

    def playbook(self, text: str, name: str = "model") -> None:
        """Write a playbook."""
        path = self.root / f"{name}.playbook.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")

    def script(
        self,
        answers: Mapping[str, str] | None = None,
        *,
        faults: Mapping[str, bool] | None = None,
        log: str | None = None,
        gates: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """Say what the engine answers, over the healthy script, and what is broken."""
        script: dict[str, Any] = {
            "answers": {**HEALTHY, **(answers or {})},
            "log": log,
            **(faults or {}),
        }
        script["gates"] = gates or {}
        (self.root / "script.json").write_text(json.dumps(script))

    def run(self, *arguments: str, timeout: float = 120) -> Run:
        """Run pytest in a subprocess."""
        result = self.pytester.runpytest_subprocess(*arguments, timeout=timeout)
        return Run(result, self.root)


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench with a healthy model and a playbook of three scenarios, run and chat."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    return Bench(pytester)
