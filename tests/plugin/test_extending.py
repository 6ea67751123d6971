"""Engines and oracles of other packages in whole runs; docs/extending.md is taken at its word."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import pytest_aprqa
from tests.packages import install
from tests.plugin.conftest import INI, WITHOUT_GATES, Bench, Run

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "extending.md"
PACKAGES = Path(pytest_aprqa.__file__).parents[1]
PLAYBOOK = """\
version: "1.0"
model: {id: "embedded/aprqa-tiny"}
test_matrix: {modalities: [run], backends: [cpu], formats: [safetensors]}
scenarios:
  - {name: sum, prompt: "What is 2 + 2?", oracle: arithmetic}
  - {name: holds_4, prompt: "What is 2 + 2?", oracle: {type: acme.polite, words: ["4"]}}
  - {name: holds_please, prompt: "What is 2 + 2?", oracle: acme.polite, severity: P2}
"""
SCRIPTED = """\
version: "1.0"
model: {id: "test/scripted", local_path: "model"}
test_matrix: {modalities: [run], backends: [cpu], formats: [safetensors]}
scenarios:
  - {name: sum, prompt: "What is 2 + 2?", oracle: arithmetic}
"""
PROVIDERS = """

class Provider:
    def __init__(self, name, reason=None, loaded=None):
        self.name, self.reason, self.loaded = name, reason, loaded

    def why_not(self, target):
        return self.reason

    def load(self, target, path, *, threads):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded or ScriptedTwo()


class ScriptedTwo(ScriptedEngine):
    name, version = "scripted-two", "2"

    def tokenize(self, text, *, special):
        return ()

    def logits(self, token_ids):
        return ()
"""


def files_of_the_document() -> dict[str, str]:
    """The code blocks whose first line names a file, by that name."""
    blocks = re.findall(r"```\w+\n# (\S+\.\w+)\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    return dict(blocks)


FILES = files_of_the_document()


def install_from_the_document(site: Path, package: str) -> None:
    """Put a package of the document where Python finds it, as pip does."""
    project = tomllib.loads(FILES[f"{package}/pyproject.toml"])["project"]
    modules = {
        name.removeprefix(f"{package}/"): text
        for name, text in FILES.items()
        if name.startswith(f"{package}/") and name.endswith(".py")
    }
    install(site, project["name"], modules, project["entry-points"])


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory where the pytest of a run finds packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGES}:{folder}")
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    return folder


def record_in(folder: Path) -> dict[str, Any]:
    """The evidence of the one run in a report directory."""
    [path] = folder.glob("*/**/evidence.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def outcomes(record: Mapping[str, Any], target: str) -> set[str]:
    """Outcomes of a target's scenarios."""
    return {item["outcome"] for item in record["evidence"] if item["target"] == target}


def test_the_example_of_an_engine_has_some_fifty_lines() -> None:
    text = "".join(text for name, text in FILES.items() if name.startswith("greedy/"))
    assert len([line for line in text.splitlines() if line.strip()]) <= 53
    assert "Two files, 53 lines" in DOCUMENT.read_text("utf-8")


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
def test_the_engine_of_the_document_qualifies_the_embedded_model(
    pytester: pytest.Pytester, site: Path, tmp_path: Path, mode: str
) -> None:
    install_from_the_document(site, "greedy")
    reports = tmp_path / "reports"
    result = pytester.runpytest_subprocess(
        ROOT / "playbooks" / "embedded.playbook.yaml",
        f"--rootdir={ROOT}",
        f"--aprqa-report-dir={reports}",
        "--tier=mvp",
        "--aprqa-format=safetensors",
        "--aprqa-modality=run",
        "--aprqa-engine=greedy",
        mode,
        timeout=300,
    )
    assert result.ret == 0, result.stdout.str()
    record = record_in(reports)
    here = [item for item in record["evidence"] if item["target"] == "safetensors-cpu"]
    asked = [item for item in here if item["check"] == "scenario"]
    assert len(asked) >= 20
    assert {item["outcome"] for item in asked} == {"Corroborated"}
    [gate] = [item for item in here if item["check"] == "model"]
    assert gate["reason"] == "greedy answers one request at a time"
    assert not gate["applicable"]
    assert {item["engine"]["provider"] for item in asked} == {"greedy"}
    assert {item["engine"]["engine"] for item in asked} == {"greedy 1.0"}
    unable = [item for item in record["evidence"] if item["target"] == "safetensors-gpu"]
    reason = "greedy: it runs safetensors on the CPU"
    assert {(item["outcome"], item["reason"], item["excused"]) for item in unable} == {
        ("Skipped", reason, True)
    }


