from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.checks.model_files import MATRIX, Values, write_model
from tests.cli.conftest import Run


def with_nan(values: dict[str, Values]) -> None:
    values[MATRIX["gguf"]][0, 1] = np.nan


NAN = (
    f"model.gguf: {MATRIX['gguf']} has NaN at [0, 1], the first of 1 not finite among 1024 values "
    f"(F32); expected finite values"
)


def test_a_healthy_model_has_status_0(run: Run, tiny: Path) -> None:
    ran = run("validate", tiny)
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines == [f"{tiny}: healthy"]
    found = run("validate", tiny, "--json")
    assert found.status == 0
    assert found.json == {
        "path": str(tiny),
        "healthy": True,
        "findings": [],
        "not_judged": [],
    }


def test_a_finding_has_status_1(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "gguf", with_nan)
    ran = run("validate", path)
    assert (ran.status, ran.err) == (1, "")
    assert ran.lines[0] == f"not-finite: {NAN}"
    assert ran.lines[-1] == f"{path}: 1 finding"
    found = run("validate", path, "--json")
    assert found.status == 1
    assert found.json["healthy"] is False
    assert found.json["findings"] == [
        {"code": "not-finite", "subject": MATRIX["gguf"], "message": NAN}
    ]


def test_what_was_not_judged_is_told(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "safetensors")
    ran = run("validate", path)
    assert ran.status == 0
    assert ran.lines == [
        "not judged: config and tokenizer: a lone safetensors file has none; give its directory",
        f"{path}: healthy",
    ]


def test_a_file_that_cannot_be_read_as_a_model_has_status_1(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "apr")
    path.write_bytes(path.read_bytes()[:70])
    ran = run("validate", path)
    assert (ran.status, ran.err) == (1, "")
    assert ran.lines[0].startswith(f"weights: {path}: ")
    assert ran.lines[-1] == f"{path}: 1 finding"


def test_a_file_that_is_not_there_has_status_2(run: Run, tmp_path: Path) -> None:
    ran = run("validate", tmp_path / "none.gguf")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"aprqa: {tmp_path}/none.gguf: there is no such file or directory;")
