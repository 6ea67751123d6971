"""How many workers `-n auto` starts, and how many threads each of them may."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.gate_plan import GateBook
from pytest_aprqa.engines import choice
from pytest_aprqa.engines.torch_host import THREAD_VARIABLES
from pytest_aprqa.plugin import workers
from pytest_aprqa.plugin.environment import share_out_threads, threads_per_worker
from pytest_aprqa.plugin.workers import BASE_BYTES, GIB, Workers, auto_workers, count_workers
from tests.plugin.conftest import PLAYBOOK, Bench

MODEL = 14 * GIB


@pytest.mark.parametrize(
    ("cpus", "units", "available", "model", "count", "told"),
    [
        (8, 20, 400 * GIB, MODEL, 8, None),
        (8, 8, 400 * GIB, MODEL, 8, None),
        (8, None, 400 * GIB, 0, 8, None),
        (8, 3, 400 * GIB, MODEL, 3, "aprqa: 3 workers: no more targets than that run here"),
        (8, 1, 400 * GIB, MODEL, 1, "aprqa: 1 worker: no more targets than that run here"),
        (8, 20, 30 * GIB, MODEL, 2, "aprqa: 2 workers: memory for 2 of 8 models of 14 GiB"),
        (8, 5, 30 * GIB, MODEL, 2, "aprqa: 2 workers: memory for 2 of 5 models of 14 GiB"),
        (8, None, 30 * GIB, MODEL, 2, "aprqa: 2 workers: memory for 2 of 8 models of 14 GiB"),
        (8, 20, 5 * GIB, MODEL, 1, "aprqa: 1 worker: memory for 0 of 8 models of 14 GiB"),
        (4, 20, 2 * BASE_BYTES, 0, 2, "aprqa: 2 workers: memory for 2 of 4 workers"),
        (4, 20, 6 * GIB, 3 * GIB // 2, 2, "aprqa: 2 workers: memory for 2 of 4 models of 1.5 GiB"),
        (4, 0, 6 * GIB, 0, 1, "aprqa: 1 worker: no more targets than that run here"),
    ],
)
def test_workers_have_a_core_a_target_and_memory(
    cpus: int, units: int | None, available: int, model: int, count: int, told: str | None
) -> None:
    assert count_workers(cpus, units, available, model) == Workers(count, told)


@given(
    st.integers(1, 256),
    st.none() | st.integers(0, 500),
    st.integers(0, 1 << 42),
    st.integers(0, 1 << 40),
)
def test_workers_are_never_too_many_for_the_memory_and_never_none(
    cpus: int, units: int | None, available: int, model: int
) -> None:
    found = count_workers(cpus, units, available, model)
    assert 1 <= found.count <= cpus
    assert found.count == 1 or found.count * (BASE_BYTES + model) <= available
    assert found.told is not None or found.count == cpus


def test_threads_are_shared_out_where_the_user_has_not_set_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "1000")
    environ = {"MKL_NUM_THREADS": "7"}
    share_out_threads(environ)
    assert threads_per_worker() == 1
    assert environ.pop("MKL_NUM_THREADS") == "7"
    assert environ == dict.fromkeys(set(THREAD_VARIABLES) - {"MKL_NUM_THREADS"}, "1")


AUTO = """
from pytest_aprqa.plugin import workers

workers.cores = lambda: 4
workers.available_bytes = lambda: 4 << 30
"""
WEIGHTS = 1200 << 20
"""Bytes of the model's weights, which are 600 MiB of BF16 values."""


def give_weights(bench: Bench) -> None:
    tensor = {"dtype": "BF16", "shape": [600, 1 << 20], "data_offsets": [0, WEIGHTS]}
    header = json.dumps({"weight": tensor}).encode()
    (bench.root / "model" / "tokenizer.json").write_text("{}")
    with (bench.root / "model" / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + WEIGHTS)  # a hole: it takes no place on the disk


def test_auto_starts_no_more_workers_than_have_memory_and_says_so(bench: Bench) -> None:
    give_weights(bench)
    bench.pytester.makeconftest((bench.root / "conftest.py").read_text() + AUTO)
    bench.pytester.makepyfile("def test_one(): pass\n")
    run = bench.run("-n", "auto", "--tier=mvp")
    assert run.exit == 0
    run.result.assert_outcomes(passed=12)
    told = "aprqa: 2 workers: memory for 2 of 4 models of 1.2 GiB"
    assert told in run.result.outlines
    assert "created: 2/2 workers" in run.output


def test_without_playbooks_auto_is_left_to_xdist(bench: Bench) -> None:
    bench.pytester.makeconftest((bench.root / "conftest.py").read_text() + AUTO)
    (bench.root / "model.playbook.yaml").unlink()
    bench.pytester.makepyfile("def test_one(): pass\n")
    run = bench.run("-n", "auto", "--maxprocesses=2")
    assert run.exit == 0
    assert "aprqa:" not in run.output


