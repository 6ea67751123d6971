"""Runs that ask a server which was there before: real ones, broken ones, none."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from pytest_aprqa.conversion.cache import converted
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.engines.serving.server_process import ServerProcess, start_server
from tests.openai_server import Server
from tests.plugin.conftest import INI, Run

MODEL = Path(str(resources.files("pytest_aprqa"))) / "models" / "aprqa-tiny"
PLAYBOOK = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [run, chat, serve], backends: [cpu, gpu], formats: [safetensors, gguf]}
failure_policy: collect_all
scenarios:
  - {name: sum_1, prompt: "What is 2 + 2?", oracle: arithmetic}
  - {name: sum_2, prompt: "What is 3 + 5?", oracle: arithmetic}
  - {name: code, prompt: "Write a Python function to reverse a string", oracle: garbage}
  - {name: other, prompt: "Write a JavaScript function that adds two numbers", oracle: garbage}
"""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRQA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def started(quantization: Quantization | None) -> ServerProcess:
    file = converted(MODEL, Format.GGUF, quantization).destination
    server = start_server(
        file, Format.GGUF, backend=Backend.CPU, threads=1, model_name="somebody/elses"
    )
    server.wait_ready(60)
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The embedded model behind llama.cpp's server, which is nobody's of the run."""
    server = started(None)
    yield server
    server.close()


def qualify(pytester: pytest.Pytester, *arguments: str, playbook: str = PLAYBOOK) -> Run:
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(playbook)
    return Run(pytester.runpytest_subprocess("--tier=mvp", *arguments, timeout=200), pytester.path)


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_a_server_is_qualified_and_certifies_nothing(
    pytester: pytest.Pytester, server: ServerProcess, mode: str
) -> None:
    run = qualify(pytester, mode, f"--aprqa-endpoint={server.url}/v1/")
    assert run.exit == 0, run.output
    outcomes = run.outcomes()
    for modality in ("run", "chat", "serve"):
        assert outcomes[f"sum_1-endpoint-{modality}"] == "Corroborated"
    assert outcomes["serve_stream-endpoint"] == "Corroborated"
    assert outcomes["serve_shutdown-endpoint"] == "Skipped"
    assert run.card("gateways") == "endpoint: G0 not run  G1 ok  G2 ok  G3 ok  G4 ok"
    assert run.card("MQS") == "800 / 1000   grade B   status PENDING"
    assert f"asked at {server.url}, whose files and device are not seen" in run.output
    evidence = {item["id"].rsplit("::", 1)[-1]: item for item in run.record()["evidence"]}
    parity = evidence["endpoint_parity-endpoint"]
    assert parity["outcome"] == "Corroborated"
    assert parity["reason"].endswith("a lower bound: it can refute, not prove")
    assert 0 <= parity["measurements"]["lower_bound_kld"] < 1e-4
    asked = evidence["sum_1-endpoint-run"]
    assert (asked["format"], asked["backend"], asked["target"]) == (None, None, "endpoint")
    assert asked["engine"]["url"] == server.url
    assert server.alive


def test_a_playbook_names_its_endpoint(pytester: pytest.Pytester, server: ServerProcess) -> None:
    text = f"{PLAYBOOK}endpoint: {{url: {server.url}, model: somebody/elses}}\n"
    run = qualify(pytester, "-n0", "-k", "sum_1 and run", playbook=text)
    assert run.exit == 0, run.output
    assert run.outcomes() == {"sum_1-endpoint-run": "Corroborated"}


def test_another_model_behind_the_name_is_refuted(pytester: pytest.Pytester) -> None:
    """Two bits are not the weights that the playbook names."""
    other = started(Quantization.Q2_K)
    try:
        run = qualify(pytester, "-n0", "-k", "parity", f"--aprqa-endpoint={other.url}")
    finally:
        other.close()
    assert run.exit == 1, run.output
    assert run.outcomes() == {"endpoint_parity-endpoint": "Falsified"}
    assert "KL at least " in run.output
    item = "model.playbook.yaml::endpoint::endpoint_parity-endpoint"
    assert f"reproduce: pytest -n0 {item} --aprqa-endpoint {other.url}" in run.output
    assert run.card("MQS").endswith("status BLOCKED")


def test_without_the_model_s_files_there_is_no_parity(
    pytester: pytest.Pytester, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(pytester.path / "hub"))
    text = PLAYBOOK.replace("embedded/aprqa-tiny", "somebody/elses")
    run = qualify(
        pytester, "-n0", "-k", "parity or sum_2", f"--aprqa-endpoint={server.url}", playbook=text
    )
    assert run.exit == 0, run.output
    assert run.outcomes()["endpoint_parity-endpoint"] == "Skipped"
    assert run.outcomes()["sum_2-endpoint-chat"] == "Corroborated"
    told = "endpoint_parity of endpoint: the model's files are not here to compare with"
    assert run.card("no meaning") == told


def test_where_no_server_answers_nothing_is_asked(pytester: pytest.Pytester) -> None:
    run = qualify(pytester, "-n0", "--aprqa-endpoint=http://127.0.0.1:9", "-rs")
    assert run.exit == 5, run.output
    assert set(run.outcomes().values()) == {"Skipped"}
    assert "no server answers at http://127.0.0.1:9" in run.output
    assert run.card("MQS").startswith("not scored")


def test_a_key_comes_from_the_environment_and_is_nowhere_in_the_evidence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sesame-1234"
    monkeypatch.setenv("APRQA_API_KEY", key)
    server = Server("key_wanted")
    server.start()
    try:
        where = f"--aprqa-endpoint={server.url}"
        run = qualify(pytester, "-n0", "-k", "serve_models", where)
    finally:
        server.close()
    # The scripted server lets in who has the key, and then talks garbage.
    assert run.card("gateways").startswith("endpoint: G0 not run  G1 ok  G2 ok  G3 ok  G4 FAIL")
    files = [path for path in pytester.path.rglob("*") if path.is_file()]
    assert files
    assert not [path.name for path in files if key.encode() in path.read_bytes()]
    assert key not in run.output


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--aprqa-endpoint=http://user:secret@host", "ERROR: --aprqa-endpoint: expected the root"),
        ("--aprqa-endpoint=host:8000", "ERROR: --aprqa-endpoint: expected the root of a server"),
        ("--aprqa-endpoint-model=x", "ERROR: --aprqa-endpoint-model: give --aprqa-endpoint URL"),
    ],
)
def test_an_address_that_is_none_is_a_usage_error(
    pytester: pytest.Pytester, argument: str, told: str
) -> None:
    run = qualify(pytester, argument)
    assert run.exit == 4
    errors = run.result.stderr.str()
    assert told in errors
    assert "secret" not in errors
