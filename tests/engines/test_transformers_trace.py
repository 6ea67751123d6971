from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.domain.trace import SPINE, Role, TraceLevel, trace_of
from pytest_aprqa.engines import hosted_engine
from pytest_aprqa.engines.engine import ContextOverflow, InvalidRequest, TracingEngine
from pytest_aprqa.engines.tracing import message_of, pass_of
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from pytest_aprqa.engines.transformers_statistics import norm_of, value_stats
from pytest_aprqa.formats.hub import resolve_model

TINY = resolve_model("embedded/aprqa-tiny").directory


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    return load(TINY, backend=Backend.CPU, dtype="float32", threads=1)


@pytest.fixture
def ids(tiny: TransformersEngine) -> tuple[int, ...]:
    return tiny.tokenize("The capital of France is", special=True)


def hooks_of(engine: TransformersEngine) -> int:
    modules = list(engine._model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.mark.parametrize("level", TraceLevel)
def test_logits_are_the_engines_own_and_no_hook_stays(
    tiny: TransformersEngine, ids: tuple[int, ...], level: TraceLevel
) -> None:
    hooks, attention = hooks_of(tiny), tiny.describe()["attention"]
    found = tiny.trace(ids, level)
    np.testing.assert_allclose(found.arrays["logits"], tiny.logits(ids), atol=1e-3)
    assert hooks_of(tiny) == hooks
    assert tiny.describe()["attention"] == attention != "eager"
    assert found.trace.token_ids == ids
    assert found.trace.remarks == ()


def test_attention_is_put_back_after_a_crash(
    tiny: TransformersEngine, ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = hooks_of(tiny)

    def break_down(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(tiny._model.model.layers[1].mlp, "forward", break_down)
        with pytest.raises(Exception, match="planted"):
            tiny.trace(ids, TraceLevel.PAYLOAD)
    assert hooks_of(tiny) == hooks
    assert tiny.describe()["attention"] != "eager"


def test_hidden_states_are_those_that_transformers_tells(
    tiny: TransformersEngine, ids: tuple[int, ...]
) -> None:
    import torch

    found = tiny.trace(ids, TraceLevel.PAYLOAD)
    with torch.inference_mode():
        told = tiny._model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    layers = [state[0].numpy() for state in told.hidden_states]
    for stage in range(3):  # the last that transformers tells is after the norm
        np.testing.assert_allclose(found.arrays["hidden"][stage], layers[stage], atol=1e-2)
    np.testing.assert_allclose(found.arrays["final"], layers[-1], atol=1e-2)
    np.testing.assert_array_equal(found.arrays["embedding"], layers[0])
    assert found.arrays["attention"].shape == (3, 8, len(ids), len(ids))


def test_each_module_has_its_role_and_layer(tiny: TransformersEngine, ids: tuple[int, ...]) -> None:
    trace = tiny.trace(ids, TraceLevel.LAYER).trace
    assert [m.name for m in trace.of_role(Role.LAYER)] == [f"model.layers.{i}" for i in range(3)]
    assert [m.name for m in trace.of_role(Role.FINAL_NORM)] == ["model.norm"]
    assert [m.name for m in trace.of_role(Role.HEAD)] == ["lm_head"]
    assert [m.layer for m in trace.of_role(Role.ATTENTION)] == [0, 1, 2]
    assert {m.role for m in trace.modules if m.values is not None} == set(SPINE)
    assert all(0 < module.seconds <= trace.seconds for module in trace.modules)


def test_statistics_are_numpys(tiny: TransformersEngine, ids: tuple[int, ...]) -> None:
    found = tiny.trace(ids, TraceLevel.PAYLOAD)
    for stage, module in enumerate(found.trace.of_role(Role.LAYER), 1):
        values, seen = found.arrays["hidden"][stage].astype(np.float64), module.values
        assert seen is not None
        assert seen.mean == pytest.approx(values.mean(), abs=1e-3)
        assert seen.std == pytest.approx(values.std(), rel=1e-3)
        assert seen.l2 == pytest.approx(np.linalg.norm(values), rel=1e-3)
        assert (seen.minimum, seen.maximum) == (values.min(), values.max())
        assert seen.first == tuple(values[-1][:8])


def test_what_is_not_finite_is_counted_and_the_rest_is_measured() -> None:
    import torch

    found = value_stats(torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]]), first=2)
    assert (found.size, found.nan, found.inf, found.not_finite) == (4, 1, 1, 2)
    assert (found.mean, found.minimum, found.maximum, found.zeros) == (0.5, 0.0, 1.0, 0.5)
    assert found.first == (None, 0.0)


