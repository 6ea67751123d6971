"""A corpus that the command writes is one that the gates hold a model against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.numbers.golden import (
    MANIFEST,
    GoldenError,
    logits_of,
    manifest_text,
    parsed,
)
from pytest_aprqa.checks.gates.proof import ProofBench
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.domain.sections import HfParity, Sections
from pytest_aprqa.domain.verdict import Ruling
from tests.cli.conftest import Run

MODEL = "embedded/aprqa-tiny"
GATES = [check.gate.id for check in checks().values() if check.gate.domain == "hf-parity"]


def test_the_gates_hold_over_what_the_command_wrote(run: Run, tmp_path: Path) -> None:
    ran = run("golden", MODEL, "--out", tmp_path / "golden")
    assert ran.status == 0
    assert ran.out.endswith(" of 1024 logits\n")
    assert "12 prompts, " in ran.out
    bench = ProofBench(tmp_path / "bench")
    (tmp_path / "bench").mkdir()
    sections = Sections(hf_parity=HfParity(corpus=str(tmp_path / "golden")))
    try:
        lab = bench.target_lab(sections=sections)
        for gate in GATES:
            about = lab if checks()[gate].gate.place == "target" else lab.model
            found = examine(checks()[gate], about)
            assert found.ruling is Ruling.CORROBORATED, found.reason
    finally:
        bench.close()


def test_prompts_and_length_are_chosen(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "golden"
    chosen = ("--prompt", "What is 2 + 2?", "--prompt", "Hello!", "--tokens", "3", "--json")
    ran = run("golden", MODEL, "--out", out, *chosen)
    manifest = parsed(manifest_text(out))
    assert [golden.prompt for golden in manifest.prompts] == ["What is 2 + 2?", "Hello!"]
    assert all(len(golden.ids) - golden.answer_from <= 3 for golden in manifest.prompts)
    positions = sum(len(golden.ids) for golden in manifest.prompts)
    assert (ran.json["prompts"], ran.json["positions"]) == (2, positions)
    assert logits_of(out, manifest.prompts[0], 1024).shape == (
        len(manifest.prompts[0].ids),
        1024,
    )


def test_a_directory_that_is_there_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "mine.txt").write_text("mine")
    ran = run("golden", MODEL, "--out", tmp_path / "golden", "--prompt", "Hello!")
    assert ran.status == 2
    assert (tmp_path / "golden" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("tokens", ["0", "-1", "many", "5000"])
def test_a_length_that_is_none_is_refused(run: Run, tmp_path: Path, tokens: str) -> None:
    ran = run("golden", MODEL, "--out", tmp_path / "golden", f"--tokens={tokens}")
    assert ran.status == 2
    assert "expected a number from 1 to 4096" in ran.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "the scheme aprqa-golden-1"),
        (json.dumps({"scheme": "aprqa-golden-1"}), "is missing"),
        (
            json.dumps({"scheme": "aprqa-golden-1", "vocabulary": 8, "prompts": []}),
            "at least one prompt",
        ),
    ],
)
def test_a_manifest_that_is_none_is_told_of(text: str, told: str) -> None:
    with pytest.raises(GoldenError, match=told):
        parsed(text)


def test_a_file_outside_of_the_corpus_is_not_read(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "golden"
    run("golden", MODEL, "--out", out, "--prompt", "Hello!")
    content = json.loads((out / MANIFEST).read_text())
    content["prompts"][0]["file"] = "../elsewhere.npy"
    golden = parsed(json.dumps(content)).prompts[0]
    with pytest.raises(GoldenError, match="a file in the corpus"):
        logits_of(out, golden, 1024)
