"""The embedded model behind its server in all three formats: the same answers as the engine's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.completion import Completion, GenerationRequest, Message
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.choice import load_engine
from pytest_aprqa.engines.engine import Engine
from pytest_aprqa.engines.serving.server_process import ServerProcess, start_server
from pytest_aprqa.formats.hub import resolve_model
from tests.engines.serving.client import Client, until

PROMPTS = ("2+2=", "What is 17 + 25?", "Write a Python function to reverse a string", "def ")
CHATS = (
    (Message("user", "What is 17 + 25?"),),
    (Message("system", "You are a helpful assistant."), Message("user", "Hello")),
    (
        Message("user", "My name is Ada."),
        Message("assistant", "Hello Ada."),
        Message("user", "What is my name?"),
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One model twice: behind HTTP, and in this process."""

    format: Format
    server: ServerProcess
    client: Client
    engine: Engine


@pytest.fixture(scope="module", params=list(Format))
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path = model(request.param, tmp_path_factory.mktemp("model"))
    server = start_server(
        path, request.param, backend=Backend.CPU, threads=1, model_name="embedded/aprqa-tiny"
    )
    engine = load_engine(Target("tiny", request.param, None, Backend.CPU), path, threads=1)
    try:
        server.wait_ready(300)
        yield Pair(request.param, server, Client(server.url), engine)
    finally:
        engine.close()
        server.close()


def model(format_: Format, place: Path) -> Path:
    original = resolve_model("embedded/aprqa-tiny").directory
    if format_ is Format.SAFETENSORS:
        return original
    made = place / f"tiny.{format_}"
    convert(original, made)
    return made


def ask(pair: Pair, request: GenerationRequest, **more: Any) -> Any:
    settings = {"max_tokens": request.max_tokens, "temperature": 0, "stop": list(request.stop)}
    if request.prompt is not None:
        return pair.client.complete(request.prompt, **settings, **more)
    messages = [{"role": m.role, "content": m.content} for m in request.messages]
    body = {"messages": messages, **settings, **more}
    return pair.client.post("/v1/chat/completions", body)


def text_of(choice: Any) -> str:
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def piece_of(choice: Any) -> str:
    return str(choice["text"] if "text" in choice else choice["delta"].get("content") or "")


REQUESTS = [
    *(GenerationRequest(prompt=prompt, max_tokens=40) for prompt in PROMPTS),
    *(GenerationRequest(messages=messages, max_tokens=40) for messages in CHATS),
    GenerationRequest(prompt=PROMPTS[2], max_tokens=40, stop=("return",)),
    GenerationRequest(prompt=PROMPTS[2], max_tokens=5),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_a_greedy_answer_is_the_engines(pair: Pair, request_: GenerationRequest) -> None:
    expected: Completion = pair.engine.generate(request_)
    answer = ask(pair, request_)
    assert answer.status == 200, answer.body
    (choice,) = answer.json["choices"]
    assert text_of(choice) == expected.text
    assert choice["finish_reason"] == expected.finish_reason
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] == expected.prompt_tokens
    assert usage["completion_tokens"] == expected.completion_tokens
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    events = ask(pair, request_, stream=True).events
    pieces = [piece_of(choice) for event in events for choice in event["choices"]]
    assert "".join(pieces) == expected.text
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    assert [reason for reason in reasons if reason] == [expected.finish_reason]


def test_token_ids_are_a_prompt(pair: Pair) -> None:
    ids = pair.engine.tokenize(PROMPTS[1], special=True)
    answer = pair.client.complete(list(ids), max_tokens=8, temperature=0)
    expected = pair.engine.generate(GenerationRequest(prompt=PROMPTS[1], max_tokens=8))
    by_ids = pair.engine.generate(GenerationRequest(prompt_token_ids=ids, max_tokens=8))
    assert answer.json["choices"][0]["text"] == expected.text == by_ids.text


def test_seeds_draw_from_the_whole_distribution(pair: Pair) -> None:
    def drawn(seed: int) -> str:
        body = {"max_tokens": 12, "temperature": 3.0, "seed": seed}
        return str(pair.client.complete("def ", **body).json["choices"][0]["text"])

    texts = [drawn(seed) for seed in range(6)]
    assert len(set(texts)) > 4
    assert [drawn(seed) for seed in range(6)] == texts


def test_eight_at_once_are_answered_as_one_after_another(pair: Pair) -> None:
    prompts = [f"What is {n} + {n + 3}?" for n in range(8)]

    def answer(prompt: str) -> str:
        found = pair.client.chat(prompt, max_tokens=16, temperature=0)
        return str(found.json["choices"][0]["message"]["content"])

    serial = [answer(prompt) for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, prompts)) == serial
    assert serial[0] == "3"


