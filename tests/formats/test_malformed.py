"""No damaged file makes a reader crash, hang, allocate beyond bounds, or speak unclearly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError
from tests.formats.mutations import base_of, mutations

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's view of memory")
@pytest.mark.parametrize("form", Format)
def test_every_mutation_is_read_or_refused(tmp_path: Path, form: Format) -> None:
    """In a process of its own, whose address space may grow by the file and 100 MB only."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.formats.mutations", form, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    summary = json.loads(child.stdout)
    assert summary["failures"] == []
    assert summary["good"] == "read"
    assert sum(summary["kinds"].values()) >= 5000
    assert {"flip", "truncation", "number", "accident"} <= set(summary["kinds"])
    assert summary["outcomes"]["refused"] > 3000
    assert summary["outcomes"]["read"] > 20
    assert summary["seconds"] < 25


@pytest.mark.parametrize("form", Format)
def test_mutations_are_the_same_every_time(form: Format) -> None:
    base, _ = base_of(form)
    again, _ = base_of(form)
    assert base.data == again.data
    for one, two in zip(mutations(base), mutations(again), strict=True):
        assert one == two


class Careless:
    """A reader with one planted defect."""

    def __init__(self, path: Path, defect: str) -> None:
        self.path = path
        if defect == "crash":
            raise KeyError("x")
        if defect == "unclear":
            raise CheckpointError("something is wrong")
        if defect == "two lines":
            raise CheckpointError(f"{path}: one\n{path}: two")
        if defect == "hang":
            while True:
                pass
        if defect == "memory":
            bytearray(300_000_000)
        raise CheckpointError(f"{path}: refused")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's view of memory")
@pytest.mark.parametrize(
    ("defect", "told"),
    [
        ("crash", "KeyError: 'x'"),
        ("unclear", "unclear: 'something is wrong'"),
        ("two lines", "unclear: "),
        ("hang", "still busy after"),
        ("memory", "MemoryError"),
        ("", None),
    ],
)
def test_planted_defects_are_found(tmp_path: Path, defect: str, told: str | None) -> None:
    code = (
        "import json, sys; from pathlib import Path\n"
        "from tests.formats import mutations as m\n"
        "from tests.formats.test_malformed import Careless\n"
        "m.SECONDS = 0.05\n"
        "m.base_of = lambda form: (m.apr_base(), lambda path: Careless(path, sys.argv[1]))\n"
        "m.mutations = lambda base: [('as it is', base.data)] * 3\n"
        "print(json.dumps(m.run('apr', Path(sys.argv[2]))))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, defect, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    summary = json.loads(child.stdout)
    if told is None:
        assert summary["failures"] == []
        assert summary["outcomes"] == {"refused": 3}
        return
    assert len(summary["failures"]) == 3
    assert all(told in failure for failure in summary["failures"])
