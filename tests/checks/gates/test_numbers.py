"""The numbers of the gates over logits by another road, what is kept of them, what they decide."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.fingerprint import fingerprint_tensors
from pytest_aprqa.checks.gates.numbers import reference
from pytest_aprqa.checks.gates.numbers.comparing import Estimate, compare, ratio
from pytest_aprqa.checks.gates.numbers.differential import chosen, role_of
from pytest_aprqa.checks.gates.numbers.logits import KLD
from pytest_aprqa.checks.gates.numbers.passes import Passes, kld_limit, limit_of, passes, ruled
from pytest_aprqa.checks.gates.numbers.reference import Course, led
from pytest_aprqa.checks.gates.numbers.saved import fingerprint_at
from pytest_aprqa.checks.gates.numbers.texts import BASE, MORE, MORE_QUESTIONS, QUESTIONS
from pytest_aprqa.checks.gates.proof import EMBEDDED, ProofBench, Tampered
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.sections import (
    DifferentialTests,
    FingerprintTest,
    InferenceCompare,
    Sections,
    TensorDiff,
)
from pytest_aprqa.domain.tolerance import LOGITS, NOISE_CEILING, NOISE_FACTOR
from pytest_aprqa.domain.verdict import Ruling

LOGIT_GATES = [check.gate.id for check in checks().values() if check.gate.domain == "logits"]
SHORT = Course(("What is 2 + 2?", "The capital of France is"), 12)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, for this test alone."""
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _log_probabilities(logits: Any) -> Any:
    wide = logits.astype(np.float64)
    return wide - np.logaddexp.reduce(wide, axis=1)[:, None]


@pytest.mark.parametrize("quantization", [Quantization.Q8_0, Quantization.Q4_0])
def test_kl_perplexity_and_top1_are_those_of_another_computation(
    bench: ProofBench, quantization: Quantization
) -> None:
    lab = bench.target_lab(Format.APR, quantization)
    seen = lab.once(passes)
    kld, cost, same, positions = [], [], [], 0
    for one in seen.led:
        p = _log_probabilities(lab.ground_truth().logits(one.ids))
        q = _log_probabilities(lab.engine.logits(one.ids))
        for place in np.nonzero(one.judged)[0]:
            positions += 1
            kld.append(float(np.dot(np.exp(p[place]), p[place] - q[place])))
            same.append(int(p[place].argmax()) == int(q[place].argmax()))
            following = one.ids[place + 1]
            cost.append(p[place, following] - q[place, following])
    ours = seen.counting
    assert positions == seen.positions >= 300
    assert ratio([t.kld for t in ours]).value == pytest.approx(np.mean(kld), rel=0.01)
    assert ratio([t.same for t in ours]).value == pytest.approx(np.mean(same), rel=0.01)
    perplexity = np.exp(ratio([t.cost for t in ours]).value)
    assert perplexity == pytest.approx(np.exp(np.mean(cost)), rel=0.01)