@pytest.fixture
def machine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workers | None]:
    """Says how many workers a run with these arguments gets on ten cores and 12 GiB."""
    give_weights(bench)
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr(workers, "cores", lambda: 10)
    monkeypatch.setattr(workers, "available_bytes", lambda: 12 * GIB)
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)

    def ask(*arguments: str) -> Workers | None:
        (bench.root / "conftest.py").unlink(missing_ok=True)
        monkeypatch.setattr("pytest_aprqa.plugin.subject.gate_book", GateBook)
        return auto_workers(bench.pytester.parseconfig("--tier=mvp", *arguments))

    return ask


MATRIX = PLAYBOOK.replace("[safetensors]", "[safetensors, apr, gguf]").replace(
    "[cpu]", "[cpu, gpu]"
)
TARGETS = "no more targets than that run here"


def told(count: int, reason: str) -> Workers:
    return Workers(count, f"aprqa: {count} worker{'s' if count > 1 else ''}: {reason}")


def test_auto_counts_the_targets_that_run_and_the_conversions(
    bench: Bench, machine: Callable[..., Workers | None]
) -> None:
    bench.playbook(MATRIX)
    assert machine() == told(4, TARGETS)
    assert machine("--tier=quick", "--aprqa-format=gguf") == told(2, TARGETS)
    assert machine("--tier=smoke") == told(1, TARGETS)
    bench.playbook(MATRIX, name="other")
    assert machine() == told(4, "memory for 4 of 8 models of 2.3 GiB")


def test_auto_counts_the_targets_that_node_ids_name(
    bench: Bench, machine: Callable[..., Workers | None]
) -> None:
    bench.playbook(MATRIX)
    gguf = "model.playbook.yaml::gguf-cpu"
    assert machine(gguf, f"{gguf}::capital-gguf-cpu-run") == told(1, TARGETS)
    assert machine(gguf, "model.playbook.yaml::apr-cpu") == told(2, TARGETS)
    assert machine(gguf, "model.playbook.yaml") == told(4, TARGETS)


def test_ordinary_tests_beside_playbooks_use_every_core_that_has_memory(
    bench: Bench, machine: Callable[..., Workers | None]
) -> None:
    bench.pytester.makepyfile("def test_one(): pass\n")
    assert machine() == told(6, "memory for 6 of 10 models of 1.2 GiB")
    assert machine("model.playbook.yaml") == told(1, TARGETS)


def test_quantized_weights_count_as_torch_holds_them(
    bench: Bench, machine: Callable[..., Workers | None]
) -> None:
    text = MATRIX.replace('"model"\n', '"model"\n  quantizations: [q8_0, q4_k_m, q6_k, f16]\n')
    bench.playbook(text)
    apr = [f"model.playbook.yaml::apr-{q}-cpu" for q in ("q8_0", "q4_k_m", "q6_k", "f16")]
    gguf = [name.replace("apr", "gguf") for name in apr]
    assert machine(*apr) == told(4, TARGETS)  # 2.3 GiB each
    assert machine(*gguf) == told(4, TARGETS)
    assert machine(*gguf, *apr) == told(4, "memory for 4 of 8 models of 2.3 GiB")


def test_the_variable_of_xdist_goes_before_all_this(
    machine: Callable[..., Workers | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert machine() is None


@pytest.mark.parametrize("broken", ["model: {}\n", "nonsense: ["])
def test_a_broken_playbook_is_left_to_its_collection(
    bench: Bench, machine: Callable[..., Workers | None], broken: str
) -> None:
    bench.playbook(broken)
    assert machine() == told(1, TARGETS)


def test_a_model_that_is_not_here_yet_counts_with_a_download_alone(
    bench: Bench, machine: Callable[..., Workers | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(bench.root / "hub"))
    bench.playbook(MATRIX.replace('  local_path: "model"\n', ""))
    assert machine() == told(1, TARGETS)
    assert machine("--aprqa-download") == told(4, TARGETS)


PROBE = """
import json, os, pathlib
from pytest_aprqa.engines import choice
from pytest_aprqa.plugin import workers
from pytest_aprqa.engines.torch_host import THREAD_VARIABLES

def test_threads():
    found = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    path = os.environ["PROBE"] + os.environ.get("PYTEST_XDIST_WORKER", "main")
    pathlib.Path(path).write_text(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("arguments", "playbook", "threads"),
    [(["-n2"], True, "2"), (["-n2"], False, None), (["-n0"], True, None)],
)
def test_threads_are_set_in_workers_that_run_playbooks_and_nowhere_else(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    playbook: bool,
    threads: str | None,
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("PROBE", str(bench.root / "probe-"))
    conftest = (bench.root / "conftest.py").read_text()
    patch = "\nfrom pytest_aprqa.plugin import environment\nenvironment.cores = lambda: 4\n"
    bench.pytester.makeconftest(conftest + patch)
    bench.pytester.makepyfile(PROBE)
    if not playbook:
        (bench.root / "model.playbook.yaml").unlink()
    run = bench.run("--tier=mvp", *arguments)
    assert run.exit == 0
    [probe] = bench.root.glob("probe-*")
    found = json.loads(probe.read_text())
    assert found == {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
    }
    assert set(found) == set(THREAD_VARIABLES)
    assert os.environ.get("OMP_NUM_THREADS") is None
