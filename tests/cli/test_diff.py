from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.checks.gates.proof import EMBEDDED
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.mutation.editing import edit_tensors
from tests.checks.model_files import (
    MATRIX,
    Values,
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


@pytest.fixture(scope="module")
def formats(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model in every format, and quantized."""
    place = tmp_path_factory.mktemp("formats")
    convert(tiny, place / "m.gguf")
    convert(tiny, place / "m.apr")
    convert(tiny, place / "q.gguf", quantization=Quantization.Q8_0)
    convert(tiny, place / "q.apr", quantization=Quantization.Q8_0)
    return {"directory": tiny} | {path.name: path for path in place.iterdir()}


@pytest.mark.parametrize(
    ("first", "second"),
    [(a, b) for a in ("directory", "m.gguf", "m.apr") for b in ("directory", "m.gguf", "m.apr")],
)
def test_formats_are_compared_as_hugging_face_has_them(
    run: Run, formats: dict[str, Path], first: str, second: str
) -> None:
    ran = run("diff", formats[first], formats[second])
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines == ["38 tensors: 38 identical"]
    if first != second:
        assert run("diff", formats[first], formats[second], "--raw").status == 1


@pytest.mark.parametrize(("name", "most"), [("q.gguf", 1e-4), ("q.apr", 1e-2)])
def test_a_quantized_model_is_near_and_not_equal(
    run: Run, formats: dict[str, Path], name: str, most: float
) -> None:
    """APR's own 8 bits have one scale for a whole tensor, llama.cpp's one for 32 values."""
    pair = formats["directory"], formats[name]
    assert run("diff", *pair).status == 1
    found = run("diff", *pair, "--json").json
    errors = {t["name"]: t["errors"] for t in found["tensors"] if t["errors"]}
    assert 0 < max(each["nmse"] for each in errors.values()) < most
    largest = max(each["max_abs"] for each in errors.values())
    near = run("diff", *pair, "--tolerance", str(largest))
    assert (near.status, near.err) == (0, "")
    assert " within tolerance" in near.lines[-1]


def test_the_content_is_the_same_in_every_format(run: Run, formats: dict[str, Path]) -> None:
    def content(name: str, *options: str) -> str:
        ran = run("fingerprint", formats[name], "--json", *options)
        assert (ran.status, ran.err) == (0, "")
        return str(ran.json["content"])

    names = ("directory", "m.gguf", "m.apr")
    (same,) = {content(name) for name in names}
    assert len({content(name, "--raw") for name in names}) == 3
    assert same not in {content(name) for name in ("q.gguf", "q.apr")}


@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "q.gguf", "q.apr"])
def test_what_is_converted_is_healthy(run: Run, formats: dict[str, Path], name: str) -> None:
    ran = run("validate", formats[name])
    assert (ran.status, ran.err, ran.lines) == (0, "", [f"{formats[name]}: healthy"])


def test_what_is_converted_is_described(run: Run, formats: dict[str, Path]) -> None:
    found = {name: run("inspect", path, "--json").json for name, path in formats.items()}
    kinds = {name: told["format"] for name, told in found.items()}
    assert kinds == {
        "directory": "safetensors",
        **{name: name[2:] for name in ("m.gguf", "m.apr", "q.gguf", "q.apr")},
    }


def test_a_lone_safetensors_file_is_taken_as_it_is(run: Run, a: Path) -> None:
    assert run("diff", a, a).status == 0
    assert run("fingerprint", a).status == 0


def test_explain_says_what_became_of_a_tensor(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(EMBEDDED, copy)
    name = "model.layers.1.mlp.up_proj.weight"
    edit_tensors(copy, {name: lambda values: values * np.float32(1.5)})
    file = tmp_path / "m.gguf"
    convert(copy, file, quantization=Quantization.Q8_0)

    ran = run("diff", EMBEDDED, file, "--explain", "q8_0")

    assert ran.status == 1
    assert ran.lines == [
        f"{name} is scaled by 1.5",
        "1 tensors are not their originals beyond what q8_0 costs",
    ]
    (told,) = run("diff", EMBEDDED, file, "--explain", "q8_0", "--json").json["defects"]
    assert told["defect"] == "scaled"
    assert run("diff", EMBEDDED, EMBEDDED, "--explain", "none").status == 0
