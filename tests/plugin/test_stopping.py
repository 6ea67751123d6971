"""What stops the line, and what is then said of everything that did not run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.plugin.conftest import PLAYBOOK, Bench
from tests.plugin.test_run import MODES

GATEWAY_FAULTS: dict[str, tuple[dict[str, str], dict[str, bool], str]] = {
    "G0": ({}, {"integrity fails": True}, "config.json says 4 layers, the weights hold 3"),
    "G1": ({}, {"load fails": True}, "tensor model.norm.weight has no place"),
    "G2": ({"Hello": "  "}, {}, "1 of 6 answers are empty, the first to 'Hello'"),
    "G2 refused": ({"Hello": "!refuse"}, {}, "the model cannot be asked 'Hello': the model's chat"),
    "G3": ({" ": "!crash"}, {}, "the engine crashed on ' ': RuntimeError: a layer broke"),
    "G4": ({"*": "the the the the the the the the the the the the"}, {}, "answers are garbage"),
}


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> list[str]:
    return MODES[str(request.param)]


@pytest.mark.parametrize("fault", GATEWAY_FAULTS)
def test_a_failed_gateway_zeroes_the_score_and_blocks_the_rest(
    bench: Bench, mode: list[str], fault: str
) -> None:
    answers, faults, reason = GATEWAY_FAULTS[fault]
    gateway = fault[:2]
    bench.script(answers, faults=faults)
    run = bench.run("--tier=mvp", *mode)
    number = int(gateway[1])
    assert run.exit == 1
    counts = run.result.parseoutcomes()
    assert counts.get("passed", 0) == number
    assert counts["failed"] == 1
    assert counts["blocked"] == 11 - number - 1
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
    assert set(run.outcomes().values()) == {"Blocked"}
    assert f"{gateway} of safetensors-cpu" in run.output
    assert reason in run.output
    marks = run.card("gateways").split(": ", 1)[1].split("  ")
    assert marks == [
        *[f"G{n} ok" for n in range(number)],
        f"{gateway} FAIL",
        *[f"G{n} not run" for n in range(number + 1, 5)],
    ]
    assert run.record()["stopped"].startswith(f"{gateway} of safetensors-cpu: ")


def test_without_xdist_the_session_ends_by_pytest_exit(bench: Bench) -> None:
    bench.script(faults={"load fails": True})
    run = bench.run("-n0", "--tier=mvp")
    assert "Exit: the line is stopped by G1 of safetensors-cpu: tensor model.norm" in run.output


def test_a_stop_covers_every_playbook_and_a_block_only_its_own(bench: Bench) -> None:
    bench.playbook(PLAYBOOK, name="other")
    bench.script(faults={"load fails": True})
    stopped = bench.run("-n0", "--tier=mvp")
    assert stopped.result.parseoutcomes() | {"time": 0} == {
        "passed": 1,
        "failed": 1,
        "blocked": 20,
        "time": 0,
    }
    blocked = bench.run("-n0", "--tier=mvp", "--aprqa-gate=block")
    assert blocked.result.parseoutcomes() | {"time": 0} == {
        "passed": 2,
        "failed": 2,
        "blocked": 18,
        "time": 0,
    }


def test_a_gateway_that_was_not_selected_still_stands_before_the_scenarios(
    bench: Bench, mode: list[str]
) -> None:
    bench.script(faults={"load fails": True})
    run = bench.run("--tier=mvp", "-k", "capital", *mode)
    assert run.exit == 1
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
    assert set(run.outcomes().values()) == {"Blocked"}


def test_a_crash_in_a_scenario_fails_g3_and_stops(bench: Bench, mode: list[str]) -> None:
    bench.script({"What is 3 + 4?": "!crash"})
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 1
    outcomes = run.outcomes()
    assert outcomes["arithmetic_basic-safetensors-cpu-run"] == "Corroborated"
    assert outcomes["arithmetic_more-safetensors-cpu-run"] == "Crashed"
    assert list(outcomes.values()).count("Blocked") == 4
    assert "G3 FAIL" in run.card("gateways")
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"


def test_a_timeout_is_an_outcome_and_not_a_pass(bench: Bench, mode: list[str]) -> None:
    bench.script({"What is 3 + 4?": "!timeout"})
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 1
    assert run.outcomes()["arithmetic_more-safetensors-cpu-run"] == "Timeout"
    assert run.card("pass rate").startswith("4/6")
    assert "no complete answer within 60000 ms; 3 tokens were generated" in run.output


def test_stop_on_first_blocks_the_playbook_after_one_falsification(bench: Bench) -> None:
    bench.playbook(PLAYBOOK + "failure_policy: stop_on_first\n")
    bench.script({"What is 2 + 2?": "5"})
    run = bench.run("-n0", "--tier=mvp")
    outcomes = list(run.outcomes().values())
    assert outcomes == ["Falsified", *["Blocked"] * 5]
    assert run.card("pass rate").startswith("0/6")
    assert "failure_policy stop_on_first: arithmetic_basic-safetensors-cpu-run was" in run.output


@pytest.mark.parametrize(("policy", "blocked"), [("stop_on_p0", 5), ("collect_all", 0)])
def test_a_falsified_p0_blocks_the_model_whatever_the_policy(
    bench: Bench, policy: str, blocked: int
) -> None:
    text = PLAYBOOK.replace(
        "    oracle: arithmetic\n", "    oracle: arithmetic\n    severity: P0\n", 1
    )
    bench.playbook(text + f"failure_policy: {policy}\n")
    bench.script({"What is 2 + 2?": "5"})
    run = bench.run("-n0", "--tier=mvp")
    assert list(run.outcomes().values()).count("Blocked") == blocked
    assert run.card("MQS").endswith("grade F   status BLOCKED")


def test_a_killed_worker_is_a_crash_and_nothing_is_lost(bench: Bench) -> None:
    bench.script({"What is 3 + 4?": "!kill"})
    run = bench.run("-n2", "--tier=mvp")
    assert run.exit == 1
    outcomes = run.outcomes()
    assert len(outcomes) == 6
    assert {e["worker"][:2] for e in run.record()["evidence"]} == {"gw"}
    assert outcomes["arithmetic_basic-safetensors-cpu-run"] == "Corroborated"
    assert outcomes["arithmetic_more-safetensors-cpu-run"] == "Crashed"
    assert list(outcomes.values()).count("Blocked") == 4
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
    assert "the worker died while running arithmetic_more-safetensors-cpu-run" in run.output
    assert "INTERNALERROR" not in run.output


def test_a_worker_killed_in_a_gateway_fails_the_gateway(bench: Bench) -> None:
    bench.script({" ": "!kill"})
    run = bench.run("-n2", "--tier=mvp")
    assert run.exit == 1
    assert set(run.outcomes().values()) == {"Blocked"}
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"


@pytest.mark.parametrize("arguments", [["-n0"], ["-n2"]])
def test_ctrl_c_leaves_a_true_report_and_no_process(bench: Bench, arguments: list[str]) -> None:
    bench.script({"What is the capital of France?": "!hang"}, log=str(bench.root / "log"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--tier=mvp", *arguments],
        cwd=bench.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _wait_until_hanging(bench)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "MQS          not scored   grade –   status PENDING" in output
    assert "the run was interrupted" in output
    newest = max((bench.root / ".aprqa").iterdir())
    record = json.loads((newest / "model" / "evidence.json").read_text())
    assert record["interrupted"]
    assert [e["outcome"] for e in record["evidence"]] == ["Corroborated", "Corroborated"]
    with pytest.raises(ProcessLookupError):  # the whole process group is gone
        os.killpg(process.pid, 0)


def test_a_killed_run_keeps_what_it_had(bench: Bench) -> None:
    bench.script({"What is the capital of France?": "!hang"})
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--tier=mvp", "-n0"],
        cwd=bench.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_until_hanging(bench)
    process.kill()
    process.wait(timeout=30)
    [journal] = bench.root.glob(".aprqa/*/model/evidence.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [x["evidence"]["outcome"] for x in lines if "evidence" in x] == ["Corroborated"] * 2


def test_pytest_timeout_ends_a_hanging_engine(bench: Bench) -> None:
    text = (bench.root / "model.playbook.yaml").read_text()
    bench.playbook(text.replace("test_matrix:\n", "test_matrix:\n  timeout_ms: 100\n"))
    bench.script({"What is the capital of France?": "!hang"})
    run = bench.run("-n0", "--tier=mvp", "-o", "aprqa_hang_grace=0.2")
    assert run.exit == 1
    assert run.outcomes()["capital-safetensors-cpu-run"] == "Timeout"
    assert run.outcomes()["capital-safetensors-cpu-chat"] == "Timeout"


def test_a_limit_given_to_pytest_timeout_stands(bench: Bench) -> None:
    bench.script({"What is the capital of France?": "!hang"})
    run = bench.run("-n0", "--tier=mvp", "--timeout=2")
    assert run.exit == 1
    assert run.outcomes()["capital-safetensors-cpu-run"] == "Timeout"


def test_a_playbook_without_weights_is_one_skipped_item_and_no_success(bench: Bench) -> None:
    text = (bench.root / "model.playbook.yaml").read_text()
    bench.playbook(text.replace('  local_path: "model"\n', ""))
    run = bench.run("-n0", "--tier=mvp", "-rs")
    assert run.exit == 5
    run.result.assert_outcomes(skipped=1)
    assert "run with --aprqa-download, or `hf download test/scripted" in run.output
    assert "not qualified: model.playbook.yaml" in run.output


def test_a_record_that_contradicts_itself_is_written_but_not_scored(bench: Bench) -> None:
    conftest = (bench.root / "conftest.py").read_text()
    bench.pytester.makeconftest(
        conftest
        + """
