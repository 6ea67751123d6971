"""A GGUF or APR file that exists already is qualified as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.proof import EMBEDDED
from pytest_aprqa.conversion.cache import converted
from pytest_aprqa.domain.model import Format, Quantization

INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:syrupy\n"
PLAYBOOK = """\
version: "1.0"
model:
  id: "embedded/aprqa-tiny"
  formats: [gguf]
  quantizations: [q8_0]
  files: {gguf-q8_0: mine.gguf}
test_matrix:
  modalities: [run]
  backends: [cpu]
scenarios:
  - {name: sum, prompt: "What is 2 + 2?", oracle: arithmetic}
"""


@pytest.fixture
def place(pytester: pytest.Pytester) -> Path:
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "given.playbook.yaml").write_text(PLAYBOOK, encoding="utf-8")
    return pytester.path


def gateway(place: Path) -> dict[str, str]:
    (run,) = (place / ".aprqa").iterdir()
    record = json.loads((run / "given" / "evidence.json").read_text(encoding="utf-8"))
    found: dict[str, str] = record["gateways"][0]
    return found


def test_the_given_file_is_what_runs(pytester: pytest.Pytester, place: Path) -> None:
    made = converted(EMBEDDED, Format.GGUF, Quantization.Q8_0).destination
    shutil.copy(made, place / "mine.gguf")

    result = pytester.runpytest_subprocess("-n0", "-k", "g0_integrity or sum", timeout=120)

    assert result.ret == 0, result.stdout.str()
    assert gateway(place)["details"][0] == f"given: mine.gguf, {made.stat().st_size} bytes"


def test_a_given_file_that_is_cut_off_fails_g0_by_its_name(
    pytester: pytest.Pytester, place: Path
) -> None:
    made = converted(EMBEDDED, Format.GGUF, Quantization.Q8_0).destination
    (place / "mine.gguf").write_bytes(made.read_bytes()[:100_000])

    result = pytester.runpytest_subprocess("-n0", "-k", "g0_integrity or sum", timeout=120)

    assert result.ret == 1
    found = gateway(place)
    assert not found["passed"]
    assert "mine.gguf" in found["reason"]


def test_a_given_file_that_is_not_there_is_told(pytester: pytest.Pytester, place: Path) -> None:
    result = pytester.runpytest_subprocess("-n0", "-k", "g0_integrity or sum", timeout=120)

    assert result.ret == 1
    assert "there is no such file; model.files names it" in gateway(place)["reason"]
