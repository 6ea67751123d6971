"""Equivalence is proven on what the files mean, and on nothing less."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.proof import EMBEDDED
from pytest_aprqa.mutation.editing import edit_json, edit_tensors
from pytest_aprqa.mutation.equivalence import why_equivalent
from pytest_aprqa.mutation.healthy import variants


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    shutil.copytree(EMBEDDED, made)
    return made


def test_a_copy_written_anew_is_the_original(copy: Path) -> None:
    edit_tensors(copy, {}, shard_bytes=1_000_000)
    edit_json(copy / "config.json", lambda config: config.update(note="for nobody"))

    proof = why_equivalent(EMBEDDED, copy)

    assert proof is not None
    assert proof.startswith("38 tensors and ")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", lambda content: content.update(rms_norm_eps=1e-5)),
        ("generation_config.json", lambda content: content.update(eos_token_id=1)),
        ("tokenizer_config.json", lambda content: content.update(chat_template="x")),
        ("tokenizer.json", lambda content: content["model"].update(merges=[])),
    ],
    ids=["config", "generation", "template", "merges"],
)
def test_a_change_that_means_something_is_none(copy: Path, file: str, change: object) -> None:
    edit_json(copy / file, change)  # type: ignore[arg-type]

    assert why_equivalent(EMBEDDED, copy) is None


def test_one_bit_of_one_weight_is_a_difference(copy: Path) -> None:
    def nudge(values: object) -> object:
        values[0] = values[0] * 1.01  # type: ignore[index]
        return values

    edit_tensors(copy, {"model.norm.weight": nudge})  # type: ignore[dict-item]

    assert why_equivalent(EMBEDDED, copy) is None


def test_a_mutant_that_cannot_be_read_is_no_equivalent(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"")

    assert why_equivalent(EMBEDDED, copy) is None


def test_healthy_variants_are_many_and_the_ground_truths_among_them_equal(tmp_path: Path) -> None:
    found = variants(EMBEDDED, tmp_path)

    assert len({variant.name for variant in found}) == len(found) >= 30
    exact = ("resaved", "shards-3", "tensors-reversed", "json-sorted", "readme-added", "float32")
    for variant in found:
        if variant.name in exact:
            assert why_equivalent(EMBEDDED, variant.path) is not None, variant.name
