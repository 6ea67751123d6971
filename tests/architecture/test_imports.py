from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT, SRC, python_files

PACKAGE = SRC / "pytest_aprqa"
HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "pydantic",
    "yaml",
    "hypothesis",
    "pytest_aprqa.domain",
)


def python(*arguments: str, source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds the package in `source`, whatever is installed."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def lint(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    settings = str(ROOT / "pyproject.toml")
    return python("-c", code, "--config", settings, "--no-cache", source=source, folder=folder)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package's modules, to plant violations in."""
    for path in python_files(PACKAGE):
        target = tmp_path / path.relative_to(SRC)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path


def test_the_contracts_of_the_layers_are_kept(tmp_path: Path) -> None:
    done = lint(SRC, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "planted", "contract"),
    [
        ("domain/tiers.py", "import pytest_aprqa.formats.digest", "layers"),
        ("domain/tiers.py", "import numpy", "domain is standard library and pydantic"),
        ("formats/digest.py", "import pytest_aprqa.oracles.text", "layers"),
        ("reports/scorecard.py", "import torch", "reports render domain objects only"),
        ("reports/scorecard.py", "import pytest_aprqa.checks.scenario", "layers"),
        ("checks/scenario.py", "import pytest", "only the plugin knows pytest"),
        ("plugin/options.py", "import _pytest.config", "public pytest only"),
    ],
)
def test_a_planted_violation_is_reported(
    copied: Path, tmp_path: Path, module: str, planted: str, contract: str
) -> None:
    with (copied / "pytest_aprqa" / module).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{planted}\n")
    done = lint(copied, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout


def test_every_package_has_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (entry["layers"] for entry in contracts if entry["type"] == "layers")
    layered = {name.strip() for layer in layers for name in layer.split("|")}
    packages = {
        f"pytest_aprqa.{path.relative_to(PACKAGE).parts[0]}"
        for path in python_files(PACKAGE)
        if path.parent != PACKAGE
    }
    assert packages == layered


def test_the_entry_point_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import json, sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_aprqa.plugin.hooks\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    done = python("-c", code, source=SRC, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "pytest_aprqa.plugin.hooks" in loaded
    roots = tuple(f"{name}." for name in HEAVY)
    assert [name for name in loaded if f"{name}.".startswith(roots)] == []


def test_the_entry_point_is_the_one_that_is_declared() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    entries = settings["project"]["entry-points"]["pytest11"]
    assert entries == {"aprqa": "pytest_aprqa.plugin.hooks"}
