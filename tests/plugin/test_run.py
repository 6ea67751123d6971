"""Whole runs with a scripted engine: the same under every way of running."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from tests.plugin.conftest import Bench

MODES = {"serial": ["-n0"], "two workers": ["-n2"], "no xdist": ["-p", "no:xdist"]}


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> list[str]:
    return MODES[str(request.param)]


def test_a_healthy_model_passes_with_a_provisional_certificate_at_most(
    bench: Bench, mode: list[str]
) -> None:
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 0
    run.result.assert_outcomes(passed=11)
    assert set(run.outcomes().values()) == {"Corroborated"}
    assert run.card("MQS") == "800 / 1000   grade B   status PROVISIONAL"
    assert run.card("pass rate") == "6/6 = 100.0 %, [54.1%, 100.0%] exact 95 %"
    assert run.card("gateways") == "safetensors-cpu: G0 ok  G1 ok  G2 ok  G3 ok  G4 ok"
    assert run.card("coverage").startswith("6 of 6 planned items tried, 0 not")


def test_evidence_says_when_and_where_it_was_gathered(bench: Bench, mode: list[str]) -> None:
    record = bench.run("--tier=mvp", *mode).record()
    workers = {item["worker"] for item in record["evidence"]}
    assert workers <= ({"gw0", "gw1"} if mode == ["-n2"] else {"main"})
    times = [item["timestamp"] for item in record["evidence"]]
    assert all(record["started"] <= time <= record["finished"] for time in times)


def test_every_mode_reports_the_same_items_outcomes_and_score(bench: Bench) -> None:
    bench.script({"What is 3 + 4?": "8"})
    seen = []
    for arguments in MODES.values():
        run = bench.run("--tier=mvp", "-rA", *arguments)
        items = sorted(re.findall(r"^(?:PASSED|FAILED) (\S+)", run.output, re.MULTILINE))
        seen.append((run.exit, items, run.outcomes(), run.card("MQS"), run.card("pass rate")))
    assert len(seen[0][1]) == 11
    assert seen[0] == seen[1] == seen[2]


def test_a_wrong_answer_is_told_with_prompt_output_verdict_and_command(
    bench: Bench, mode: list[str]
) -> None:
    bench.script({"What is 3 + 4?": "It is 8."})
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 1
    assert run.outcomes()["arithmetic_more-safetensors-cpu-run"] == "Falsified"
    run.result.stdout.fnmatch_lines(
        [
            "Falsified: arithmetic: *8*",
            "  prompt   What is 3 + 4?",
            "  output   It is 8.",
            "  verdict  arithmetic: falsified: *",
            "  verdict  garbage: corroborated: *",
            "  reproduce: pytest -n0 model.playbook.yaml::safetensors-cpu::"
            "arithmetic_more-safetensors-cpu-run",
        ]
    )
    assert run.card("pass rate").startswith("4/6 = 66.6 %")
    assert run.card("MQS") == "466 / 1000   grade F   status BLOCKED"


def test_the_reproduction_command_runs_that_item_alone(bench: Bench) -> None:
    bench.script({"What is 3 + 4?": "It is 8."})
    run = bench.run(
        "-n0", "model.playbook.yaml::safetensors-cpu::arithmetic_more-safetensors-cpu-run"
    )
    run.result.assert_outcomes(failed=1)
    assert run.card("MQS") == "not scored   grade –   status PENDING"
    assert "partial run: 5 of 6 scenario items in scope have no evidence" in run.output


def test_a_selection_is_scored_as_partial(bench: Bench, mode: list[str]) -> None:
    run = bench.run("--tier=mvp", "-k", "chat and arithmetic", *mode)
    assert run.exit == 0
    run.result.assert_outcomes(passed=2, deselected=0 if mode == ["-n2"] else 9)
    assert run.card("MQS") == "not scored   grade –   status PENDING"
    assert run.card("coverage").startswith("2 of 6 planned items tried, 4 not")


@pytest.mark.parametrize(
    ("expression", "passed"),
    [
        ("P0", 5),
        ("chat", 3),
        ("cpu and run and not gateway", 3),
        ("aprqa(modality='chat', scenario='capital')", 1),
        ("mvp", 11),
        ("gguf", 0),
    ],
)
def test_marks_select(bench: Bench, expression: str, passed: int) -> None:
    run = bench.run("-n0", "--tier=mvp", "-m", expression, "--strict-markers")
    assert run.result.parseoutcomes().get("passed", 0) == passed


def test_last_failed_runs_what_failed(bench: Bench) -> None:
    bench.script({"What is 3 + 4?": "8"})
    bench.run("-n0", "--tier=mvp")
    again = bench.run("-n0", "--tier=mvp", "--lf")
    again.result.assert_outcomes(failed=2)


def test_every_node_id_is_unique_and_names_its_cell(bench: Bench) -> None:
    run = bench.run("--collect-only", "-q")
    ids = [line for line in run.result.outlines if "::" in line]
    assert len(ids) == len(set(ids)) == 11
    assert "model.playbook.yaml::safetensors-cpu::g0_integrity-safetensors-cpu" in ids
    assert "model.playbook.yaml::safetensors-cpu::capital-safetensors-cpu-chat" in ids


def test_collecting_writes_nothing_and_prints_no_card(bench: Bench) -> None:
    run = bench.run("--collect-only", "-q")
    assert run.exit == 0
    assert not (bench.root / ".aprqa").exists()
    assert "MQS" not in run.output


def test_fixtures_are_documented(bench: Bench) -> None:
    run = bench.run("--fixtures", "model.playbook.yaml")
    run.result.stdout.fnmatch_lines(
        ["g0_integrity [[]session scope[]]*", "    G0: config, tokenizer and tensors *"]
    )


def test_help_explains_every_option(bench: Bench) -> None:
    run = bench.run("--help")
    for option in ("--tier", "--aprqa-model", "--aprqa-download", "--aprqa-gate"):
        assert option in run.output


def test_junit_carries_the_facts(bench: Bench, mode: list[str]) -> None:
    bench.script({"What is 3 + 4?": "\x1b[31m8\x00 \u00e9"})
    bench.run("--tier=mvp", "--junitxml=junit.xml", *mode)
    tree = ElementTree.parse(bench.root / "junit.xml")
    case = tree.find(".//testcase[@name='arithmetic_more-safetensors-cpu-run']")
    assert case is not None
    facts = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert facts["aprqa.outcome"] == "Falsified"
    assert facts["aprqa.output"] == "\\x1b[31m8\\x00 \u00e9"
    assert facts["aprqa.completion_tokens"] == "3"


def test_the_item_points_at_its_line_of_the_playbook(bench: Bench) -> None:
    bench.run("-n0", "--junitxml=junit.xml", "-o", "junit_family=xunit1")
    tree = ElementTree.parse(bench.root / "junit.xml")
    case = tree.find(".//testcase[@name='capital-safetensors-cpu-run']")
    assert case is not None
    line = int(case.get("line", "0")) + 1  # JUnit counts from 0
    text = (bench.root / "model.playbook.yaml").read_text().splitlines()[line - 1]
    assert "name: capital" in text


def test_one_load_for_each_target(bench: Bench) -> None:
    bench.script(log=str(bench.root / "log"))
    bench.run("-n2", "--tier=mvp")
    assert (bench.root / "log").read_text().splitlines() == ["load safetensors-cpu", "close"]


@pytest.mark.parametrize(
    ("faults", "passed", "reason"),
    [
        ({}, 11, "no CUDA device"),
        # A driver, but a torch without CUDA: only loading tells, after G0.
        ({"driver": True, "no device": True}, 12, "torch finds no CUDA device"),
    ],
    ids=["no driver", "no device"],
)
def test_gpu_items_are_skipped_and_named_where_there_is_no_device(
    bench: Bench, mode: list[str], faults: dict[str, bool], passed: int, reason: str
) -> None:
    text = (bench.root / "model.playbook.yaml").read_text()
    bench.playbook(text.replace("[cpu]", "[cpu, gpu]"))
    bench.script(faults=faults)
    run = bench.run("--tier=mvp", *mode)
    assert run.exit == 0
    run.result.assert_outcomes(passed=passed, skipped=22 - passed)
    assert run.card("left out") == f"safetensors-gpu × run, chat: {reason}"
    assert run.card("MQS") == "800 / 1000   grade B   status PENDING"


def test_a_skip_by_a_users_mark_is_no_excuse(bench: Bench) -> None:
    conftest = (bench.root / "conftest.py").read_text()
    bench.pytester.makeconftest(
        conftest
        + """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("capital"):
            item.add_marker(pytest.mark.skip(reason="inconvenient"))
