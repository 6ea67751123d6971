from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from tests.checks.model_files import MATRIX, Values, weights, write_model
from tests.cli.conftest import Run

NAME = MATRIX["safetensors"]


def test_the_table_has_a_line_for_each_tensor(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "safetensors")
    ran = run("fingerprint", path)
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines[0].split() == [
        *("tensor", "encoding", "shape", "sha256", "mean", "std", "min", "max", "zeros")
    ]
    values = weights("safetensors")[NAME]
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    assert ran.lines[1].split()[:4] == [NAME, "F32", "32x32", digest[:12]]
    assert ran.lines[2].split()[4:] == ["1", "0", "1", "1", "0", "%"]
    assert ran.lines[3].split()[4:] == ["0", "0", "0", "0", "100", "%"]
    assert ran.lines[4].endswith("(aprqa-content-1, 3 tensors)")
    assert len(ran.lines) == 5


def test_json_has_the_digests_in_full(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "safetensors")
    found = run("fingerprint", path, "--json").json
    assert list(found) == ["model", "raw", "scheme", "content", "tensors"]
    assert (found["model"], found["raw"]) == (str(path), False)
    first = found["tensors"][0]
    assert list(first) == [
        *("name", "encoding", "shape", "sha256", "content", "kind", "mean", "std"),
        *("minimum", "maximum", "zeros", "not_finite", "percentiles"),
    ]
    values = weights("safetensors")[NAME]
    assert first["sha256"] == first["content"] == hashlib.sha256(values.tobytes()).hexdigest()
    assert run("fingerprint", path).lines[-1].split()[1] == found["content"]


def test_what_is_not_finite_is_counted(run: Run, tmp_path: Path) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[NAME][:] = np.nan

    path = write_model(tmp_path, "safetensors", plant)
    line = run("fingerprint", path).lines[1]
    assert line.split()[4:] == ["-", "-", "-", "-", "0", "%", "and", "1024", "not", "finite"]


def test_raw_takes_a_files_own_names(run: Run, tmp_path: Path) -> None:
    path = write_model(tmp_path, "gguf")
    found = run("fingerprint", path, "--raw", "--json").json
    assert MATRIX["gguf"] in [tensor["name"] for tensor in found["tensors"]]


def test_the_content_follows_the_definition_step_by_step(run: Run, tiny: Path) -> None:
    data = (tiny / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    lines = []
    for name in sorted(set(header) - {"__metadata__"}):
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        # A BF16 value is the upper half of a float32; no weight of this model is NaN or -0.
        halves = np.frombuffer(data[begin:end], "<u2")
        values = (halves.astype("<u4") << 16).astype("<u4").tobytes()
        shape = "x".join(str(size) for size in header[name]["shape"])
        lines.append(f"{name}\t{shape}\tf4\t{hashlib.sha256(values).hexdigest()}\n")
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    found = run("fingerprint", "embedded/aprqa-tiny", "--raw", "--json").json
    assert len(lines) == 38
    assert found["content"] == expected
