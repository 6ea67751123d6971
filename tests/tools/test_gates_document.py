from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_gates_is_current() -> None:
    main = runpy.run_path(str(ROOT / "tools" / "write_gates.py"))["main"]
    assert main(["--check"]) == 0, "run tools/write_gates.py"


def test_a_table_that_is_not_current_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(ROOT / "tools" / "write_gates.py"))["main"]
    (tmp_path / "docs").mkdir()

    assert main(["--check"], root=tmp_path) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}/docs/gates.md is not current; run tools/write_gates.py\n"
    )
    assert main([], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