"""
    )
    run = bench.run("-n0", "--tier=mvp")
    assert run.card("MQS") == "not scored   grade –   status PENDING"
    assert "partial run: 2 of 6 scenario items in scope have no evidence" in run.output


def test_playbooks_of_like_names_keep_their_evidence_apart(bench: Bench) -> None:
    text = (bench.root / "model.playbook.yaml").read_text().replace('"model"', '"../model"')
    (bench.root / "model.playbook.yaml").unlink()
    for directory, name in (("a-b", "q"), ("a", "b-q")):
        (bench.root / directory).mkdir()
        bench.playbook(text, name=f"{directory}/{name}")
    run = bench.run("-n0", "--tier=mvp")
    assert run.exit == 0
    assert run.record("a-b/q")["playbook"]["path"] == "a-b/q.playbook.yaml"
    assert run.record("a/b-q")["playbook"]["path"] == "a/b-q.playbook.yaml"


@pytest.mark.parametrize("how", ["-n0", "-n2"])
@pytest.mark.parametrize("given", ["model.playbook.yaml", "."])
def test_a_playbook_outside_the_root_directory_has_its_evidence(
    bench: Bench, how: str, given: str
) -> None:
    root = bench.root / "elsewhere"
    root.mkdir()
    run = bench.run(str(bench.root / given), f"--rootdir={root}", how, "--tier=mvp")
    assert run.exit == 0
    assert run.card("MQS").startswith("800 / 1000")
    (found,) = root.glob(".aprqa/*/up/model/evidence.json")
    record = json.loads(found.read_text(encoding="utf-8"))
    assert record["playbook"]["path"] == "../model.playbook.yaml"
    assert all(e["id"].startswith("../model.playbook.yaml::") for e in record["evidence"])


def test_a_narrowing_option_is_named_and_certifies_nothing(bench: Bench) -> None:
    run = bench.run("-n0", "--tier=mvp", "--aprqa-modality=run")
    assert run.exit == 0
    assert run.card("scope") == "safetensors-cpu × run"
    assert run.card("left out") == "chat: left out by --aprqa-modality run"
    assert run.card("MQS") == "800 / 1000   grade B   status PENDING"


def test_a_directory_of_ones_own_is_not_recorded_under_the_playbooks_model(bench: Bench) -> None:
    (bench.root / "model").rename(bench.root / "mine")
    run = bench.run("-n0", "--tier=mvp", "--aprqa-model", "mine")
    assert run.exit == 0
    assert run.record()["model"]["id"] == "local/mine"
    assert run.card("model") == "local/mine @ none"


def test_without_a_tier_the_run_is_feedback(bench: Bench) -> None:
    run = bench.run("-n0")
    assert run.card("MQS") == "200 / 1000   grade –   status PENDING"
    assert "a run without --tier is feedback and certifies nothing" in run.output


def test_a_model_that_cannot_be_served_fails_one_gate_and_passes_none(bench: Bench) -> None:
    """The scripted engine answers, but its directory holds no model that a server could load."""
    text = (bench.root / "model.playbook.yaml").read_text()
    bench.playbook(text.replace("[run, chat]", "[run, serve]"))
    run = bench.run("-n0", "--tier=mvp", "-o", "aprqa_hang_grace=60")
    assert run.exit == 1
    outcomes = run.outcomes()
    assert outcomes.pop("serve_health-safetensors-cpu") == "Falsified"
    served = {name: found for name, found in outcomes.items() if "serve" in name}
    assert len(served) == 14 + 3
    assert set(served.values()) == {"Blocked"}
    assert "the server does not get ready: " in run.output
    assert run.card("MQS").endswith("status BLOCKED")


def test_a_quantization_that_a_format_lacks_is_skipped_with_its_reason(bench: Bench) -> None:
    text = (bench.root / "model.playbook.yaml").read_text()
    text = text.replace("formats: [safetensors]", "formats: [apr]")
    bench.playbook(text.replace('"model"\n', '"model"\n  quantizations: [q5_k_m, q8_0]\n'))
    run = bench.run("-n0", "--tier=mvp", "-m", "not conversion")
    run.result.assert_outcomes(passed=11, skipped=11)
    told = "apr-q5_k_m-cpu × run, chat: APR has no q5_k_m that all its readers understand; "
    assert run.card("left out").startswith(told)
    skipped = [e for e in run.record()["evidence"] if e["outcome"] == "Skipped"]
    assert len(skipped) == 6
    assert all(e["excused"] and e["quantization"] == "q5_k_m" for e in skipped)


def test_a_model_without_template_does_not_chat(bench: Bench) -> None:
    bench.script(faults={"no template": True})
    run = bench.run("-n0", "--tier=mvp")
    run.result.assert_outcomes(passed=8, skipped=3)
    assert run.card("left out").startswith("safetensors-cpu × chat: the model has no chat template")


def test_quiet_and_verbose_keep_pytests_own_way(bench: Bench) -> None:
    verbose = bench.run("-n0", "-v", "--tier=mvp").output
    assert "capital-safetensors-cpu-run PASSED" in verbose
    assert "G0✓" not in verbose


def test_ordinary_tests_beside_playbooks_are_untouched(bench: Bench, mode: list[str]) -> None:
    bench.pytester.makepyfile("def test_one(): pass\ndef test_two(): pass\n")
    run = bench.run("--tier=mvp", *mode)
    run.result.assert_outcomes(passed=13)


def test_a_run_without_playbooks_leaves_nothing_behind(bench: Bench, mode: list[str]) -> None:
    (bench.root / "model.playbook.yaml").unlink()
    bench.pytester.makepyfile("def test_one(): pass\n")
    run = bench.run(*mode)
    assert run.exit == 0
    assert not (bench.root / ".aprqa").exists()
    assert "aprqa:" not in run.output


def test_pytest_html_shows_the_items(bench: Bench) -> None:
    run = bench.run("-n0", "--tier=mvp", "--html=report.html", "--self-contained-html")
    assert run.exit == 0
    assert "capital-safetensors-cpu-run" in (bench.root / "report.html").read_text()
