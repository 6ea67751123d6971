"""Whatever the files say, the inspection ends with findings and never with another exception."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.checks.integrity import inspect_integrity

if TYPE_CHECKING:
    from collections.abc import Callable

EMBEDDED = Path(__file__).parents[2] / "src" / "pytest_aprqa" / "models" / "aprqa-tiny"
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    7,
    10**12,
    10**30,
    0.5,
    "",
    "x",
    "\ud800",
    [],
    [1],
    {},
    {"content": 1},
)
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every member of a JSON value with what holds it; of long ones only the first few."""
    keys = list(node)[:40] if isinstance(node, dict) else range(min(len(node), 3))
    found = [(node, key) for key in keys]
    for key in keys:
        if isinstance(node[key], dict | list):
            found += places(node[key])
    return found


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("model", ["qwen3", "mixtral"])
def test_junk_in_json_is_found_or_harmless(
    broken: Callable[..., Path], model: str, file: str
) -> None:
    path = broken(model) / file
    good, rng = path.read_text(), random.Random(file)
    for _ in range(40):
        content = json.loads(good)
        holder, key = rng.choice(places(content))
        holder[key] = rng.choice(JUNK)
        path.write_text(json.dumps(content))
        for finding in inspect_integrity(path.parent):
            assert finding.message.isprintable()


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "embedded"))


def test_embedded_model_with_shuffled_tokenizer(embedded: Path) -> None:
    path = embedded / "tokenizer.json"
    content = json.loads(path.read_text())
    numbers = list(content["model"]["vocab"].values())
    random.Random(3).shuffle(numbers)
    content["model"]["vocab"] = dict(zip(content["model"]["vocab"], numbers, strict=True))
    path.write_text(json.dumps(content))
    assert ["shuffled" in finding.message for finding in inspect_integrity(embedded)] == [True]


def test_embedded_model_with_other_config(embedded: Path, edit_json: Any) -> None:
    edit_json(embedded / "config.json", num_hidden_layers=14)
    (finding,) = inspect_integrity(embedded)
    assert finding.message.startswith("config.json says num_hidden_layers 14, but the weights hold")
