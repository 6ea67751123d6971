from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.families import huggingface_tensors
from pytest_aprqa.conversion.portable import PortableModel
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.tensor import tensors_of
from tests.checks.model_files import (
    MATRIX,
    Values,
    embedded_gguf,
    embedded_source,
    write_model,
    write_safetensors_file,
)
from tests.checks.model_files import tensor as made
from tests.cli.conftest import Run

NAME = MATRIX["safetensors"]


@pytest.fixture
def a(tmp_path: Path) -> Path:
    """A healthy file."""
    (tmp_path / "a").mkdir()
    return write_model(tmp_path / "a", "safetensors")


def changed(tmp_path: Path, by: float) -> Path:
    """The same file with one value changed."""

    def plant(values: dict[str, Values]) -> None:
        values[NAME][2, 3] = np.float32(1.0) + np.float32(by)
        values[NAME][4, 4] = 0.5

    (tmp_path / f"by {by}").mkdir()
    return write_model(tmp_path / f"by {by}", "safetensors", plant)


def test_a_model_is_the_same_as_itself(run: Run, a: Path) -> None:
    ran = run("diff", a, a)
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines == ["3 tensors: 3 identical"]


def test_a_difference_has_status_1_and_is_told(run: Run, tmp_path: Path) -> None:
    ran = run("diff", changed(tmp_path, 0.0), changed(tmp_path, 0.25))
    assert (ran.status, ran.err) == (1, "")
    line = f"{NAME}: differs at [2, 3]: 1 and 1.25; 1 of 1024 values beyond the tolerance;"
    assert ran.lines[0].startswith(line)
    assert ran.lines[1].startswith("largest NMSE 5.9")
    assert f"in {NAME} (largest error 0.25, RMSE 0.00781, cosine 0.9999" in ran.lines[1]
    assert ran.lines[2].startswith(f"3 tensors: 2 identical, 1 differs; first: {line}")
    assert len(ran.lines) == 3


def test_within_the_tolerance_the_status_is_0(run: Run, tmp_path: Path) -> None:
    pair = changed(tmp_path, 0.0), changed(tmp_path, 0.25)
    ran = run("diff", *pair, "--tolerance", "0.25")
    assert ran.status == 0
    assert ran.lines[-1] == "3 tensors: 2 identical, 1 within tolerance"
    assert run("diff", *pair, "--tolerance", "0.2").status == 1


def test_json_has_every_tensor(run: Run, tmp_path: Path) -> None:
    pair = changed(tmp_path, 0.0), changed(tmp_path, 0.25)
    ran = run("diff", *pair, "--json", "--tolerance", "1e-3")
    assert ran.status == 1
    found = ran.json
    assert list(found) == [
        *("a", "b", "raw", "tolerance", "passed", "summary", "first_difference", "tensors")
    ]
    assert (found["a"], found["b"]) == tuple(map(str, pair))
    assert found["tolerance"] == {"atol": 1e-3, "rtol": 0.0}
    assert (found["passed"], found["raw"], found["first_difference"]) == (False, False, NAME)
    by_name = {result["name"]: result for result in found["tensors"]}
    assert len(by_name) == 3
    assert by_name["model.norm.weight"] == {
        "name": "model.norm.weight",
        "outcome": "identical",
        "passed": True,
        "encodings": ["F32", "F32"],
        "shapes": [[32], [32]],
        "errors": None,
        "first_difference": None,
    }
    result = by_name[NAME]
    assert (result["outcome"], result["passed"]) == ("differs", False)
    assert result["errors"]["max_abs"] == 0.25
    assert list(result["errors"]) == ["max_abs", "rmse", "nmse", "cosine"]
    assert result["first_difference"] == {
        "index": [2, 3],
        "a": "1.0",
        "b": "1.25",
        "count": 1,
        "of": 1024,
    }


def test_raw_compares_names_as_stored(run: Run, a: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path, "gguf")
    ran = run("diff", a, other, "--raw")
    assert ran.status == 1
    assert f"{NAME}: missing in B (F32)" in ran.lines
    assert f"{MATRIX['gguf']}: missing in A (F32)" in ran.lines
    assert run("diff", other, other, "--raw").lines == ["4 tensors: 4 identical"]


def test_a_transpose_is_named(run: Run, a: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(7).standard_normal((32, 32), np.float32)
    other = tmp_path / "t.safetensors"
    write_safetensors_file(other, [made(NAME, values.T)])
    ran = run("diff", a, other)
    assert ran.status == 1
    assert ran.lines[0] == f"{NAME}: transposed: [32, 32] and [32, 32] (F32)"


def test_a_file_that_cannot_be_read_has_status_2(run: Run, a: Path, tmp_path: Path) -> None:
    broken = tmp_path / "b.gguf"
    broken.write_bytes(b"GGUF")
    ran = run("diff", a, broken, "--raw")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"aprqa: {broken}: ")
    assert len(ran.err.splitlines()) == 1


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The reading of any format as Hugging Face has it, replaced; the paths that it was given."""
    asked: list[Path] = []
    config, files, source = embedded_source()

    def read_portable(path: Path) -> PortableModel:
        asked.append(path)
        stored = tensors_of(open_checkpoint(path)) if path.suffix else source
        if path.suffix == ".gguf":
            stored = tuple(huggingface_tensors(config, stored, {}))
        return PortableModel(config, files, stored)

    module: Any = ModuleType("pytest_aprqa.conversion.convert")
    module.read_portable = read_portable
    monkeypatch.setitem(sys.modules, "pytest_aprqa.conversion.convert", module)
    return asked


def test_formats_are_compared_as_hugging_face_has_them(
    run: Run, portable: list[Path], tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    fields, tensors = embedded_gguf()
    write_gguf(path, fields=fields, tensors=tensors)
    ran = run("diff", tiny, path)
    assert portable == [tiny, path]
    assert (ran.status, ran.lines) == (
        0,
        ["38 tensors: 22 identical, 16 equal; 16 in another encoding"],
    )
    assert run("diff", tiny, path, "--raw").status == 1
    contents = {run("fingerprint", model, "--json").json["content"] for model in (tiny, path)}
    assert len(contents) == 1
    assert len(portable) == 4


def test_a_lone_safetensors_file_is_taken_as_it_is(run: Run, portable: list[Path], a: Path) -> None:
    assert run("diff", a, a).status == 0
    assert run("fingerprint", a).status == 0
    assert portable == []
