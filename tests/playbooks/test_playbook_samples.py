from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.oracle_spec import ArithmeticSpec, GarbageSpec
from tests.playbooks.playbook_texts import problems, read

# Not named *.playbook.yaml, or pytest would collect them.
SAMPLES = Path(__file__).parent / "samples"

SECTIONS = {
    "gemma-2-2b": ["property_tests"],
    "llama-3.2-1b": ["property_tests"],
    "qwen2.5-coder-0.5b-mvp": ["kernel_profile"],
    "qwen2.5-coder-1.5b-ci": ["property_tests"],
    "qwen2.5-coder-1.5b-quick": ["property_tests"],
    "qwen2.5-coder-1.5b-smoke": [],
    "qwen2.5-coder-1.5b": ["property_tests"],
    "qwen2.5-coder-7b-full": [],
    "qwen3-0.6b-mvp": [],
    "smollm2-135m-mvp": [],
    "starcoder2-3b-mvp": [],
    "tinyllama-1.1b-mvp": [],
}  # fmt: skip


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.yaml").read_text(encoding="utf-8")


def without(text: str, sections: list[str]) -> str:
    """The text without these top-level sections, their lines left empty."""
    kept, dropping = [], False
    for line in text.splitlines():
        if line[:1] not in ("", " "):
            dropping = line.split(":")[0] in sections
        kept.append("" if dropping else line)
    return "\n".join(kept)


def test_every_sample_has_its_expectation() -> None:
    assert {path.stem for path in SAMPLES.iterdir()} == {*SECTIONS, "ci-pipeline", "mvp"}


@pytest.mark.parametrize("name", SECTIONS)
def test_samples_are_refused_for_the_sections_that_are_not_run_yet(name: str) -> None:
    text = sample(name)
    lines = {line.split(":")[0]: n for n, line in enumerate(text.splitlines(), 1)}
    assert problems(text) == [
        f"{lines[section]}: {section}: this version does not run this section yet and ignores "
        "nothing: remove it, or wait for the version that runs it"
        for section in SECTIONS[name]
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_samples_load_without_those_sections(name: str) -> None:
    playbook = read(without(sample(name), SECTIONS[name])).playbook
    assert playbook.name == name
    assert playbook.scenarios == ()
    assert set(playbook.formats) <= set(Format)


def test_the_sections_that_set_gates_act_as_written() -> None:
    playbook = read(sample("qwen2.5-coder-7b-full")).playbook
    compared = playbook.differential_tests.inference_compare

    assert compared.tolerance == 1e-5
    assert playbook.trace_payload.gates == ("F-TRACE-PAYLOAD-001", "F-TRACE-PAYLOAD-002")
    assert playbook.ollama_parity.enabled
    assert not read(sample("smollm2-135m-mvp")).playbook.trace_payload.gates


def test_smoke_sample() -> None:
    playbook = read(sample("qwen2.5-coder-1.5b-smoke")).playbook
    assert playbook.model.id == "Qwen/Qwen2.5-Coder-1.5B-Instruct"
    assert playbook.formats == (Format.SAFETENSORS,)
    assert playbook.model.quantizations == (Quantization.Q4_K_M,)
    assert playbook.test_matrix.scenario_count == 3
    assert playbook.oracles == (
        ArithmeticSpec(tolerance=0.01),
        GarbageSpec(max_repetition_ratio=0.3, min_unique_chars=10),
    )
    assert playbook.metadata["tags"] == ["code", "instruct", "smoke"]


def test_templates_are_to_be_filled_in() -> None:
    assert [p for p in problems(sample("ci-pipeline")) if "template" in p] == [
        "8: name: ${MODEL_NAME} is a template's placeholder; fill it in before running",
        "12: model.hf_repo: ${HF_REPO} is a template's placeholder; fill it in before running",
    ]
    assert [p for p in problems(sample("mvp")) if "not run" not in p] == [
        "14: model.hf_repo: ${MODEL_ID} is a template's placeholder; fill it in before running",
        "21: model.size_category: unknown size category 'auto'; "
        "allowed: tiny, small, medium, large, xlarge, huge",
    ]
