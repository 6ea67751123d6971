from __future__ import annotations

from pathlib import Path

from pytest_aprqa.checks.gates.proof import ProofBench
from tests.cli.conftest import Run


def test_every_layer_has_a_line(run: Run) -> None:
    ran = run("trace", "embedded/aprqa-tiny")
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines[0].split()[:4] == ["module", "kind", "ms", "mean"]
    assert ran.lines[1].startswith("model.embed_tokens")
    assert sum(line.startswith("model.layers.1 ") for line in ran.lines) == 2
    assert ran.lines[-1].startswith("7 tokens through 3 layers in ")


def test_json_at_each_level(run: Run) -> None:
    for level, attention, modules in (("none", 0, 0), ("basic", 0, 42), ("payload", 3, 42)):
        found = run("trace", "embedded/aprqa-tiny", "--level", level, "--json").json
        assert found["level"] == level
        assert (len(found["attention"]), len(found["modules"])) == (attention, modules)


def test_a_nan_is_named_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    directory = ProofBench(tmp_path).copy(model__norm__weight=lambda w: w * float("nan"))
    ran = run("trace", directory)
    assert ran.status == 1
    assert ran.lines[-1] == "model.norm is the first that gives NaN or infinities"


def test_gguf_offers_no_look(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    assert run("convert", "embedded/aprqa-tiny", path).status == 0
    ran = run("trace", path)
    assert ran.status == 2
    assert "llama.cpp offers no look into a pass; expected safetensors or APR" in ran.err


def test_a_file_that_does_not_load_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    ran = run("trace", tmp_path)
    assert ran.status == 2
    assert str(tmp_path) in ran.err