def test_log_probabilities_are_a_distributions(pair: Pair) -> None:
    found = pair.client.chat(
        "What is 2+2?", max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    first = found.json["choices"][0]["logprobs"]["content"][0]
    assert first["token"] == "4"
    assert first["logprob"] == pytest.approx(0, abs=1e-3)
    told = [best["logprob"] for best in first["top_logprobs"]]
    assert first["top_logprobs"][0]["token"] == "4"
    assert len(told) == 3
    assert told == sorted(told, reverse=True)


def test_the_model_is_listed(pair: Pair) -> None:
    ids = [entry["id"] for entry in pair.client.get("/v1/models").json["data"]]
    assert ids == ["embedded/aprqa-tiny"]
    assert pair.client.get("/health").json == {"status": "ok"}


def test_wrong_requests_are_refused_and_the_server_stays(pair: Pair) -> None:
    path = "/v1/completions"
    for answer in (
        pair.client.send("POST", path, b"{"),
        pair.client.complete("a", max_tokens=-5),
        pair.client.complete("a " * 600, max_tokens=1),
        pair.client.complete(None),
        pair.client.send("GET", path),
        pair.client.get("/nothing"),
    ):
        assert 400 <= answer.status < 500
        assert answer.json["error"]["message"]
    assert pair.client.complete("2+2=", temperature=0).json["choices"][0]["text"] == "4"
    assert pair.server.alive


def test_what_runs_is_told(pair: Pair) -> None:
    told = pair.server.describe()
    assert told["device"] == "cpu"
    assert told["threads"] == "1"
    name = "llama.cpp server (xllamacpp " if pair.format is Format.GGUF else "transformers "
    assert told["engine"].startswith(name)


def test_a_client_that_leaves_in_mid_stream_frees_its_slot(pair: Pair) -> None:
    body = {"prompt": "def ", "max_tokens": 400, "temperature": 2, "stream": True, "seed": 5}
    for _ in range(6):  # more than llama.cpp's server has slots
        connection = pair.client.begin("/v1/completions", body)
        connection.getresponse().read(6)
        connection.close()
    assert pair.client.complete("2+2=", temperature=0).json["choices"][0]["text"] == "4"
    if pair.format is Format.GGUF:
        until(lambda: not any(slot["is_processing"] for slot in pair.client.get("/slots").json))


@pytest.mark.parametrize("pair", [Format.GGUF], indirect=True)
def test_llama_cpp_renders_a_chat_as_our_engine_does(pair: Pair) -> None:
    for messages in CHATS:
        body = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
        rendered = pair.client.post("/apply-template", body).json["prompt"]
        request = GenerationRequest(messages=messages, max_tokens=1)
        assert rendered == pair.engine.generate(request).rendered_prompt


@pytest.mark.parametrize("pair", [Format.GGUF], indirect=True)
def test_no_sampling_default_of_llama_cpp_acts(pair: Pair) -> None:
    pair.client.complete("a", max_tokens=7, temperature=0.5)  # as no other test asks
    slots = pair.client.get("/slots").json
    (used,) = [slot["params"] for slot in slots if slot.get("params", {}).get("n_predict") == 7]
    neutral = {
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
        "dynatemp_range": 0.0,
        "temperature": 0.5,
    }
    assert {name: used[name] for name in neutral} == neutral


@pytest.mark.parametrize("format_", [Format.SAFETENSORS, Format.GGUF])
def test_sigterm_lets_a_request_finish(format_: Format, tmp_path: Path) -> None:
    server = start_server(
        model(format_, tmp_path), format_, backend=Backend.CPU, threads=1, model_name="x"
    )
    try:
        server.wait_ready(300)
        client = Client(server.url)
        prompt = {"prompt": PROMPTS[2], "max_tokens": 300, "temperature": 0, "stream": True}
        connection = client.begin("/v1/completions", prompt)
        answer = connection.getresponse()
        assert answer.read(6) == b"data: "
        stopped = server.stop(60)
        assert (stopped.how, stopped.clean) == ("ended with status 0", True)
        assert stopped.seconds < 15
        assert answer.read().endswith(b"data: [DONE]\n\n")
        connection.close()
    finally:
        server.close()


@pytest.mark.parametrize("format_", [Format.SAFETENSORS, Format.GGUF])
def test_sigterm_cuts_what_takes_too_long(format_: Format, tmp_path: Path) -> None:
    server = start_server(
        model(format_, tmp_path),
        format_,
        backend=Backend.CPU,
        threads=1,
        model_name="x",
        grace_s=0.05,
    )
    try:
        server.wait_ready(300)
        client = Client(server.url)
        # With these seeds and this temperature the model does not come to an end by itself.
        body = {"prompt": "a", "max_tokens": 480, "temperature": 1e4, "stream": True}
        held = [
            client.begin("/v1/completions", {**body, "seed": seed, "ignore_eos": True})
            for seed in range(12)
        ]
        assert held[0].getresponse().read(6) == b"data: "
        stopped = server.stop(30)
        assert (stopped.how, stopped.clean) == ("ended with status 0", True)
        assert sum(map(came_whole, held[1:])) < len(held) - 1
        for connection in held:
            connection.close()
    finally:
        server.close()


def came_whole(connection: http.client.HTTPConnection) -> bool:
    """Whether a stream that was asked for has come to its end."""
    try:
        return connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    except (http.client.HTTPException, OSError):
        return False


def test_answers_are_json_of_one_kind(pair: Pair) -> None:
    found = pair.client.complete("2+2=", temperature=0, max_tokens=2).json
    assert found["object"] == "text_completion"
    assert found["model"] == "embedded/aprqa-tiny"
    chat = pair.client.chat("hi", temperature=0, max_tokens=2).json
    assert chat["object"] == "chat.completion"
    assert json.dumps(chat)