from pytest_aprqa.domain import mqs
from pytest_aprqa.domain.errors import AprqaError

def score_run(record):
    raise AprqaError("evidence of x::y: severity P1, planned as P0")

mqs.score_run = score_run
"""
    )
    run = bench.run("-n0", "--tier=mvp")
    assert run.exit == 1
    assert "  not scored: evidence of x::y: severity P1, planned as P0" in run.result.outlines
    assert len(run.outcomes()) == 6


@pytest.mark.parametrize("arguments", [["-n0"], ["-n2"]])
def test_a_download_that_fails_is_told_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("HF_HOME", str(bench.root / "hub"))
    text = (bench.root / "model.playbook.yaml").read_text()
    bench.playbook(text.replace('  local_path: "model"\n', ""))
    run = bench.run("--tier=mvp", "--aprqa-download", "-rs", *arguments)
    assert run.exit == 5
    run.result.assert_outcomes(skipped=1)
    assert "test/scripted" in run.output
    assert "Traceback" not in run.output


def test_a_broken_playbook_is_one_error_and_hides_no_other(bench: Bench) -> None:
    bench.playbook("model: {}\nsurprise: 1\n", name="broken")
    run = bench.run("-n0", "--tier=mvp", "--continue-on-collection-errors")
    counts = run.result.parseoutcomes()
    assert (counts["errors"], counts["passed"]) == (1, 11)
    assert "broken.playbook.yaml:2: surprise: unknown key" in run.output
    assert "Traceback" not in run.output


def test_an_oracle_that_cannot_judge_its_question_is_an_error_at_collection(bench: Bench) -> None:
    bench.playbook(PLAYBOOK.replace("What is 3 + 4?", "How are you?"))
    run = bench.run("-n0", "--tier=mvp")
    assert run.exit == 2
    assert "model.playbook.yaml:15: scenarios[1].oracle: " in run.output


def test_a_directory_that_is_not_there_is_a_usage_error(bench: Bench) -> None:
    run = bench.run("--aprqa-model", "nowhere")
    assert run.exit == 4
    run.result.stderr.fnmatch_lines(["ERROR: --aprqa-model: *nowhere is not a directory; give *"])


def test_a_tier_without_a_cell_says_so(bench: Bench) -> None:
    bench.playbook(PLAYBOOK.replace("[run, chat]", "[chat]"))
    run = bench.run("-n0", "--tier=smoke")
    assert run.exit == 5
    assert "tier smoke has no cell in this playbook's matrix" in run.output


def _wait_until_hanging(bench: Bench, limit_s: float = 60) -> None:
    """Wait for two answers in the journal: the engine is then in the third question."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for journal in bench.root.glob(".aprqa/*/model/evidence.jsonl"):
            if journal.read_text().count('"evidence"') >= 2:
                return
        time.sleep(0.02)
    raise AssertionError("the run never got to the third question")


FULL = """
import errno
from pytest_aprqa.plugin import ledger

written = ledger.append_line
lines = []

def append_line(directory, payload):
    lines.append(payload)
    if len(lines) > 7:  # five gateways and two scenarios fit
        raise OSError(errno.ENOSPC, "No space left on device")
    written(directory, payload)

ledger.append_line = append_line
"""


def test_a_full_disk_stops_the_line_and_is_no_pass(bench: Bench, mode: list[str]) -> None:
    bench.pytester.makeconftest(f"{(bench.root / 'conftest.py').read_text()}{FULL}")
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 1
    assert "INTERNALERROR" not in run.output
    told = "not scored: evidence cannot be written to "
    assert told in run.output
    assert "No space left on device; make room, or name another place with --aprqa-report" in (
        run.output
    )
    (journal,) = bench.root.glob(".aprqa/*/model/evidence.jsonl")
    assert len(journal.read_text().splitlines()) == 7
    assert not journal.with_name("evidence.json").exists()