def test_of_nothing_finite_nothing_is_told() -> None:
    import torch

    found = value_stats(torch.tensor([float("nan")]))
    assert (found.nan, found.max_abs, found.l2) == (1, 0.0, 0.0)


@pytest.mark.parametrize(("epsilon", "scale"), [(1e-9, 1.0), (1.0, 0.5**0.5)])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_what_epsilon_takes_is_seen(epsilon: float, scale: float, offset: float) -> None:
    import torch

    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(3))
    x = x / x.square().mean(dim=-1, keepdim=True).sqrt()
    norm = torch.nn.Module()
    norm.weight = torch.nn.Parameter(torch.linspace(-0.5, 0.7, 64), requires_grad=False)
    given = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + epsilon)
    found = norm_of(norm, "norm", x, given * (offset + norm.weight))
    assert found is not None
    assert found.scale == pytest.approx(scale, rel=1e-4)
    assert found.cosine == pytest.approx(1.0, abs=1e-5)


def test_a_trace_survives_json(tiny: TransformersEngine, ids: tuple[int, ...]) -> None:
    found = tiny.trace(ids, TraceLevel.PAYLOAD)
    message, blob = message_of(found)
    again = pass_of(json.loads(json.dumps(message, allow_nan=False)), blob)
    assert again.trace == found.trace == trace_of(json.loads(json.dumps(found.trace.as_json())))
    assert again.arrays.keys() == found.arrays.keys()
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_the_child_traces_as_this_process_does(
    tiny: TransformersEngine, ids: tuple[int, ...]
) -> None:
    engine = hosted_engine.load(TINY, backend=Backend.CPU, dtype="float32", threads=1)
    try:
        assert isinstance(engine, TracingEngine)
        here, there = (e.trace(ids, TraceLevel.PAYLOAD) for e in (tiny, engine))
        assert [m.name for m in there.trace.modules] == [m.name for m in here.trace.modules]
        np.testing.assert_allclose(there.arrays["hidden"], here.arrays["hidden"], atol=1e-2)
        with pytest.raises(InvalidRequest, match="no token ids"):
            engine.trace([], TraceLevel.NONE)
        answer = engine.generate(GenerationRequest(prompt_token_ids=ids, max_tokens=4))
        assert len(answer.token_s) == len(answer.token_ids)
        assert answer.token_s[0] == answer.ttft_s
        assert list(answer.token_s) == sorted(answer.token_s)
    finally:
        engine.close()


def test_what_cannot_be_traced_is_refused(tiny: TransformersEngine) -> None:
    with pytest.raises(ContextOverflow):
        tiny.trace([5] * 600, TraceLevel.BASIC)
    with pytest.raises(InvalidRequest, match="expected 0 to 1023"):
        tiny.trace([5000], TraceLevel.BASIC)


def test_a_model_without_a_list_of_layers_is_refused(
    tiny: TransformersEngine, ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny._model.config, "num_hidden_layers", 7)
    with pytest.raises(InvalidRequest, match="no list of 7 layers"):
        tiny.trace(ids, TraceLevel.BASIC)


def test_attention_that_cannot_be_plain_is_told(
    tiny: TransformersEngine, ids: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: str) -> None:
        raise ValueError("planted: only flash attention")

    monkeypatch.setattr(tiny._model, "set_attn_implementation", refuse)
    found = tiny.trace(ids, TraceLevel.PAYLOAD)
    assert found.trace.attention == ()
    assert "only flash attention" in found.trace.remarks[0]
