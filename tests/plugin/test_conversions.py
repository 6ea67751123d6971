"""Conversions as items: of the embedded model for real, and scripted where they go wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from tests.plugin.conftest import CONFTEST, INI, PLAYBOOK, WITHOUT_GATES, Bench, Run
from tests.plugin.test_run import MODES

TWO_FORMATS = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [run], backends: [cpu], formats: [safetensors, gguf]}
failure_policy: collect_all
scenarios:
  - {name: sum, prompt: "What is 2 + 2?", oracle: arithmetic}
  - {name: capital, prompt: "The capital of France is", oracle: garbage}
"""
CONVERSIONS = [
    "convert-safetensors-gguf",
    "convert-gguf-safetensors",
    "round_trip-safetensors-gguf",
    "round_trip-gguf-safetensors",
    "idempotent-safetensors-gguf",
    "idempotent-gguf-safetensors",
    "golden-safetensors-gguf",
]
SCRIPTED = """

import pytest_aprqa.checks.conversion as conversion
from pytest_aprqa.checks.conversion_evidence import blank_conversion
from pytest_aprqa.domain.evidence import Outcome, VerdictRecord
from pytest_aprqa.domain.verdict import Ruling


def try_conversion(case, bench, item_id):
    fate = SCRIPTED.get(case.item_name, "Corroborated")
    if fate == "!kill" and os.environ.get("PYTEST_XDIST_WORKER"):
        os.kill(os.getpid(), signal.SIGKILL)
    rulings = {"Corroborated": Ruling.CORROBORATED, "Falsified": Ruling.FALSIFIED}
    verdicts = [
        VerdictRecord(oracle="tensors", ruling=rulings[fate], reason="as scripted")
    ] if fate in rulings else []
    evidence = blank_conversion(case, item_id, Outcome(fate), "tensors: as scripted")
    return evidence.model_copy(update={"verdicts": tuple(verdicts)})


conversion.try_conversion = try_conversion
"""
DAMAGED = """\
import numpy
from pytest_aprqa.checks.conversion_bench import ConversionBench

honest = ConversionBench.step


def step(bench, path, format_, space, quantization=None):
    made = honest(bench, path, format_, space, quantization)
    if format_ == "gguf":
        data = bytearray(made.read_bytes())
        data[-4096] ^= 0x10  # in the last tensor
        made.write_bytes(data)
    return made


ConversionBench.step = step
"""
Qualify = Callable[..., Run]


