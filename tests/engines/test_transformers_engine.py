from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
)
from pytest_aprqa.engines.transformers_engine import load

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.engines.transformers_engine import TransformersEngine

ASK = "What is 2 + 2?"
LONG_SEEDED = GenerationRequest(prompt=ASK, max_tokens=40, temperature=1.0, seed=7)
IM_END = 258


def naive_greedy(engine: TransformersEngine, ids: list[int], count: int) -> list[int]:
    """Without a cache and without `generate`: the most likely next token, `count` times."""
    import torch

    model: Any = engine._model
    ids = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[-count:]


def test_greedy_is_the_argmax_of_the_model(model_directory: Path) -> None:
    # float32: in bfloat16 a cache may round a near tie the other way.
    engine = load(model_directory, backend=Backend.CPU, dtype="float32", threads=1)
    repeated = 0
    for prompt in (ASK, "def f(n):\n", "Hello"):
        answer = engine.generate(GenerationRequest(prompt=prompt, max_tokens=24))
        expected = naive_greedy(engine, list(answer.prompt_token_ids), len(answer.token_ids))
        assert list(answer.token_ids) == expected
        repeated += len(expected) - len(set(expected))
    assert repeated  # or a repetition penalty would go unseen


def test_generation_defaults_of_the_model_do_not_act(model_directory: Path) -> None:
    # generation_config.json asks for sampling, top_k 1 and a repetition penalty of 5.
    engine = load(model_directory, backend=Backend.CPU, dtype="float32", threads=1)
    sampled = {
        engine.generate(
            GenerationRequest(prompt=ASK, max_tokens=12, temperature=2.0, seed=seed)
        ).token_ids
        for seed in range(4)
    }
    assert len(sampled) == 4


def test_samples_come_from_the_whole_distribution(engine: TransformersEngine) -> None:
    # So hot that all 259 tokens are about as likely; transformers' own default is the best 50.
    first = {
        engine.generate(
            GenerationRequest(prompt="x", max_tokens=1, temperature=1e4, seed=seed)
        ).token_ids
        for seed in range(150)
    }
    assert len(first) > 75


def test_same_request_same_tokens(engine: TransformersEngine) -> None:
    for request in (GenerationRequest(prompt=ASK, max_tokens=40), LONG_SEEDED):
        assert engine.generate(request).token_ids == engine.generate(request).token_ids


def test_seed_changes_the_sample_and_not_the_greedy_answer(engine: TransformersEngine) -> None:
    def ask(seed: int, temperature: float) -> tuple[int, ...]:
        request = GenerationRequest(
            prompt=ASK, max_tokens=16, temperature=temperature, seed=seed, timeout_s=600
        )
        return engine.generate(request).token_ids

    assert ask(1, 1.0) != ask(2, 1.0)
    assert ask(1, 0.0) == ask(2, 0.0) == ask(-(2**70), 1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_random_state_of_the_process_is_left_alone(
    engine: TransformersEngine, temperature: float
) -> None:
    import numpy as np
    import torch

    torch_before, python_before = torch.random.get_rng_state(), random.getstate()
    numpy_before = np.random.get_state()[1].copy()  # type: ignore[index]
    engine.generate(GenerationRequest(prompt=ASK, max_tokens=8, temperature=temperature))
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert random.getstate() == python_before
    assert (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]


@pytest.mark.parametrize("count", [1, 2, 33])
def test_max_tokens_is_exact(engine: TransformersEngine, count: int) -> None:
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=count))
    assert answer.completion_tokens == count
    assert answer.finish_reason is FinishReason.LENGTH


def test_times_and_memory(engine: TransformersEngine) -> None:
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=16))
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s < answer.total_s
    assert answer.tokens_per_second == pytest.approx(16 / answer.total_s)
    assert answer.peak_memory_bytes > 2**26
    assert answer.prompt_tokens == len(answer.prompt_token_ids) == len(ASK)
    assert answer.rendered_prompt == ASK


def test_stop_string_cuts_the_text(engine: TransformersEngine) -> None:
    free = engine.generate(LONG_SEEDED)
    stop = free.text[5:7]
    answer = engine.generate(
        GenerationRequest(prompt=ASK, max_tokens=40, temperature=1.0, seed=7, stop=("zzzz", stop))
    )
    assert answer.finish_reason is FinishReason.STOP
    assert answer.text == free.text[: free.text.index(stop)]
    assert answer.token_ids == free.token_ids[: len(answer.token_ids)]
    assert len(answer.token_ids) < len(free.token_ids)


