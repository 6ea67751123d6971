from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.checks.profile import read_profile
from tests.cli.conftest import Run

QUICK = ("--warmup", "1", "--measure", "2", "--tokens", "4")


def test_what_is_measured_is_shown_and_kept(run: Run, tmp_path: Path) -> None:
    kept, flame = tmp_path / "kept.json", tmp_path / "pass.svg"
    more = ("--save-baseline", kept, "--flame", flame, "--model-id", "me/mine")
    ran = run("profile", "embedded/aprqa-tiny", *QUICK, *more)
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines[0].startswith("throughput")
    assert any("2 of 4 tokens after 7, 1 to warm up" in line for line in ran.lines)
    profile = read_profile(kept)
    assert (profile.model, profile.target) == ("me/mine", "safetensors-cpu")
    assert [run.tokens for run in profile.runs] == [4, 4]
    assert flame.read_text().startswith("<svg ")


def test_json_of_a_gguf(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    assert run("convert", "embedded/aprqa-tiny", path).status == 0
    found = run("profile", path, *QUICK, "--target", "gguf-f32-cpu", "--json").json
    assert found["hotspots"] == []
    assert found["profile"]["target"] == "gguf-f32-cpu"
    assert len(found["profile"]["runs"][0]["token_s"]) == 4
    assert found["estimates"]["throughput"]["unit"] == "tokens/s"
    ran = run("profile", path, *QUICK, "--flame", tmp_path / "pass.svg")
    assert ran.status == 2
    assert "offers no look into a pass to draw" in ran.err
    assert not (tmp_path / "pass.svg").exists()


@pytest.mark.parametrize("wrong", ["0", "-1", "x"])
def test_counts_are_at_least_1(run: Run, wrong: str) -> None:
    ran = run("profile", "embedded/aprqa-tiny", "--measure", wrong)
    assert ran.status == 2
    assert "expected a whole number of at least 1" in ran.err
