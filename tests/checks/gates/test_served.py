"""What gates of servers, scenarios and Ollama say where nothing can be decided."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.gates.proof import ProofBench
from pytest_aprqa.checks.gates.registry import aliases, checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.checks.gates.served import content, protocol, same_model
from pytest_aprqa.checks.gates.served.ollama import OLLAMA
from pytest_aprqa.checks.gates.served.questions import CaseLab, OracleLab
from pytest_aprqa.checks.gates.served.questions_proofs import _case
from pytest_aprqa.checks.gates.served.scripted import Fault, ScriptedModel
from pytest_aprqa.checks.gates.served.server_labs import server_lab
from pytest_aprqa.domain.completion import Completion, GenerationRequest
from pytest_aprqa.domain.gate import Place
from pytest_aprqa.domain.gate_ids import ELSEWHERE, gate_id, oracle_gate_id
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization
from pytest_aprqa.domain.oracle_spec import BUILT_IN, ExactSpec, RegexSpec
from pytest_aprqa.domain.sections import OllamaParity, Sections
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineCrashed


def test_every_item_of_another_kind_is_a_gate_of_the_registry() -> None:
    assert set(checks()) >= ELSEWHERE
    assert {oracle_gate_id(name) for name in BUILT_IN} <= ELSEWHERE
    assert oracle_gate_id("acme.polite") is None
    assert set(aliases().values()) <= set(checks())


def test_an_endpoint_counts_as_cpu() -> None:
    assert gate_id(Modality.SERVE, None) == gate_id(Modality.SERVE, Backend.CPU) == "F-A5-001"


def test_ollama_is_not_asked_unasked(bench: ProofBench) -> None:
    lab = bench.target_lab(Format.GGUF, Quantization.Q4_K_M)
    for check in OLLAMA.checks:
        finding = examine(check, lab)
        assert finding.ruling is Ruling.INAPPLICABLE
        assert "not enabled" in finding.reason


def test_without_an_ollama_one_gate_fails_and_the_rest_are_undecided(bench: ProofBench) -> None:
    sections = Sections(ollama_parity=OllamaParity(enabled=True, url="http://127.0.0.1:9"))
    lab = bench.target_lab(Format.GGUF, Quantization.Q4_K_M, sections=sections)
    found = {check.gate.id: examine(check, lab).ruling for check in OLLAMA.checks}
    assert found.pop("F-OLLAMA-004") is Ruling.FALSIFIED
    assert set(found.values()) == {Ruling.INCONCLUSIVE}


def test_a_server_that_is_gone_is_a_crash(bench: ProofBench) -> None:
    lab = server_lab(bench)
    lab.served.stop(10.0)
    check = protocol.WIRE.checks[0]
    with pytest.raises(EngineCrashed, match="it runs no more"):
        examine(check, lab)


def test_answers_that_are_all_empty_are_no_pass(bench: ProofBench) -> None:
    lab = server_lab(bench, engine=ScriptedModel(lambda _request, _tokens: []))
    for check in content.CONTENT.checks:
        if check.gate.id in {"F-HTTP-009", "F-HTTP-009b", "F-HTTP-020", "F-API-002"}:
            assert examine(check, lab).ruling is Ruling.INAPPLICABLE


def test_a_server_whose_target_is_not_here_is_not_compared(bench: ProofBench) -> None:
    for check in same_model.SAME.checks:
        assert examine(check, server_lab(bench)).ruling is Ruling.INAPPLICABLE


def test_a_device_of_another_kind_than_the_target_is_caught(bench: ProofBench) -> None:
    lab = server_lab(bench, Fault(device="cuda:0"))
    lab.target = bench.target_lab()
    finding = examine(checks()["F-HTTP-003"], lab)
    assert finding.ruling is Ruling.FALSIFIED
    assert finding.reason == "the server computes on cuda:0; expected cpu"


@pytest.mark.parametrize(("text", "bits"), [("", 0.0), ("aaaa", 0.0), ("abab", 1.0), ("abcd", 2.0)])
def test_entropy_is_in_bits_a_character(text: str, bits: float) -> None:
    assert content.entropy(text) == pytest.approx(bits)


def test_a_crash_in_a_scenario_is_a_crash(bench: ProofBench) -> None:
    class Broken(ScriptedModel):
        def generate(self, request: GenerationRequest) -> Completion:
            raise EngineCrashed("it broke")

    lab = CaseLab(_case(Modality.RUN, Backend.CPU), Broken())
    with pytest.raises(EngineCrashed, match="it broke"):
        examine(checks()["F-A1-001"], lab)


@pytest.mark.parametrize("spec", [ExactSpec(expected=""), RegexSpec(pattern=".*")])
def test_an_empty_answer_may_be_what_is_expected(spec: ExactSpec | RegexSpec) -> None:
    finding = examine(checks()["F-ORACLE-004"], OracleLab(spec, "Say nothing.", ""))
    assert finding.ruling is Ruling.INAPPLICABLE


def test_gates_of_servers_are_asked_of_servers() -> None:
    places = {check.gate.place for name, check in checks().items() if name.startswith("F-HTTP")}
    assert places == {Place.SERVER}