def test_logits_of_a_large_vocabulary_give_nearly_the_same_divergence_from_below(
    bench: ProofBench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = bench.target_lab(Format.APR, Quantization.Q4_0)
    whole = led(lab, SHORT)
    logits = [lab.engine.logits(one.ids) for one in whole]
    monkeypatch.setattr(reference, "FULL", 0)
    kept = led(lab, SHORT)
    assert [one.values.shape[1] for one in kept] == [reference.TOP] * 2
    for a, b, found in zip(whole, kept, logits, strict=True):
        assert list(a.best) == list(b.best)
        assert a.top(3, 5) == b.top(3, 5)
        assert a.margins() == pytest.approx(b.margins())
        one, two = compare(a, found), compare(b, found)
        assert (two.kld <= one.kld + 1e-9).all()
        assert two.kld.sum() == pytest.approx(one.kld.sum(), rel=0.02)
        assert list(two.same) == list(one.same)
        assert two.cost == pytest.approx(one.cost, abs=1e-5)


def test_a_reference_is_kept_on_disk_and_read_without_the_ground_truth(
    bench: ProofBench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = bench.target_lab()
    first = led(lab, SHORT)
    monkeypatch.setattr(lab, "ground_truth", lambda: pytest.fail("loaded again"))
    again = led(lab, SHORT)
    assert [one.ids for one in again] == [one.ids for one in first]
    assert all(
        np.array_equal(a.values, b.values) and np.array_equal(a.judged, b.judged)
        for a, b in zip(first, again, strict=True)
    )


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_reference_is_made_again(bench: ProofBench, cache: Path, damage: str) -> None:
    lab = bench.target_lab()
    first = led(lab, SHORT)
    (entry,) = (cache / "logits").glob("*.npz")
    data = bytearray(entry.read_bytes())
    data[len(data) // 3] ^= 0xFF
    damaged = {"cut": bytes(data[:-40]), "flipped": bytes(data), "empty": b""}
    entry.write_bytes(damaged[damage])
    again = led(lab, SHORT)
    assert np.array_equal(first[0].values, again[0].values)
    assert entry.stat().st_size > 1000


def test_another_course_or_model_is_another_entry(bench: ProofBench, cache: Path) -> None:
    led(bench.target_lab(), SHORT)
    led(bench.target_lab(), Course(SHORT.prompts, 6))
    edited = bench.copy(model__norm__weight=lambda w: w * 1.5)
    led(bench.target_lab(model=bench.model_lab(edited), engine=bench.engine()), SHORT)
    assert len(list((cache / "logits").glob("*.npz"))) == 3


def test_the_texts_are_all_different() -> None:
    texts = (*BASE, *MORE, *QUESTIONS, *MORE_QUESTIONS)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("low", "high", "ruling"),
    [
        (0.001, 0.002, Ruling.CORROBORATED),
        (0.001, 0.02, Ruling.INCONCLUSIVE),
        (0.011, 0.02, Ruling.FALSIFIED),
    ],
)
def test_an_interval_decides_only_where_all_of_it_does(
    low: float, high: float, ruling: Ruling
) -> None:
    estimate = Estimate((low + high) / 2, low, high)
    assert ruled(KLD, estimate, 0.01, Passes((), ())).ruling is ruling


def test_a_number_that_is_none_is_refuted() -> None:
    estimate = Estimate(float("nan"), float("nan"), float("nan"))
    assert ruled(KLD, estimate, 0.01, Passes((), ())).ruling is Ruling.FALSIFIED


def test_the_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    values = [np.array([1.0, 2.0]), np.array([3.0]), np.array([2.0, 2.0, 5.0])]
    found = ratio(values)
    assert found.value == pytest.approx(15 / 6)
    assert found.low < found.value < found.high
    assert found == ratio(values)


def test_noise_widens_a_limit_and_what_is_no_noise_does_not() -> None:
    limit = LOGITS[Quantization.F16]
    assert kld_limit(limit, 0.0) == limit.mean_kld
    assert kld_limit(limit, 1e-3) == NOISE_FACTOR * 1e-3
    assert kld_limit(limit, NOISE_CEILING * 1.01) == limit.mean_kld


def test_limits_follow_the_encoding_and_the_engines_arithmetic(bench: ProofBench) -> None:
    exact = limit_of(bench.target_lab(Format.APR, Quantization.F16))
    rounded = limit_of(bench.target_lab())
    blocks = limit_of(bench.target_lab(Format.GGUF, Quantization.Q8_0))
    assert exact.logits.mean_kld == LOGITS[Quantization.F16].mean_kld
    assert rounded.logits.mean_kld > exact.logits.mean_kld
    assert blocks.logits.mean_kld > LOGITS[Quantization.Q8_0].mean_kld
    own = limit_of(bench.target_lab(Format.APR, Quantization.Q8_0))
    assert own.logits == LOGITS[Quantization.Q6_K]


@pytest.mark.parametrize("gate", [gate for gate in LOGIT_GATES if gate != "F-LOGIT-NAN-001"])
def test_without_logits_for_the_same_vocabulary_nothing_is_decided(
    bench: ProofBench, gate: str
) -> None:
    cut: Any = Tampered(bench.engine(), logits=lambda engine, ids: engine.logits(ids)[:, :-1])
    found = examine(checks()[gate], bench.kept("cut logits", lambda b: b.target_lab(engine=cut)))
    assert found.ruling is Ruling.INCONCLUSIVE
    assert "1023" in found.reason


def test_every_gate_over_logits_holds_for_a_coarse_file(bench: ProofBench) -> None:
    lab = bench.target_lab(Format.GGUF, Quantization.Q4_K_M)
    found = {gate: examine(checks()[gate], lab) for gate in LOGIT_GATES}
    assert {
        gate: f.reason for gate, f in found.items() if f.ruling is not Ruling.CORROBORATED
    } == {}


def test_a_filter_that_fits_no_tensor_is_no_pass(bench: ProofBench) -> None:
    tensor_diff = TensorDiff(filter="no_such_part")
    sections = Sections(differential_tests=DifferentialTests(tensor_diff=tensor_diff))
    lab = bench.target_lab(Format.GGUF, engine=bench.engine(), sections=sections)
    found = examine(checks()["F-ROSETTA-DIFF-003"], lab)
    assert found.ruling is Ruling.INCONCLUSIVE


def test_a_large_tolerance_of_the_playbook_is_the_one_that_acts(bench: ProofBench) -> None:
    compared = InferenceCompare(tolerance=1e6)
    sections = Sections(differential_tests=DifferentialTests(inference_compare=compared))
    found = examine(checks()["F-ROSETTA-INF-002"], bench.target_lab(Format.APR, sections=sections))
    assert found.ruling is Ruling.CORROBORATED
    assert "by the playbook's tolerance" in found.reason


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.layers.0.post_attention_layernorm.weight", "layernorm"),
        ("model.layers.0.self_attn.q_norm.weight", "layernorm"),
        ("transformer.h.0.ln_1.weight", "layernorm"),
        ("model.embed_tokens.weight", "embedding"),
        ("transformer.wte.weight", "embedding"),
        ("lm_head.weight", "lm_head"),
        ("embed_out.weight", "lm_head"),
        ("model.layers.0.self_attn.q_proj.bias", "attention"),
        ("model.layers.0.block_sparse_moe.experts.3.w1.weight", "ffn"),
        ("model.layers.0.mamba.A_log", ""),
    ],
)
def test_a_tensor_has_the_role_that_its_name_says(name: str, role: str) -> None:
    assert role_of(name) == role


