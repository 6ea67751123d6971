"""Models in the host's child answer as in this process, and torch stays out of it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.completion import (
    Completion,
    FinishReason,
    GenerationRequest,
    Message,
    TokenChoice,
    TokenLogprob,
)
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines import hosted_engine
from pytest_aprqa.engines.engine import (
    BatchingEngine,
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    LoadFailed,
    NoChatTemplate,
)
from pytest_aprqa.engines.hosted_engine import HostedEngine, load, load_file
from pytest_aprqa.engines.messages import completion_message, completion_of
from pytest_aprqa.engines.torch_host import torch_host
from pytest_aprqa.engines.transformers_engine import TransformersEngine
from tests.conversion.files import tiny

ASK = "What is 2 + 2?"
REQUESTS = (
    GenerationRequest(prompt=ASK, max_tokens=24),
    GenerationRequest(messages=(Message("system", "Be brief."), Message("user", ASK))),
    GenerationRequest(prompt=ASK, max_tokens=24, temperature=1.0, seed=7),
    GenerationRequest(prompt="a\x00b \ud800 👩‍👩‍👧", max_tokens=6, stop=("zz", "e")),
)


@pytest.fixture(scope="module")
def hosted(model_directory: Path) -> HostedEngine:
    return load(model_directory, backend=Backend.CPU, threads=1)


def _answer(completion: Completion) -> tuple[Any, ...]:
    told = completion
    return (
        told.text,
        told.token_ids,
        told.finish_reason,
        told.rendered_prompt,
        told.prompt_token_ids,
        told.prompt_tokens,
    )


def test_it_is_an_engine_that_batches(hosted: HostedEngine, engine: TransformersEngine) -> None:
    assert isinstance(hosted, BatchingEngine)
    for name in ("name", "version", "device", "has_chat_template", "context_length"):
        assert getattr(hosted, name) == getattr(engine, name), name
    assert hosted.describe() == engine.describe()
    assert hosted.child_pid != os.getpid()


@pytest.mark.parametrize("request_", REQUESTS, ids=["prompt", "chat", "sampled", "odd"])
def test_it_answers_as_this_process_does(
    hosted: HostedEngine, engine: TransformersEngine, request_: GenerationRequest
) -> None:
    found = hosted.generate(request_)
    assert _answer(found) == _answer(engine.generate(request_))
    assert found.ttft_s is not None
    assert 0 < found.ttft_s <= found.total_s
    assert found.peak_memory_bytes > 2**26


def test_logits_and_tokens_are_the_same(hosted: HostedEngine, engine: TransformersEngine) -> None:
    ids = hosted.tokenize(ASK, special=True)
    assert ids == engine.tokenize(ASK, special=True)
    assert np.array_equal(hosted.logits(ids), engine.logits(ids))
    with pytest.raises(InvalidRequest, match=r"no token ids"):
        hosted.logits([])


def test_a_batch_goes_through(hosted: HostedEngine, engine: TransformersEngine) -> None:
    requests = (*REQUESTS[:2], REQUESTS[2])
    found = hosted.generate_batch(requests)
    expected = engine.generate_batch(requests)
    assert [a and _answer(a) for a in found] == [a and _answer(a) for a in expected]
    assert found[0] is not None
    assert found[0].batch_size == 2
    assert found[2] is None


def test_refusals_are_the_same(hosted: HostedEngine, copied_model: Path) -> None:
    with pytest.raises(ContextOverflow, match=r"2000 prompt tokens and max_tokens 49 are more"):
        hosted.generate(GenerationRequest(prompt="x" * 2000, max_tokens=49))
    with pytest.raises(InvalidRequest, match=r"max_tokens 0: expected at least 1"):
        hosted.generate(GenerationRequest(prompt=ASK, max_tokens=0))
    (copied_model / "chat_template.jinja").unlink()
    other = load(copied_model, backend=Backend.CPU, threads=1)
    with pytest.raises(NoChatTemplate, match=r"ask it with modality run"):
        other.generate(REQUESTS[1])
    other.close()


def test_load_failures_are_the_same(copied_model: Path) -> None:
    config = copied_model / "config.json"
    healthy = config.read_text()
    config.write_text(json.dumps({"model_type": "nosuch"}))
    with pytest.raises(LoadFailed, match=r"model type `nosuch`") as caught:
        load(copied_model, backend=Backend.CPU, threads=1)
    assert "\n" not in str(caught.value)
    config.write_text(healthy)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (copied_model / name).unlink()
    with pytest.raises(LoadFailed) as caught:
        load(copied_model, backend=Backend.CPU, threads=1)
    start = f"{copied_model}: no usable tokenizer: text becomes no tokens"
    assert str(caught.value).startswith(start)
    with pytest.raises(EngineUnavailable, match=r"unknown dtype 'int3'; expected one of float32"):
        load(copied_model, backend=Backend.CPU, dtype="int3")


def test_broken_weights_are_a_crash_with_its_frames(copied_model: Path) -> None:
    from safetensors.torch import load_file as read
    from safetensors.torch import save_file

    tensors = dict(read(copied_model / "model.safetensors"))
    tensors["model.norm.weight"].fill_(float("nan"))
    save_file(tensors, copied_model / "model.safetensors", metadata={"format": "pt"})
    broken = load(copied_model, backend=Backend.CPU, threads=1)
    pid = broken.child_pid
    with pytest.raises(EngineCrashed, match=r"the model's logits hold NaN") as caught:
        broken.generate(REQUESTS[0])
    assert "transformers_watch.py" in caught.value.traceback_tail
    assert broken.generate_batch(REQUESTS[:2]) == (None, None)
    assert broken.child_pid == pid
    broken.close()


def test_two_models_live_in_one_child(hosted: HostedEngine, tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    convert(tiny(), path)
    other = load_file(path, Format.APR, backend=Backend.CPU, threads=1)
    assert other.child_pid == hosted.child_pid
    assert other.describe()["file"] == "m.apr"
    first, second = hosted.generate(REQUESTS[0]), other.generate(REQUESTS[0])
    assert first.text != second.text
    other.close()
    other.close()
    with pytest.raises(InvalidRequest, match=r"the engine is closed; load the model again"):
        other.generate(REQUESTS[0])
    assert hosted.generate(REQUESTS[0]).text == first.text


def test_a_forgotten_model_leaves_the_child(hosted: HostedEngine, model_directory: Path) -> None:
    other = load(model_directory, backend=Backend.CPU, threads=1)
    handle = other._handle
    del other
    gc.collect()
    assert torch_host()._forgotten == [handle]
    assert hosted.generate(REQUESTS[0]).token_ids
    assert torch_host()._forgotten == []


def test_threads_take_turns(hosted: HostedEngine) -> None:
    expected = hosted.generate(REQUESTS[0]).text
    found: list[str] = []

    def ask() -> None:
        found.append(hosted.generate(REQUESTS[0]).text)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 6


def test_a_completion_travels_whole() -> None:
    best = TokenLogprob("a", -0.5, 7)
    sent = Completion(
        text="a\ud800",
        token_ids=(7, 8),
        prompt_tokens=3,
        finish_reason=FinishReason.LENGTH,
        ttft_s=None,
        total_s=0.25,
        peak_memory_bytes=5,
        rendered_prompt="x",
        prompt_token_ids=(1, 2, 3),
        counted_tokens=2,
        logprobs=(TokenChoice(best, (best, TokenLogprob("b", float("-inf")))),),
        batch_size=3,
        diagnosis="in f",
    )
    assert completion_of(json.loads(json.dumps(completion_message(sent)))) == sent


def test_torch_stays_out_of_this_process(model_directory: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pytest_aprqa.domain.completion import GenerationRequest\n"
        "from pytest_aprqa.domain.model import Backend, Format\n"
        "from pytest_aprqa.domain.plan import Target\n"
        "from pytest_aprqa.engines.choice import load_engine\n"
        "target = Target('m', Format.SAFETENSORS, None, Backend.CPU)\n"
        "engine = load_engine(target, Path(sys.argv[1]), threads=1)\n"
        "answer = engine.generate(GenerationRequest(prompt='Hi', max_tokens=3))\n"
        "assert answer.completion_tokens == 3\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model_directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_nothing_is_printed(model_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    engine.generate(REQUESTS[0])
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_limits_are_what_they_say() -> None:
    assert hosted_engine.GRACE_S < hosted_engine.PROMPT_TIMEOUT_S < hosted_engine.LOAD_TIMEOUT_S