def test_engine_and_oracle_of_a_conftest(pytester: pytest.Pytester, site: Path) -> None:
    for name in ("greedy/greedy_engine.py", "polite/acme_polite.py"):
        (site / Path(name).name).write_text(FILES[name])
    pytester.makeconftest(WITHOUT_GATES + FILES["conftest.py"])
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(PLAYBOOK)
    pytester.makepyfile(
        """
        from pytest_aprqa import assert_oracle

        def test_a_test_has_the_oracle_too():
            assert assert_oracle("acme.polite", question="x", answer="thank you").corroborated
        """
    )
    result = pytester.runpytest_subprocess("--aprqa-engine=greedy", "-n2", timeout=300)
    run = Run(result, pytester.path)
    assert result.parseoutcomes() == {"passed": 8, "failed": 1}, run.output
    assert run.outcomes() == {
        "sum-safetensors-cpu-run": "Corroborated",
        "holds_4-safetensors-cpu-run": "Corroborated",
        "holds_please-safetensors-cpu-run": "Falsified",
    }
    assert "acme.polite: falsified: no word of courtesy in " in run.output
    assert "--aprqa-engine greedy" in run.output  # in the command that reproduces it


def test_the_oracle_of_the_document_is_found_when_installed(
    pytester: pytest.Pytester, site: Path
) -> None:
    install_from_the_document(site, "polite")
    pytester.makefile(".ini", pytest=INI)
    (pytester.path / "model.playbook.yaml").write_text(PLAYBOOK)
    result = pytester.runpytest_subprocess("-n0", timeout=300)
    assert result.parseoutcomes() == {"passed": 7, "failed": 1}, result.stdout.str()
    run = Run(result, pytester.path)
    engines = {item["engine"]["engine"].split()[0] for item in run.record()["evidence"]}
    assert engines == {"transformers"}  # nobody asked for another one


def test_what_no_package_brings_is_a_mistake_with_its_line(bench: Bench, site: Path) -> None:
    install_from_the_document(site, "polite")
    rest = """\
  - name: nested
    prompt: "What is 3 + 4?"
    oracle:
      - garbage
      - type: composite
        any: [garbage, {type: acme.missing}]
  - name: unsettled
    prompt: "What is 3 + 4?"
    oracle: {type: acme.polite, words: []}
oracles:
  - garbage
  - acme.polit
"""
    bench.playbook(SCRIPTED + rest)
    run = bench.run("-n0")
    assert run.exit == 2
    known = "; known beside those built in: acme.polite; install the package that has it"
    nested, unsettled, listed = re.findall(r"model\.playbook\.yaml:\d+: .*", run.output)
    assert nested == (
        "model.playbook.yaml:11: scenarios[1].oracle.all[1].any[1]: "
        f"unknown oracle 'acme.missing'{known}"
    )
    assert unsettled == (
        "model.playbook.yaml:14: scenarios[2].oracle: acme.polite does not take these settings "
        "(words): ValueError: words is empty: no answer could be polite"
    )
    assert listed == f"model.playbook.yaml:17: oracles[1]: unknown oracle 'acme.polit'{known}"


def test_an_unknown_engine_is_a_wrong_option(bench: Bench) -> None:
    run = bench.run("--aprqa-engine=vllm", "-n0")
    assert run.exit == 4
    told = "--aprqa-engine: no engine is named 'vllm'; known: transformers, llama.cpp, apr"
    assert told in run.result.stderr.str()


@pytest.mark.parametrize("choice", ["onnx=transformers", "gguf=", "=transformers", ""])
def test_a_choice_of_another_form_is_a_wrong_option(bench: Bench, choice: str) -> None:
    run = bench.run(f"--aprqa-engine={choice}", "-n0")
    assert run.exit == 4
    told = f"--aprqa-engine: {choice!r} is neither NAME nor FORMAT=NAME; the formats are safet"
    assert told in run.result.stderr.str()


def test_a_broken_package_matters_only_when_an_engine_is_looked_for(
    bench: Bench, site: Path
) -> None:
    entries = {"pytest_aprqa.engines": {"toy": "toy:provider"}}
    install(site, "toy-engine", {"toy.py": "import no_such_library"}, entries)
    assert bench.run("-n0").exit == 0
    run = bench.run("-n0", "--aprqa-engine=transformers")
    assert run.exit == 4
    assert (
        "the entry point toy = toy:provider (pytest_aprqa.engines) of toy-engine 1.0 does not "
        "load: ModuleNotFoundError: No module named 'no_such_library'"
    ) in run.result.stderr.str()


def extend(bench: Bench, hook: str) -> None:
    """Add a hook to the bench's conftest.py."""
    path = bench.root / "conftest.py"
    path.write_text(path.read_text() + PROVIDERS + hook)


def provide(bench: Bench, providers: str) -> None:
    """Have the hook give these providers."""
    extend(bench, f"\n\ndef pytest_aprqa_engines(config):\n    return [{providers}]\n")


@pytest.mark.parametrize("mode", ["-n0", "-n2"])
@pytest.mark.parametrize("choice", ["two", "safetensors=two"])
def test_the_chosen_engine_runs_in_every_process(bench: Bench, mode: str, choice: str) -> None:
    bench.playbook(SCRIPTED)
    provide(bench, "Provider('two'), Provider('one')")
    run = bench.run(mode, f"--aprqa-engine={choice}")
    assert run.exit == 0, run.output
    [item] = run.record()["evidence"]
    assert item["engine"] == {
        "engine": "scripted 1",  # as the engine itself tells it
        "device": "cpu",
        "provider": "two",
    }
    loaded = next(r for r in run.record()["gateways"] if r["gateway"] == "G1")
    assert loaded["reason"] == "loaded by scripted-two 2 on cpu"