def test_a_filter_takes_parts_of_names() -> None:
    assert chosen("model.norm.weight", "")
    assert chosen("model.norm.weight", "all")
    assert chosen("model.norm.weight", "lm_head, norm")
    assert not chosen("model.norm.weight", "lm_head,embed")


@pytest.mark.parametrize(
    ("percentiles", "ruling", "told"),
    [
        (lambda old: old, Ruling.CORROBORATED, "190 statistics of 38 tensors"),
        (lambda old: [*old[:2], old[2] + 0.05, *old[3:]], Ruling.FALSIFIED, "has percentile 50 "),
        (
            lambda _: [],
            Ruling.INCONCLUSIVE,
            "no percentiles of model.embed_tokens.weight; write it again",
        ),
    ],
)
def test_percentiles_are_compared_where_they_are_asked_for(
    bench: ProofBench, percentiles: Callable[[Any], Any], ruling: Ruling, told: str
) -> None:
    members = [asdict(t) for t in fingerprint_tensors(read_portable(EMBEDDED).tensors).tensors]
    members[0]["percentiles"] = percentiles(members[0]["percentiles"])
    path = bench.place("saved.json")
    path.write_text(json.dumps({"tensors": members}), encoding="utf-8")
    test = FingerprintTest(reference=str(path), stats=("percentiles",))
    sections = Sections(differential_tests=DifferentialTests(fingerprint=test))
    found = examine(checks()["F-ROSETTA-FP-003"], bench.model_lab(sections=sections))
    assert found.ruling is ruling, found
    assert told in found.reason


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not json", "expected what `aprqa fingerprint --json` writes"),
        ("[]", "no list of tensors"),
        (json.dumps({"raw": True, "tensors": []}), "without --raw"),
        (json.dumps({"tensors": [{"name": "a"}]}), "a tensor in it is not one"),
    ],
)
def test_a_file_that_is_no_fingerprint_is_a_wrong_set_up(
    tmp_path: Path, content: str, told: str
) -> None:
    path = tmp_path / "saved.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AprqaError, match=told):
        fingerprint_at(path)