def _force_tokens(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, tokens: list[int]
) -> None:
    """Make the model say these tokens, whatever it is asked."""
    forward = engine._model.forward
    left = list(tokens)

    def forced(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits[:, -1, left.pop(0)] = 1e4
        return output

    monkeypatch.setattr(engine._model, "forward", forced)


def test_end_token_ends_and_is_not_in_the_text(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hi = list(engine._tokenizer("Hi").input_ids)
    for end in (256, IM_END):
        _force_tokens(engine, monkeypatch, [*hi, end])
        answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=8))
        assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.STOP)
        assert answer.token_ids == (*hi, end)
        monkeypatch.undo()


def test_end_token_at_max_tokens_is_a_stop(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _force_tokens(engine, monkeypatch, [IM_END])
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=1))
    assert (answer.text, answer.finish_reason) == ("", FinishReason.STOP)


def test_stop_string_may_name_a_special_token(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _force_tokens(engine, monkeypatch, [*engine._tokenizer("Hi<|im_start|>").input_ids, 0])
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=8, stop=("<|im_start|>",)))
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.STOP)


def test_prefill_beyond_the_limit_is_a_timeout(engine: TransformersEngine) -> None:
    answer = engine.generate(GenerationRequest(prompt=ASK * 60, max_tokens=200, timeout_s=0.0001))
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert answer.completion_tokens == 1


def test_timeout_keeps_the_partial_text(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    _force_tokens(engine, monkeypatch, list(engine._tokenizer("word " * 380).input_ids))
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=1900, timeout_s=0.2))
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert 1 < answer.completion_tokens < 1900
    assert answer.text.startswith("word word ")
    assert 0.2 < answer.total_s < 5


def test_chat_is_the_models_template(engine: TransformersEngine) -> None:
    chat = (Message("system", "Be brief."), Message("user", ASK))
    answer = engine.generate(GenerationRequest(messages=chat, max_tokens=2))
    rendered = (
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{ASK}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert answer.rendered_prompt == rendered
    tokenizer: Any = engine._tokenizer
    expected = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in chat],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(answer.prompt_token_ids) == list(expected)


def test_start_token_once_in_prompt_and_chat(copied_model: Path) -> None:
    import json

    from tokenizers import Tokenizer, processors

    tokenizer: Any = Tokenizer.from_file(str(copied_model / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 256)]
    )
    tokenizer.save(str(copied_model / "tokenizer.json"))
    settings = copied_model / "tokenizer_config.json"
    config = json.loads(settings.read_text()) | {"bos_token": "<|endoftext|>"}
    settings.write_text(json.dumps(config))
    template = copied_model / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())

    engine = load(copied_model, backend=Backend.CPU, threads=1)
    plain = engine.generate(GenerationRequest(prompt=ASK, max_tokens=1))
    chat = engine.generate(GenerationRequest(messages=(Message("user", ASK),), max_tokens=1))
    for answer in (plain, chat):
        assert answer.prompt_token_ids[0] == 256
        assert answer.prompt_token_ids.count(256) == 1
    empty = engine.generate(GenerationRequest(prompt="", max_tokens=1))
    assert empty.prompt_token_ids == (256,)


def test_chat_without_a_template(copied_model: Path) -> None:
    (copied_model / "chat_template.jinja").unlink()
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    assert not engine.has_chat_template
    with pytest.raises(NoChatTemplate, match=r"no chat template .* ask it with modality run"):
        engine.generate(GenerationRequest(messages=(Message("user", ASK),)))
    assert engine.generate(GenerationRequest(prompt=ASK, max_tokens=1)).token_ids


