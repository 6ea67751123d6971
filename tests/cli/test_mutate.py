"""`aprqa mutate`, with real sessions of pytest."""

from __future__ import annotations

from pathlib import Path

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.mutation.registry import OPERATORS
from tests.cli.conftest import Run

PLAYBOOK = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [run], backends: [cpu], formats: [safetensors]}
scenarios:
  - {name: sum, prompt: "What is 2 + 2?", oracle: arithmetic}
"""


def test_list_shows_the_operators(run: Run) -> None:
    ran = run("mutate", "--list")

    assert ran.status == Exit.FINE
    assert ran.lines[-1] == f"{len(OPERATORS)} operators"


def test_what_is_missing_is_told(run: Run) -> None:
    assert run("mutate").err == "aprqa: name a playbook to test, or --list the operators\n"


def test_a_killed_and_a_surviving_mutant(run: Run, tmp_path: Path) -> None:
    playbook = tmp_path / "m.playbook.yaml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")

    ran = run(
        "mutate", playbook, "--operators", "zero-matrix", "bos", "--subject", "source",
        "--strength", "gross", "subtle", "--no-healthy", "--workers", "2", "--json",
    )  # fmt: skip

    assert ran.status == Exit.FINE, ran.err
    fates = {(m["operator"], m["strength"]): m for m in ran.json["mutants"]}
    killed = fates["zero-matrix", "gross"]
    assert killed["fate"] == "killed"
    assert "model.layers.1.mlp.up_proj.weight" in killed["cause"]
    assert fates["bos", "subtle"]["fate"] == "killed"  # the reference has another start token
    assert "mutants run: 3 of 3" in ran.err


def test_a_score_below_the_least_is_status_1(run: Run, tmp_path: Path) -> None:
    playbook = tmp_path / "m.playbook.yaml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")

    ran = run(
        "mutate", playbook, "--operators", "flip-exponent", "--subject", "source", "--blind",
        "--strength", "subtle", "--no-healthy", "--min-score", "1.0", "--json",
    )  # fmt: skip

    assert ran.json["mutants"][0]["fate"] == "survived"
    assert ran.status == Exit.WRONG
