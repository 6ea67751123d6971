"""Fault drills on the real model: each ends with the right outcome and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.plugin.conftest import INI, WITHOUT_GATES

MODEL = Path(str(resources.files("pytest_aprqa"))) / "models" / "aprqa-tiny"
MARK = "APRQA_DRILL"
PLAYBOOK = """\
version: "1.0"
model: {{id: "drill/model", local_path: model}}
test_matrix: {{modalities: [{modalities}], backends: [cpu], formats: [{formats}]}}
failure_policy: collect_all
scenarios:
  - {{name: first, prompt: "What is 2 + 2?", oracle: arithmetic}}
  - {{name: second, prompt: "What is 3 + 5?", oracle: arithmetic}}
  - {{name: third, prompt: "What is 9 - 4?", oracle: arithmetic}}
"""
# A fault is planted before the second scenario of the cell that is named in FAULT.
CONFTEST = """
import os, signal, threading, time
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.name == os.environ["FAULT_AT"]:
        from pytest_aprqa.plugin.station import station_of
        fault(pyfuncitem, station_of(pyfuncitem.parent))
    return (yield)

def child_of(station):
    return station.engine.engine.child_pid
"""


@dataclass
class Drill:
    """A directory with a model and a playbook, and runs of pytest that can be told from others."""

    root: Path
    mark: str

    def playbook(self, *modalities: str, formats: str = "safetensors") -> None:
        text = PLAYBOOK.format(modalities=", ".join(modalities), formats=formats)
        (self.root / "model.playbook.yaml").write_text(text)
        if not (self.root / "conftest.py").exists():
            (self.root / "conftest.py").write_text(WITHOUT_GATES)

    def fault(self, body: str) -> None:
        """What happens: the body of `fault(item, station)`."""
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (self.root / "conftest.py").write_text(
            f"{WITHOUT_GATES}{CONFTEST}\ndef fault(item, station):\n{lines}"
        )

    def start(self, *arguments: str, at: str = "") -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "--tier=mvp", "-m", "not conversion", *arguments],
            cwd=self.root,
            env={**environment, MARK: self.mark, "FAULT_AT": at, "TMPDIR": str(self.root / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, at: str = "") -> tuple[int, str]:
        """The exit status and all output of a finished run."""
        process = self.start(*arguments, at=at)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The evidence of the newest run by item name."""
        newest = max((self.root / ".aprqa").iterdir(), key=lambda path: path.name)
        evidence = json.loads((newest / "model" / "evidence.json").read_text())["evidence"]
        return {item["id"].rsplit("::", 1)[-1]: item for item in evidence}

    def left_behind(self) -> list[str]:
        """Processes of the run that are still there, and temporary files of ours."""
        deadline = time.monotonic() + 10
        while (found := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(0.05)
        ours = (path.name for path in (self.root / "tmp").iterdir())
        return found + [name for name in ours if name.startswith("aprqa")]

    def _processes(self) -> Iterator[str]:
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != "zombie":
                    yield " ".join(process.cmdline())
            except psutil.Error:
                continue


@pytest.fixture
def drill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drill:
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "drill"
    (root / "tmp").mkdir(parents=True)
    shutil.copytree(MODEL, root / "model")
    (root / "pytest.ini").write_text(INI)
    return Drill(root, uuid.uuid4().hex)


KILL = """
def kill():
    os.kill(child_of(station), signal.{signal})
os.kill(child_of(station), signal.SIGSTOP)  # so that it is in the middle of it
threading.Timer(0.3, kill).start()
threading.Timer(0.4, lambda: os.kill(child_of(station), signal.SIGCONT)).start()
"""


@pytest.mark.parametrize(
    ("format_", "name"), [("safetensors", "SIGSEGV"), ("gguf", "SIGABRT"), ("gguf", "SIGKILL")]
)
@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_an_engine_that_is_killed_in_mid_generation_is_a_crash(
    drill: Drill, format_: str, name: str, mode: str
) -> None:
    formats = "safetensors" if format_ == "safetensors" else "safetensors, gguf"
    drill.playbook("run", formats=formats)
    drill.fault(KILL.format(signal=name))
    at = f"second-{format_}-cpu-run"
    status, output = drill.run(mode, f"--aprqa-format={format_}", at=at)
    assert status == 1, output
    crashed = drill.outcomes()[at]
    assert crashed["outcome"] == "Crashed", output
    assert f"died of {name}" in crashed["reason"]
    assert "MQS          0 / 1000   grade F   status BLOCKED" in output
    assert drill.left_behind() == []


HANG = """
os.kill(child_of(station), signal.SIGSTOP)
"""


def test_an_engine_that_never_answers_is_a_timeout_with_its_stack(drill: Drill) -> None:
    drill.playbook("run")
    text = (drill.root / "model.playbook.yaml").read_text()
    short = text.replace("backends: [cpu]", "backends: [cpu], timeout_ms: 500")
    (drill.root / "model.playbook.yaml").write_text(short)
    drill.fault(
        f"from pytest_aprqa.engines import hosted_engine\nhosted_engine.GRACE_S = 0.5\n"
        f"hosted_engine.PROMPT_TIMEOUT_S = 0.5\n{HANG.strip()}"
    )
    at = "second-safetensors-cpu-run"
    status, output = drill.run("-n0", at=at)
    assert status == 1, output
    late = drill.outcomes()[at]
    assert late["outcome"] == "Timeout", output
    assert late["reason"] == "transformers hangs: no answer within 0.5 s; it was killed"
    assert "torch_child.py" in late["diagnosis"]
    assert drill.outcomes()["third-safetensors-cpu-run"]["outcome"] == "Corroborated"
    assert drill.left_behind() == []


def test_a_model_that_is_deleted_in_mid_run_fails_the_next_target(drill: Drill) -> None:
    drill.playbook("run", formats="safetensors, gguf")
    drill.fault("import shutil\nshutil.rmtree(item.subject.directory)")
    status, output = drill.run("-n0", at="second-safetensors-cpu-run")
    assert status == 1, output
    outcomes = drill.outcomes()
    assert outcomes["third-safetensors-cpu-run"]["outcome"] == "Corroborated", output
    assert outcomes["first-gguf-cpu-run"]["outcome"] == "Blocked"
    assert "G0 of gguf-cpu" in output
    assert "INTERNALERROR" not in output
    assert drill.left_behind() == []


def test_a_server_that_is_killed_in_mid_run_is_a_crash(drill: Drill) -> None:
    drill.playbook("run", "serve")
    drill.fault("os.kill(station.server.pid, signal.SIGKILL)")
    at = "second-safetensors-cpu-serve"
    status, output = drill.run("-n0", "-k", "g0 or serve and (first or second or third)", at=at)
    assert status == 1, output
    crashed = drill.outcomes()[at]
    assert crashed["outcome"] == "Crashed", output
    assert "the connection broke" in crashed["reason"]
    assert drill.left_behind() == []


def test_a_server_that_never_gets_healthy_fails_its_gate_and_blocks_the_rest(drill: Drill) -> None:
    drill.playbook("run", "serve")
    drill.fault(
        "from pytest_aprqa.plugin import serving\nserving.READY_S = 1.0\n"
        "os.kill(station.server.pid, signal.SIGSTOP)"
    )
    # The server has just been started when the first scenario is asked.
    status, output = drill.run("-n0", at="first-safetensors-cpu-run")
    assert status == 1, output
    outcomes = drill.outcomes()
    health = outcomes["serve_health-safetensors-cpu"]
    assert health["outcome"] == "Falsified", output
    assert "the server was not healthy after 1 s and was killed" in health["reason"]
    assert outcomes["serve_stream-safetensors-cpu"]["outcome"] == "Blocked"
    assert outcomes["second-safetensors-cpu-serve"]["outcome"] == "Blocked"
    assert outcomes["third-safetensors-cpu-run"]["outcome"] == "Corroborated"
    assert drill.left_behind() == []


WAIT = """
open("waiting", "w").close()
time.sleep(120)
"""


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_everything(drill: Drill, mode: str, times: int) -> None:
    drill.playbook("run", "serve")
    drill.fault(WAIT)
    process = drill.start(mode, at="second-safetensors-cpu-run")
    _until(lambda: (drill.root / "waiting").exists())
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)  # the second one must not be merged with the first
    output, _ = process.communicate(timeout=60)
    # A second interrupt may come while pytest tidies up; Python then ends of the signal itself.
    assert process.returncode in ({2} if times == 1 else {2, -signal.SIGINT}), output
    assert drill.outcomes()["first-safetensors-cpu-run"]["outcome"] == "Corroborated"
    assert drill.left_behind() == []


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_a_run_that_is_killed_leaves_no_engine_and_no_server(drill: Drill, mode: str) -> None:
    drill.playbook("run", "serve")
    drill.fault(WAIT)
    process = drill.start(mode, at="second-safetensors-cpu-run")
    _until(lambda: (drill.root / "waiting").exists())
    process.kill()
    process.communicate(timeout=60)
    # A directory may be left, which nobody could remove; the next run does.
    assert [entry for entry in drill.left_behind() if not entry.startswith("aprqa-scratch-")] == []


def _until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the run never came to the fault"
        time.sleep(0.02)
