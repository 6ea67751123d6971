"""What llama.cpp's server makes of a GGUF file: nothing of its own is added to what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.llamacpp_engine import load_gguf
from pytest_aprqa.engines.serving.llama_log import shown
from pytest_aprqa.engines.serving.llama_server import SLOT_CONTEXT, slot_context
from pytest_aprqa.engines.serving.server_process import ServerProcess, start_server
from tests.engines.gguf_models import write_gguf
from tests.engines.serving.client import Client

# Its answer begins with a blank, and its text with a start token.
WITH_START = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def served(path: Path) -> ServerProcess:
    return start_server(path, Format.GGUF, backend=Backend.CPU, threads=1, model_name="x")


@pytest.mark.parametrize(
    ("template", "starts"), [(WITH_START, True), (WITH_START, False), (WITH_SYSTEM, False)]
)
def test_a_chat_is_the_models_own_template_and_no_more(
    tmp_path: Path, template: str, starts: bool
) -> None:
    path = write_gguf(tmp_path / "m.gguf", template=template, starts=starts)
    messages = (Message("user", "What is 2+2?"),)
    engine = load_gguf(path, threads=1)
    server = served(path)
    try:
        server.wait_ready(60)
        assert server.describe()["chat_template"] == "its own"
        expected = engine.generate(GenerationRequest(messages=messages, max_tokens=8))
        client = Client(server.url)
        found = client.chat("What is 2+2?", temperature=0, max_tokens=8).json
        assert found["choices"][0]["message"]["content"] == expected.text
        assert expected.text.startswith(" ") == (template is WITH_START)
        assert found["usage"]["prompt_tokens"] == expected.prompt_tokens
        events = client.chat("What is 2+2?", temperature=0, max_tokens=8, stream=True).events
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == expected.text
    finally:
        engine.close()
        server.close()


def test_sampling_settings_in_the_file_do_not_act(tmp_path: Path) -> None:
    def sampling(writer: Any) -> None:
        writer.add_int32("general.sampling.top_k", 1)
        writer.add_float32("general.sampling.top_p", 0.001)
        writer.add_float32("general.sampling.temp", 0.0001)
        writer.add_float32("general.sampling.penalty_repeat", 5.0)

    answers = []
    for name, more in (("plain", lambda _writer: None), ("set", sampling)):
        server = served(write_gguf(tmp_path / f"{name}.gguf", more=more))
        try:
            server.wait_ready(60)
            client = Client(server.url)
            bodies = [client.complete("def ", seed=seed, max_tokens=8).json for seed in range(5)]
            answers.append([body["choices"][0]["text"] for body in bodies])
        finally:
            server.close()
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 5


def test_a_file_without_a_template_is_told(tmp_path: Path) -> None:
    server = served(write_gguf(tmp_path / "m.gguf", without={"chat_template"}))
    try:
        server.wait_ready(60)
        assert server.describe()["chat_template"] == "none: llama.cpp takes ChatML"
        assert Client(server.url).get("/health").headers.get("access-control-allow-origin") != "*"
        assert server.log_tail() == ""
    finally:
        server.close()


@pytest.mark.parametrize(
    ("own", "expected"),
    [(512, 512), (100, 256), (131_072, SLOT_CONTEXT), (None, SLOT_CONTEXT), (0, SLOT_CONTEXT)],
)
def test_a_slots_context_is_the_models_within_reason(own: int | None, expected: int) -> None:
    metadata = {"general.architecture": "qwen2", "qwen2.context_length": own}
    assert slot_context(metadata) == expected


@pytest.mark.parametrize(
    ("line", "requests", "expected"),
    [
        (
            "0.00.245.542 I slot print_timing: id  2 | task 3 |       total time =     115.98 ms /"
            "   401 tokens",
            True,
            "answered: 401 tokens with the prompt, 0.12 s",
        ),
        ("0.00.245.542 I slot print_timing: total time = 115.98 ms / 401 tokens", False, None),
        ("0.00.006.803 I srv          init: loading model", True, None),
        (
            "0.00.015.387 E srv start: couldn't bind",
            False,
            "0.00.015.387 E srv start: couldn't bind",
        ),
        ("GGML_ASSERT failed", False, "GGML_ASSERT failed"),
    ],
)
def test_what_is_shown_of_its_log(line: str, requests: bool, expected: str | None) -> None:
    assert shown(line, requests=requests) == expected