@pytest.fixture
def qualify(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Qualify:
    """Runs the embedded model's conversions for real."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.setenv("APRQA_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(TWO_FORMATS)

    def run(*arguments: str) -> Run:
        result = pytester.runpytest_subprocess("--tier=mvp", *arguments, timeout=300)
        return Run(result, pytester.path)

    return run


@pytest.fixture
def scripted(bench: Bench) -> Callable[..., Run]:
    """Runs a scripted model with scripted conversions of it."""

    def run(*arguments: str, policy: str = "collect_all", **fates: str) -> Run:
        text = PLAYBOOK.replace("[safetensors]", "[safetensors, gguf]")
        bench.playbook(f"{text}failure_policy: {policy}\n")
        told = {name.replace("__", "-"): fate for name, fate in fates.items()}
        bench.pytester.makeconftest(f"{CONFTEST}{SCRIPTED}\nSCRIPTED = {json.dumps(told)}\n")
        return bench.run("--tier=mvp", *arguments)

    return run


def test_conversions_are_collected_under_a_node_of_their_own(qualify: Qualify) -> None:
    run = qualify("--collect-only", "-q", "-m", "conversion")
    ids = [line for line in run.result.outlines if "::" in line]
    assert ids == [f"model.playbook.yaml::conversion::{name}" for name in CONVERSIONS]


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("conversion and gguf and P0 and mvp", 7),
        ("aprqa(scenario='golden-safetensors-gguf')", 1),
        ("not conversion and gguf", 7),
    ],
)
def test_marks_select_conversions(qualify: Qualify, expression: str, count: int) -> None:
    run = qualify("--collect-only", "-q", "--strict-markers", "-m", expression)
    assert len([line for line in run.result.outlines if "::" in line]) == count


def test_real_conversions_pass_and_say_on_what_they_rest_in_every_mode(qualify: Qualify) -> None:
    run = qualify("-n0", "-m", "conversion", "--junitxml=junit.xml")
    assert run.exit == 0, run.output
    run.result.assert_outcomes(passed=7, deselected=14)
    assert run.card("conversions") == "7 of 7 corroborated"
    assert "7 conversions; engine transformers" in run.output
    evidence = run.record()["evidence"]
    assert [item["scenario"] for item in evidence] == CONVERSIONS
    for item in evidence:
        assert item["id"] == f"model.playbook.yaml::conversion::{item['scenario']}"
        assert (item["check"], item["target"], item["severity"]) == ("conversion",) * 2 + ("P0",)
        assert (item["backend"], item["modality"], item["metrics"]) == (None, None, None)
        assert item["format"] == item["scenario"].rsplit("-", 1)[-1]
        assert item["verdicts"]
        assert item["measurements"]
    direct = evidence[0]
    oracles = [verdict["oracle"] for verdict in direct["verdicts"]]
    assert oracles == ["tensors", "companions", "tokens", "logits"]
    assert direct["engine"]["gguf"].startswith("llama.cpp")
    assert direct["measurements"]["tensors"] == direct["measurements"]["tensors_equal"] == 38
    tree = ElementTree.parse(run.root / "junit.xml")
    case = tree.find(".//testcase[@name='convert-safetensors-gguf']")
    assert case is not None
    facts = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert facts["aprqa.outcome"] == "Corroborated"
    assert float(str(facts["aprqa.logits_kld"])) < 1e-3
    assert "aprqa.prompt" not in facts
    parallel = qualify("-n2", "-m", "conversion").record()["evidence"]
    keys = ("id", "outcome", "reason", "verdicts", "measurements", "engine")
    told = [[{key: item[key] for key in keys} for item in run] for run in (evidence, parallel)]
    assert told[0] == told[1]
    assert len({item["worker"] for item in parallel}) == 1  # what is made and measured is shared


def test_a_damaged_conversion_blocks_the_model(pytester: pytest.Pytester, qualify: Qualify) -> None:
    pytester.makeconftest(WITHOUT_GATES + DAMAGED)
    run = qualify("-n0", "-k", "convert-safetensors-gguf")
    assert run.exit == 1
    assert run.outcomes() == {"convert-safetensors-gguf": "Falsified"}
    assert run.card("MQS").endswith("status BLOCKED")
    run.result.stdout.fnmatch_lines(
        [
            "Falsified: tensors: 1 of 38 tensors differ, first *",
            "  verdict  tensors: falsified: 1 of 38 tensors differ, first *",
            "  measured tensors: 38",
            "  measured tensors_equal: 37",
            "  reproduce: pytest -n0 model.playbook.yaml::conversion::convert-safetensors-gguf",
            "*P0 falsified: model.playbook.yaml::conversion::convert-safetensors-gguf",
        ]
    )


@pytest.mark.parametrize("arguments", MODES.values(), ids=list(MODES))
def test_conversions_ride_beside_scenarios(
    scripted: Callable[..., Run], arguments: list[str]
) -> None:
    run = scripted(*arguments)
    assert run.exit == 0
    run.result.assert_outcomes(passed=29)
    assert run.card("coverage").startswith("19 of 19 planned items tried, 0 not")
    assert run.card("pass rate").startswith("12/12 = 100.0 %")
    assert run.card("conversions") == "7 of 7 corroborated"
    assert run.card("scope").endswith("; 7 conversions")
    assert run.card("MQS") == "800 / 1000   grade B   status PROVISIONAL"


def test_conversions_make_up_for_no_wrong_answer(scripted: Callable[..., Run]) -> None:
    run = scripted("-n0", **{"round_trip__gguf__safetensors": "Falsified"})
    assert run.exit == 1
    assert run.card("pass rate").startswith("12/12")
    assert run.card("conversions") == "6 of 7 corroborated"
    assert run.card("MQS").endswith("status BLOCKED")
    assert list(run.outcomes().values()).count("Falsified") == 1


def test_a_falsified_conversion_stops_on_p0(scripted: Callable[..., Run]) -> None:
    fates = {"convert__gguf__safetensors": "Falsified"}
    run = scripted("-n0", "-m", "conversion", policy="stop_on_p0", **fates)
    assert list(run.outcomes().values()) == ["Corroborated", "Falsified", *["Blocked"] * 5]
    assert run.result.parseoutcomes()["blocked"] == 5


@pytest.mark.parametrize("arguments", MODES.values(), ids=list(MODES))
def test_a_crash_in_a_conversion_stops_the_line(
    scripted: Callable[..., Run], arguments: list[str]
) -> None:
    run = scripted(*arguments, "-m", "conversion", **{"golden__safetensors__gguf": "Crashed"})
    assert run.exit == 1
    assert run.outcomes()["golden-safetensors-gguf"] == "Crashed"
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"
    assert "G3 of conversion" in run.output


def test_a_worker_that_dies_in_a_conversion_is_a_crash(scripted: Callable[..., Run]) -> None:
    run = scripted("-n2", "-m", "conversion", **{"convert__gguf__safetensors": "!kill"})
    assert run.exit == 1
    outcomes = run.outcomes()
    assert outcomes["convert-safetensors-gguf"] == "Corroborated"
    assert outcomes["convert-gguf-safetensors"] == "Crashed"
    # The other worker may have been given one before it saw the stop.
    rest = list(outcomes.values())[2:]
    assert set(rest) <= {"Blocked", "Corroborated"}
    assert rest.count("Blocked") >= 3
    dead = next(e for e in run.record()["evidence"] if e["outcome"] == "Crashed")
    assert (dead["check"], dead["target"], dead["format"]) == (
        "conversion",
        "conversion",
        "safetensors",
    )
    assert "the worker died while running convert-gguf-safetensors" in run.output
    assert run.card("MQS") == "0 / 1000   grade F   status BLOCKED"


def test_conversions_left_out_leave_the_run_partial(scripted: Callable[..., Run]) -> None:
    run = scripted("-n0", "-m", "not conversion")
    assert run.exit == 0
    assert run.card("MQS") == "not scored   grade –   status PENDING"
    assert run.card("coverage").startswith("12 of 19 planned items tried, 7 not")


def test_smoke_converts_nothing(bench: Bench) -> None:
    bench.playbook(PLAYBOOK.replace("[safetensors]", "[safetensors, gguf]"))
    run = bench.run("--tier=smoke", "--collect-only", "-q")
    assert run.exit == 0
    assert "::conversion::" not in run.output
    assert "::safetensors-cpu::" in run.output