def test_template_that_refuses_a_role(copied_model: Path) -> None:
    (copied_model / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    with pytest.raises(InvalidRequest, match=r"chat template refuses the messages: .*no system"):
        engine.generate(GenerationRequest(messages=(Message("system", "x"),)))


def test_longer_than_the_context(engine: TransformersEngine) -> None:
    with pytest.raises(ContextOverflow) as caught:
        engine.generate(GenerationRequest(prompt="x" * 2000, max_tokens=49))
    assert str(caught.value) == (
        "2000 prompt tokens and max_tokens 49 are more than the model's context of 2048; "
        "shorten the prompt or lower max_tokens"
    )
    fits = engine.generate(GenerationRequest(prompt="x" * 2047, max_tokens=1))
    assert fits.completion_tokens == 1


def test_empty_prompt_starts_from_the_end_of_text_token(engine: TransformersEngine) -> None:
    answer = engine.generate(GenerationRequest(prompt="", max_tokens=4))
    assert answer.rendered_prompt == ""
    assert answer.prompt_token_ids == (256,)
    assert answer.completion_tokens == 4


def test_empty_prompt_without_any_start_token(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_start_ids", [])
    with pytest.raises(InvalidRequest, match=r"the prompt '' has no tokens .* give it a prompt"):
        engine.generate(GenerationRequest(prompt="", max_tokens=4))


@pytest.mark.parametrize(
    "prompt",
    ["a\x00b", "\ud800 lone", "\udc80", "👩‍👩‍👧", "<|im_end|>", "<|im_start|>user\n", " ", "\n\n"],
)
def test_odd_prompts_do_not_crash(engine: TransformersEngine, prompt: str) -> None:
    plain = engine.generate(GenerationRequest(prompt=prompt, max_tokens=2))
    chat = engine.generate(GenerationRequest(messages=(Message("user", prompt),), max_tokens=2))
    assert plain.token_ids
    assert chat.token_ids
    plain.rendered_prompt.encode()
    plain.text.encode()


def test_surrogate_pairs_are_joined_and_lone_ones_replaced(engine: TransformersEngine) -> None:
    answer = engine.generate(GenerationRequest(prompt="\ud83d\ude42 \ud800", max_tokens=1))
    assert answer.rendered_prompt == "🙂 \ufffd"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_tokens": 0}, r"max_tokens 0: expected at least 1"),
        ({"temperature": -1.0}, r"temperature -1\.0: expected 0 or more"),
        ({"temperature": float("nan")}, r"temperature nan: expected 0 or more"),
        ({"stop": ("",)}, r"a stop string is empty"),
    ],
)
def test_senseless_settings(
    engine: TransformersEngine, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        engine.generate(GenerationRequest(prompt=ASK, **setting))


def test_crash_in_forward_is_recorded_and_survived(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.generate(GenerationRequest(prompt=ASK, max_tokens=8))

    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("index out of range\nin self")

    with monkeypatch.context() as patch:
        patch.setattr(engine._model, "forward", broken)
        with pytest.raises(EngineCrashed) as caught:
            engine.generate(LONG_SEEDED)
    assert caught.value.error == "RuntimeError: index out of range in self"
    assert "in broken" in caught.value.traceback_tail
    assert isinstance(caught.value.__cause__, RuntimeError)
    after = engine.generate(GenerationRequest(prompt=ASK, max_tokens=8))
    assert after.token_ids == before.token_ids


def test_nan_is_a_crash_and_no_answer(copied_model: Path) -> None:
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    engine._model.model.norm.weight.data.fill_(float("nan"))
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineCrashed, match=r"the model's logits hold NaN"):
            engine.generate(GenerationRequest(prompt=ASK, temperature=temperature))


def test_warnings_of_a_model_are_no_crash(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine._model.forward

    def warns(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("an attention mask is odd", stacklevel=1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine._model, "forward", warns)
    assert engine.generate(GenerationRequest(prompt=ASK, max_tokens=2)).completion_tokens == 2


def test_threads_act_during_the_call_only(
    model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    engine = load(model_directory, backend=Backend.CPU, threads=2)
    forward, seen = engine._model.forward, set()

    def counts(*args: Any, **kwargs: Any) -> Any:
        seen.add(torch.get_num_threads())
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine._model, "forward", counts)
    engine.generate(GenerationRequest(prompt=ASK, max_tokens=2))
    assert seen == {2}
    assert torch.get_num_threads() == 1


def test_interrupts_pass_through(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine._model, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(LONG_SEEDED)
    assert engine.generate(LONG_SEEDED).token_ids


def test_closed_engine(model_directory: Path) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    engine.close()
    engine.close()
    with pytest.raises(InvalidRequest, match=r"the engine is closed"):
        engine.generate(GenerationRequest(prompt=ASK))


def test_generation_is_silent(
    engine: TransformersEngine,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.generate(GenerationRequest(prompt=ASK, max_tokens=8))
    engine.generate(LONG_SEEDED)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert not caplog.records


def test_space_at_the_start_of_an_answer_is_kept(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Such decoders drop a text's first space: an indented answer would lose a column.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, "f:": 3, "▁▁▁▁": 4, "x": 5}
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    untyped: Any = PreTrainedTokenizerFast
    monkeypatch.setattr(
        engine, "_tokenizer", untyped(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    )
    assert engine._text_after([3], [4, 5]) == "    x"
    assert engine._text_after([0], [5]) == "x"