def test_a_choice_for_another_format_leaves_the_built_in_engine(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    provide(bench, "Provider('two', 'never')")
    run = bench.run("-n0", "--aprqa-engine=gguf=two")
    assert run.exit == 0, run.output
    [item] = run.record()["evidence"]
    assert item["engine"] == {"engine": "scripted 1"}


def test_the_first_that_can_run_the_target_does(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    provide(bench, "Provider('one', 'no licence'), Provider('two')")
    run = bench.run("-n0", "--aprqa-engine=one", "--aprqa-engine=two")
    assert run.exit == 0, run.output
    [item] = run.record()["evidence"]
    assert item["engine"]["provider"] == "two"


def test_what_none_can_run_is_skipped_and_excused(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    provide(bench, "Provider('one', 'no licence'), Provider('two', 'too large')")
    run = bench.run("-n0", "--aprqa-engine=one", "--aprqa-engine=two")
    assert run.result.parseoutcomes() == {"skipped": 6}
    [item] = run.record()["evidence"]
    told = (item["outcome"], item["reason"], item["excused"])
    assert told == ("Skipped", "one: no licence; two: too large", True)
    assert "safetensors-cpu × run: one: no licence; two: too large" in run.output


def test_a_model_that_the_engine_does_not_load_fails_g1(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    provide(bench, "Provider('two', loaded=OSError('bad magic'))")
    run = bench.run("-n0", "--aprqa-engine=two")
    assert run.exit == 1
    assert "two does not load it: OSError: bad magic" in run.output
    assert run.card("gateways").startswith("safetensors-cpu: G0 ok  G1 FAIL")


def test_an_engine_on_another_device_fills_no_cell(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    extend(bench, "\n\nclass OnCuda(ScriptedTwo):\n    device = 'cuda:0'\n")
    provide(bench, "Provider('two', loaded=OnCuda())")
    run = bench.run("-n0", "--aprqa-engine=two")
    [item] = run.record()["evidence"]
    assert item["outcome"] == "Skipped"
    assert item["reason"].startswith("two loaded safetensors-cpu on cuda:0: ")


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (
            "def pytest_aprqa_engines(config):\n    return {}['x']",
            r"the hook pytest_aprqa_engines broke at \S+conftest\.py:\d+: KeyError: 'x'",
        ),
        (
            "def pytest_aprqa_engines(config):\n    return 5",
            "pytest_aprqa_engines gave 5; expected a list of providers",
        ),
        (
            "def pytest_aprqa_engines(config):\n    return [Provider('apr')]",
            "two engines are named 'apr': one of pytest-aprqa itself, one of conftest.Provider "
            "from the hook pytest_aprqa_engines",
        ),
        (
            "def pytest_aprqa_engines(config):\n    return [Provider]",
            r"conftest\.Provider from the hook pytest_aprqa_engines gives <class .* no engine",
        ),
        (
            "def pytest_aprqa_oracles(config):\n    return ['x']",
            r"pytest_aprqa_oracles gave \['x'\]; expected factories by name",
        ),
        (
            "def pytest_aprqa_oracles(config):\n    return {'polite': Provider}",
            r"conftest\.Provider from the hook pytest_aprqa_oracles: 'polite' is no oracle's name",
        ),
        (
            "def pytest_aprqa_oracles(config):\n    return 1 / 0",
            r"the hook pytest_aprqa_oracles broke at \S+conftest\.py:\d+: ZeroDivisionError",
        ),
    ],
)
def test_a_broken_hook_is_a_wrong_set_up(bench: Bench, hook: str, told: str) -> None:
    extend(bench, f"\n\n{hook}\n")
    run = bench.run("-n0", "--aprqa-engine=transformers")
    assert run.exit == 4
    assert re.search(told, run.result.stderr.str()), run.result.stderr.str()


def test_an_engine_that_cannot_sample_is_judged_by_its_greedy_answers(bench: Bench) -> None:
    bench.playbook(SCRIPTED)
    refusing = """

class Soup(ScriptedTwo):
    def generate(self, request):
        if request.temperature:
            raise InvalidRequest("greedy only")
        return Completion("zq " * 40, (1, 2), 4, FinishReason.STOP, 0.001, 0.003, 1, "x")
"""
    extend(bench, refusing)
    provide(bench, "Provider('two', loaded=Soup())")
    run = bench.run("-n0", "--aprqa-engine=two")
    assert run.exit == 1
    assert run.card("gateways").startswith("safetensors-cpu: G0 ok  G1 ok  G2 ok  G3 ok  G4 FAIL")
    assert "not sampled: greedy only" in run.output
