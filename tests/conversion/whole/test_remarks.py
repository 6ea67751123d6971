"""What llama.cpp computes otherwise is told to whoever converts, and stands with G0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_aprqa.checks.gateways import check_integrity
from pytest_aprqa.cli.main import main
from pytest_aprqa.domain.model import Format
from tests.conversion.whole.models import WHOLES, make

TOLD = (
    "llama.cpp ignores the sliding window of the family mistral: in prompts of more than 8 "
    "tokens it attends to all of them, transformers to the last 8"
)


@pytest.mark.parametrize("window", [8, None])
def test_an_ignored_window_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    window: int | None,
) -> None:
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    make(next(whole for whole in WHOLES if whole.name == "mistral-nemo"), model)
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "sliding_window": window}), encoding="utf-8")
    assert main(["convert", str(model), str(tmp_path / "m.gguf")]) == 0
    assert (f"note: {TOLD}" in capsys.readouterr().out) is (window is not None)
    result, _ = check_integrity("gguf-cpu", model, None, format_=Format.GGUF)
    assert result.passed, result.reason
    assert (f"not as the original: {TOLD}" in result.details) is (window is not None)
