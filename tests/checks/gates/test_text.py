"""What text gates say where they have no meaning, and whom they blame."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import partial

import pytest

from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import ProofBench
from pytest_aprqa.checks.gates.registry import checks, family_of
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.checks.gates.text.own_tokenizer_proofs import changed_model
from pytest_aprqa.checks.gates.text.stored_keys_proofs import item, rewritten_lab
from pytest_aprqa.checks.gates.text.tokens_proofs import tampered
from pytest_aprqa.checks.gates.text.user_contracts_proofs import contract_lab
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.sections import ContractTests, Sections
from pytest_aprqa.domain.verdict import Ruling


def found(gate: str, lab: Lab) -> Finding:
    return examine(checks()[gate], lab)


def family_findings(gate: str, lab: Lab) -> Iterable[Finding]:
    return [examine(check, lab) for check in family_of(gate).checks]


@pytest.mark.parametrize("gate", ["F-CHECK-001", "F-TOK-KNOWN-001"])
def test_without_a_tokenizer_nothing_is_claimed_of_it(bench: ProofBench, gate: str) -> None:
    directory = bench.copy()
    (directory / "tokenizer.json").unlink()

    findings = family_findings(gate, bench.model_lab(directory))

    assert {finding.ruling for finding in findings} == {Ruling.INAPPLICABLE}


def test_without_a_chat_template_nothing_is_claimed_of_it(bench: ProofBench) -> None:
    lab = changed_model(
        bench, lambda content: content.pop("chat_template"), "tokenizer_config.json"
    )

    findings = family_findings("F-TEMPLATE-ORDER-001", lab)

    assert {finding.ruling for finding in findings} == {Ruling.INAPPLICABLE}


def test_a_template_that_does_not_parse_falsifies(bench: ProofBench) -> None:
    broken = partial(dict.update, chat_template="{% for m in messages %}")
    lab = changed_model(bench, broken, "tokenizer_config.json")

    finding = found("F-TEMPLATE-PLAIN-001", lab)

    assert finding.ruling is Ruling.FALSIFIED
    assert "no valid Jinja" in finding.reason


def test_an_invariant_that_is_not_listed_is_not_asked(bench: ProofBench) -> None:
    sections = Sections(contract_tests=ContractTests(invariants=("I-2",)))
    lab = bench.target_lab(Format.GGUF, sections=sections)

    rulings = {name: found(f"F-CONTRACT-{name}-001", lab).ruling for name in ("I1", "I2", "I3")}

    assert rulings == {
        "I1": Ruling.INAPPLICABLE,
        "I2": Ruling.CORROBORATED,
        "I3": Ruling.INAPPLICABLE,
    }


@pytest.mark.parametrize("format_", [Format.GGUF, Format.APR])
@pytest.mark.parametrize("kind", [Quantization.Q8_0, Quantization.Q4_K_M])
def test_blocks_keep_the_invariants(bench: ProofBench, format_: Format, kind: Quantization) -> None:
    engine = bench.engine(bench.converted(format_), format_)
    lab = bench.target_lab(format_, kind, engine=engine)

    findings = family_findings("F-CONTRACT-I1-001", lab)

    assert {finding.ruling for finding in findings} == {Ruling.CORROBORATED}


def test_a_file_without_a_record_is_not_blamed(bench: ProofBench) -> None:
    kept = bench.converted(Format.GGUF)
    file = bench.place("alone.gguf")
    shutil.copyfile(kept, file)
    lab = bench.target_lab(Format.GGUF, file=file, engine=bench.engine(kept, Format.GGUF))

    findings = family_findings("F-PROV-001", lab)

    assert {finding.ruling for finding in findings} == {Ruling.INAPPLICABLE}


def test_a_difference_shows_the_text_both_lists_of_ids_and_the_file(bench: ProofBench) -> None:
    lab = tampered(
        bench, lambda text: text[:3] if text.startswith(("def f", "for (", "if (")) else None
    )

    finding = found("F-TOK-CODE-001", lab)

    assert "'def f(x):" in finding.reason
    assert "at token 1 ids [" in finding.reason
    assert "expected [" in finding.reason
    assert finding.culprit == "model.gguf"


def test_a_stored_entry_is_told_by_its_place(bench: ProofBench) -> None:
    lab = rewritten_lab(bench, item("tokenizer.ggml.token_type", 1022, 1))

    finding = found("F-TOK-TYPE-001", lab)

    assert finding.reason == "tokenizer.ggml.token_type[1022] is 1, expected 3"


def test_a_contract_that_claims_an_unknown_key_is_told(bench: ProofBench) -> None:
    lab = contract_lab(bench, "contract: c\ntensors: [{names: '*', count: no_such_key}]\n")

    finding = found("F-CONTRACT-USER-TENSORS-001", lab)

    assert finding.ruling is Ruling.FALSIFIED
    assert "config.json has no whole number 'no_such_key'" in finding.reason


def test_without_contracts_nothing_is_claimed(bench: ProofBench) -> None:
    findings = family_findings("F-CONTRACT-LOAD-001", bench.model_lab())

    assert {finding.ruling for finding in findings} == {Ruling.INAPPLICABLE}
