"""llama.cpp behind the engine protocol: the same answers as transformers, the same refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    Engine,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
)
from pytest_aprqa.engines.llamacpp_engine import LlamaCppEngine, load_gguf
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from tests.engines.gguf_models import (
    END_OF_TEXT,
    IM_END,
    embedded_directory,
    says,
    write_gguf,
)

ASK = "What is 2 + 2?"
WORD = 256
PROMPTS = (ASK, "def f(n):\n", "Hello", "17 - 9 =", "Write a Python function to reverse a string.")
ODD = (
    "a\x00b",
    "👩‍👩‍👧",
    "<|im_end|>",
    "<|im_start|>user\n",
    " ",
    "\n\n",
    "日本語" * 40,
    "x" * 300,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def exact(folder: Path) -> Any:
    engine = load_gguf(write_gguf(folder / "model-f32.gguf"), threads=1, exact=True)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference() -> TransformersEngine:
    return load(embedded_directory(), backend=Backend.CPU, dtype="float32", threads=1)


@pytest.fixture(scope="module")
def babbler(folder: Path) -> Any:
    """Says one word for ever, in a context long enough for seconds of it."""
    path = write_gguf(folder / "babbler.gguf", context=32768, change=says({WORD: 50.0}))
    engine = load_gguf(path, threads=1)
    yield engine
    engine.close()


def _nmse(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(((found - expected) ** 2).mean() / (expected**2).mean())


def test_it_fits_the_protocol_and_says_what_ran(exact: LlamaCppEngine) -> None:
    engine: Engine = exact
    told = engine.describe()
    assert (engine.name, engine.device, engine.context_length) == ("llama.cpp", "cpu", 512)
    assert engine.has_chat_template
    assert told["engine"].startswith(f"llama.cpp {engine.version} (cyllama ")
    assert told["file"] == "model-f32.gguf"
    assert (told["architecture"], told["weights"], told["threads"]) == ("qwen2", "all F32", "1")
    assert (told["attention"], told["kv_cache"]) == ("plain", "float32")
    assert all(isinstance(value, str) for value in told.values())


def test_it_says_how_it_runs_by_default(babbler: LlamaCppEngine) -> None:
    told = babbler.describe()
    assert (told["attention"], told["kv_cache"]) == ("flash where it can", "float16")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_those_of_transformers(
    exact: LlamaCppEngine, reference: TransformersEngine, prompt: str
) -> None:
    chat = (Message("user", prompt),)
    for request in (
        GenerationRequest(prompt=prompt, max_tokens=48),
        GenerationRequest(messages=chat, max_tokens=48),
    ):
        found, expected = exact.generate(request), reference.generate(request)
        assert found.rendered_prompt == expected.rendered_prompt
        assert found.prompt_token_ids == expected.prompt_token_ids
        assert found.token_ids == expected.token_ids
        assert found.text == expected.text
        assert found.finish_reason is expected.finish_reason


def test_logits_are_those_of_transformers(
    exact: LlamaCppEngine, reference: TransformersEngine
) -> None:
    ids = reference.tokenize(" ".join(PROMPTS), special=True)
    found, expected = exact.logits(ids), reference.logits(ids)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (len(ids), 1024)
    assert _nmse(found, expected) < 1e-9
    swapped = (*ids[:5], ids[6], ids[5], *ids[7:])
    assert _nmse(exact.logits(swapped), expected) > 1e-3  # what the bound would catch


def test_logits_of_more_tokens_than_one_batch(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(embedded_directory(), copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    reference = load(copy, backend=Backend.CPU, dtype="float32", threads=1)
    ids = [(17 * i) % 1000 for i in range(700)]
    engine = load_gguf(write_gguf(folder / "long.gguf", context=2048), threads=1, exact=True)
    try:
        assert _nmse(engine.logits(ids), reference.logits(ids)) < 1e-9
        again = engine.logits(ids[:20])
        assert _nmse(again, reference.logits(ids[:20])) < 1e-9
    finally:
        engine.close()


@pytest.mark.parametrize("text", [*PROMPTS, *ODD])
@pytest.mark.parametrize("special", [True, False])
def test_token_ids_are_those_of_the_tokenizer(
    exact: LlamaCppEngine, reference: TransformersEngine, text: str, special: bool
) -> None:
    assert exact.tokenize(text, special=special) == reference.tokenize(text, special=special)


@pytest.mark.parametrize("prompt", [*ODD[:6], "\ud83d\ude42 \ud800", "\udc80"])
def test_odd_prompts_do_not_crash(exact: LlamaCppEngine, prompt: str) -> None:
    plain = exact.generate(GenerationRequest(prompt=prompt, max_tokens=2))
    chat = exact.generate(GenerationRequest(messages=(Message("user", prompt),), max_tokens=2))
    assert plain.token_ids
    assert chat.token_ids
    plain.rendered_prompt.encode()


def test_surrogate_pairs_are_joined_and_lone_ones_replaced(exact: LlamaCppEngine) -> None:
    answer = exact.generate(GenerationRequest(prompt="\ud83d\ude42 \ud800", max_tokens=1))
    assert answer.rendered_prompt == "🙂 \ufffd"


def test_times_and_memory(exact: LlamaCppEngine) -> None:
    answer = exact.generate(GenerationRequest(prompt=ASK, max_tokens=16))
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s < answer.total_s
    assert answer.prompt_tokens == len(answer.prompt_token_ids) == 8
    # The child's own: this process, with torch in it, holds more.
    assert 2**23 < answer.peak_memory_bytes < 2**28


def test_same_seed_same_sample_and_another_seed_another(exact: LlamaCppEngine) -> None:
    def ask(seed: int, temperature: float) -> tuple[int, ...]:
        request = GenerationRequest(
            prompt="Once", max_tokens=16, temperature=temperature, seed=seed
        )
        return exact.generate(request).token_ids

    assert ask(1, 2.0) == ask(1, 2.0) != ask(2, 2.0)
    assert ask(1, 0.0) == ask(2, 0.0) == ask(-(2**70), 1e-6)


def test_samples_come_from_the_whole_distribution(exact: LlamaCppEngine) -> None:
    # So hot that all 1024 tokens are about as likely; llama.cpp's own default is the best 40.
    requests = (
        GenerationRequest(prompt="x", max_tokens=1, temperature=1e4, seed=seed)
        for seed in range(150)
    )
    assert len({exact.generate(request).token_ids for request in requests}) > 120


def test_stop_string_cuts_the_text(babbler: LlamaCppEngine) -> None:
    free = babbler.generate(GenerationRequest(prompt=ASK, max_tokens=8))
    assert free.token_ids == (WORD,) * 8
    assert free.finish_reason is FinishReason.LENGTH
    word = free.text[: len(free.text) // 8]
    stop = ("zzzz", word[-1] + word + word[0])
    answer = babbler.generate(GenerationRequest(prompt=ASK, max_tokens=8, stop=stop))
    assert answer.finish_reason is FinishReason.STOP
    assert answer.text == free.text[: free.text.index(stop[1])]
    assert len(answer.token_ids) == 3


@pytest.mark.parametrize("end", [END_OF_TEXT, IM_END])
def test_end_token_ends_and_is_not_in_the_text(tmp_path: Path, end: int) -> None:
    path = write_gguf(tmp_path / "mute.gguf", change=says({end: 50.0}))
    engine = load_gguf(path, threads=1)
    answer = engine.generate(GenerationRequest(prompt=ASK, max_tokens=8))
    engine.close()
    assert (answer.text, answer.token_ids) == ("", (end,))
    assert answer.finish_reason is FinishReason.STOP


def test_stop_string_may_name_a_special_token(tmp_path: Path) -> None:
    engine = load_gguf(write_gguf(tmp_path / "m.gguf", change=says({1022: 50.0})), threads=1)
    free = engine.generate(GenerationRequest(prompt=ASK, max_tokens=4))
    stopped = engine.generate(GenerationRequest(prompt=ASK, max_tokens=4, stop=("<|im_start|>",)))
    engine.close()
    assert (free.text, free.finish_reason) == ("", FinishReason.LENGTH)
    assert (stopped.token_ids, stopped.finish_reason) == ((1022,), FinishReason.STOP)


def test_a_tie_is_the_first_of_the_best(tmp_path: Path) -> None:
    change = says({700: 9.0, 300: 9.0, 500: 9.0})
    engine = load_gguf(write_gguf(tmp_path / "tie.gguf", change=change), threads=1, exact=True)
    assert engine.generate(GenerationRequest(prompt=ASK, max_tokens=2)).token_ids == (300, 300)
    engine.close()


def test_timeout_keeps_the_partial_text(babbler: LlamaCppEngine) -> None:
    request = GenerationRequest(prompt=ASK, max_tokens=30000, timeout_s=0.2)
    answer = babbler.generate(request)
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert 1 < answer.completion_tokens < 30000
    assert answer.text == babbler.generate(GenerationRequest(prompt=ASK, max_tokens=1)).text * len(
        answer.token_ids
    )
    assert 0.2 < answer.total_s < 5


def test_prefill_beyond_the_limit_is_a_timeout(babbler: LlamaCppEngine) -> None:
    request = GenerationRequest(prompt="x " * 12000, max_tokens=2, timeout_s=0.05)
    answer = babbler.generate(request)
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert (answer.text, answer.ttft_s) == ("", None)
    assert answer.total_s < 5  # the whole prefill takes longer
    after = babbler.generate(GenerationRequest(prompt=ASK, max_tokens=2))
    assert after.token_ids == (WORD, WORD)


def test_longer_than_the_context(exact: LlamaCppEngine) -> None:
    ids = len(exact.tokenize("x " * 250, special=True))
    with pytest.raises(ContextOverflow) as caught:
        exact.generate(GenerationRequest(prompt="x " * 250, max_tokens=513 - ids))
    assert str(caught.value) == (
        f"{ids} prompt tokens and max_tokens {513 - ids} are more than the model's context of 512; "
        "shorten the prompt or lower max_tokens"
    )
    fits = exact.generate(GenerationRequest(prompt="x " * 250, max_tokens=512 - ids))
    assert fits.token_ids


def test_empty_prompt_starts_from_the_start_token(exact: LlamaCppEngine) -> None:
    answer = exact.generate(GenerationRequest(prompt="", max_tokens=2))
    assert (answer.rendered_prompt, answer.prompt_token_ids) == ("", (END_OF_TEXT,))


def test_empty_prompt_takes_no_default_for_a_missing_key(tmp_path: Path) -> None:
    # Without bos_token_id llama.cpp itself would say 11.
    path = write_gguf(tmp_path / "m.gguf", without=("bos_token_id",))
    engine = load_gguf(path, threads=1)
    answer = engine.generate(GenerationRequest(prompt="", max_tokens=1))
    engine.close()
    assert answer.prompt_token_ids == (END_OF_TEXT,)


def test_chat_without_a_template(tmp_path: Path) -> None:
    engine = load_gguf(write_gguf(tmp_path / "m.gguf", without=("chat_template",)), threads=1)
    assert not engine.has_chat_template
    with pytest.raises(NoChatTemplate, match=r"no chat template .* ask it with modality run"):
        engine.generate(GenerationRequest(messages=(Message("user", ASK),)))
    assert engine.generate(GenerationRequest(prompt=ASK, max_tokens=1)).token_ids
    engine.close()


def test_template_sees_the_special_tokens_and_may_refuse(tmp_path: Path) -> None:
    template = (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}"
        "{{ messages[-1].content }}{{ eos_token }}"
    )
    engine = load_gguf(write_gguf(tmp_path / "m.gguf", template=template), threads=1)
    answer = engine.generate(GenerationRequest(messages=(Message("user", "Hi"),), max_tokens=1))
    assert answer.rendered_prompt == "<|endoftext|>Hi<|im_end|>"
    assert answer.prompt_token_ids[0] == END_OF_TEXT
    assert answer.prompt_token_ids[-1] == IM_END
    with pytest.raises(InvalidRequest, match=r"chat template refuses the messages: .*no system"):
        engine.generate(GenerationRequest(messages=(Message("system", "x"),)))
    engine.close()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_tokens": 0}, r"max_tokens 0: expected at least 1"),
        ({"temperature": float("nan")}, r"temperature nan: expected 0 or more"),
        ({"stop": ("",)}, r"a stop string is empty"),
    ],
)
def test_senseless_settings(exact: LlamaCppEngine, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        exact.generate(GenerationRequest(prompt=ASK, **setting))


@pytest.mark.parametrize("name", ["exact", "reference"])
@pytest.mark.parametrize(
    ("ids", "kind", "message"),
    [
        ((), InvalidRequest, r"no token ids: logits belong to tokens"),
        ((5, 1024), InvalidRequest, r"token id 1024: expected 0 to 1023"),
        ((-1,), InvalidRequest, r"token id -1: expected 0 to 1023"),
        ((7,) * 513, ContextOverflow, r"513 tokens are more than the model's context of 512"),
    ],
)
def test_logits_of_what_is_no_text(
    request: pytest.FixtureRequest,
    name: str,
    ids: tuple[int, ...],
    kind: type[Exception],
    message: str,
) -> None:
    engine: Engine = request.getfixturevalue(name)
    with pytest.raises(kind, match=message):
        engine.logits(ids)


def test_nan_is_a_crash_and_survived(tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        tensors["token_embd.weight"][IM_END] = np.nan

    engine = load_gguf(write_gguf(tmp_path / "nan.gguf", change=change), threads=1)
    pid = engine.child_pid
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineCrashed) as caught:
            engine.generate(GenerationRequest(prompt=ASK, temperature=temperature))
        assert caught.value.error == "FloatingPointError: the model's logits hold NaN"
        assert "pick" in caught.value.traceback_tail
    assert engine.tokenize("Hi", special=True)
    assert engine.child_pid == pid
    engine.close()


def test_a_closed_engine_answers_no_more(tmp_path: Path) -> None:
    engine = load_gguf(write_gguf(tmp_path / "m.gguf"), threads=1)
    engine.close()
    engine.close()
    for ask in (
        lambda: engine.generate(GenerationRequest(prompt=ASK)),
        lambda: engine.logits([1]),
        lambda: engine.tokenize("x", special=True),
    ):
        with pytest.raises(InvalidRequest, match=r"the engine is closed; load the model again"):
            ask()
