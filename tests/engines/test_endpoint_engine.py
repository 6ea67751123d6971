"""An OpenAI-compatible server as an engine, against a scripted one."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.endpoint import Endpoint
from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.engines import endpoint_http, endpoint_request
from pytest_aprqa.engines.endpoint_engine import EndpointEngine, connect, connect_served
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    Engine,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
    StreamingEngine,
)
from tests.openai_server import MODEL, Server, tokens_of

KEY = "sesame-1234"
PLAIN = GenerationRequest(prompt="What is 2 + 2?", max_tokens=32, timeout_s=20)
CHAT = GenerationRequest(
    messages=(Message("system", "Be brief."), Message("user", "Hello")), timeout_s=20
)
Starter = Callable[..., Server]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is the network here; keys and proxies of the environment stay out."""
    for name in ("APRQA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Starter]:
    with ExitStack() as stack:

        def start(*faults: str) -> Server:
            server = Server(*faults)
            server.start()
            stack.callback(server.close)
            return server

        yield start


def connected(
    server: Server, *, streaming: bool = False, model: str | None = None
) -> EndpointEngine:
    return connect(Endpoint(server.url, model), timeout_s=10, streaming=streaming)


def listener(told: list[str], *, most: int = 1000) -> Callable[[str], bool]:
    """Keeps what it is told, and wants `most` pieces."""

    def tell(piece: str) -> bool:
        told.append(piece)
        return len(told) < most

    return tell


def test_it_is_an_engine_that_streams(serve: Starter) -> None:
    engine: Engine = connected(serve())
    assert isinstance(engine, StreamingEngine)
    assert engine.device == "unknown"
    assert engine.context_length is None


@pytest.mark.parametrize("streaming", [False, True])
def test_a_prompt_is_completed(serve: Starter, streaming: bool) -> None:
    server = serve()
    answer = connected(server, streaming=streaming).generate(PLAIN)
    tokens = tokens_of("What is 2 + 2?")
    assert answer.text == "".join(tokens)
    assert answer.finish_reason is FinishReason.STOP
    assert answer.prompt_tokens == 6
    assert answer.token_ids == ()
    assert answer.completion_tokens == answer.counted_tokens == len(tokens) + 1
    assert answer.rendered_prompt == "What is 2 + 2?"
    assert answer.total_s > 0
    assert answer.tokens_per_second is not None
    body = server.state.bodies[-1]
    assert {body[key] for key in ("model",)} == {MODEL}
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (32, 0, 0)
    assert "logprobs" not in body
    assert "stop" not in body


@pytest.mark.parametrize("streaming", [False, True])
def test_messages_are_chatted(serve: Starter, streaming: bool) -> None:
    server = serve()
    answer = connected(server, streaming=streaming).generate(CHAT)
    assert answer.text == "".join(tokens_of("system: Be brief.\nuser: Hello"))
    assert answer.rendered_prompt == "system: Be brief.\nuser: Hello"
    assert server.state.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_settings_reach_the_server(serve: Starter, streaming: bool) -> None:
    server = serve()
    request = GenerationRequest(
        prompt="x", max_tokens=3, temperature=0.7, seed=5, stop=("END",), timeout_s=20
    )
    answer = connected(server, streaming=streaming).generate(request)
    assert answer.finish_reason is FinishReason.LENGTH
    assert answer.completion_tokens == 3
    body = server.state.bodies[-1]
    assert (body["temperature"], body["seed"], body["stop"]) == (0.7, 5, ["END"])


def test_the_time_to_the_first_token_is_measured_in_streams_alone(serve: Starter) -> None:
    engine = connected(serve())
    assert engine.generate(PLAIN).ttft_s is None
    streamed = engine.for_serving().generate(PLAIN)
    assert streamed.ttft_s is not None
    assert 0 < streamed.ttft_s <= streamed.total_s


@pytest.mark.parametrize("faults", [(), ("logprobs_chat_shape",)])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_log_probabilities_of_both_shapes_are_read(
    serve: Starter, faults: tuple[str, ...], streaming: bool, chat: bool
) -> None:
    request = GenerationRequest(
        prompt=None if chat else "x",
        messages=CHAT.messages if chat else (),
        max_tokens=4,
        timeout_s=20,
        top_logprobs=3,
    )
    answer = connected(serve(*faults), streaming=streaming).generate(request)
    assert "".join(choice.chosen.text for choice in answer.logprobs) == answer.text
    first = answer.logprobs[0]
    assert first.chosen.logprob == -0.5
    assert [token.logprob for token in first.top] == [-0.5, -1.5, -3.0]
    assert first.top[0] == first.chosen


@pytest.mark.parametrize("chat", [False, True])
def test_fewer_log_probabilities_are_asked_where_twenty_are_refused(
    serve: Starter, chat: bool
) -> None:
    question = {"messages": CHAT.messages} if chat else {"prompt": "x"}
    request = GenerationRequest(**question, timeout_s=20, top_logprobs=20)
    server = serve("logprobs_at_most_five")
    assert connected(server).generate(request).logprobs
    assert server.state.bodies[-1]["top_logprobs" if chat else "logprobs"] == 5
    assert connected(serve("logprobs_refused")).generate(request).logprobs == ()


def test_pieces_joined_are_the_text(serve: Starter) -> None:
    told: list[str] = []
    answer = connected(serve()).stream(PLAIN, listener(told))
    assert len(told) > 5
    assert "".join(told) == answer.text


def test_a_listener_that_wants_no_more_ends_the_answer(serve: Starter) -> None:
    told: list[str] = []
    answer = connected(serve()).stream(PLAIN, listener(told, most=2))
    assert len(told) == 2
    assert answer.text == "".join(told)
    assert answer.finish_reason is FinishReason.STOP


def test_a_stream_without_options_is_asked_where_they_are_refused(serve: Starter) -> None:
    answer = connected(serve("no_stream_options"), streaming=True).generate(PLAIN)
    assert answer.finish_reason is FinishReason.STOP
    assert answer.counted_tokens is None
    assert answer.tokens_per_second is None


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("faults", "request_", "kind", "told"),
    [
        ((), GenerationRequest(prompt="word " * 3000), ContextOverflow, "context size of 2000"),
        (("no_template",), CHAT, NoChatTemplate, "the model has no chat template"),
        (("no_completions",), PLAIN, InvalidRequest, "answered 404: there is nothing here"),
        (("redirects",), PLAIN, InvalidRequest, "redirects are not followed"),
        ((), GenerationRequest(prompt="x", max_tokens=0), InvalidRequest, "max_tokens 0"),
        (("completion_500",), PLAIN, EngineCrashed, "answered 500: out of memory"),
        (("garbled",), PLAIN, EngineCrashed, "the server's answer is garbled: .* is no JSON"),
    ],
)
def test_each_refusal_is_its_own_error(
    serve: Starter,
    streaming: bool,
    faults: tuple[str, ...],
    request_: GenerationRequest,
    kind: type[Exception],
    told: str,
) -> None:
    if streaming and faults in (("completion_500",), ("garbled",)):
        faults, told = ("error_in_stream",), "broke the answer off: the slot is gone"
    engine = connected(serve(*faults), streaming=streaming)
    with pytest.raises(kind, match=told) as caught:
        engine.generate(request_)
    assert type(caught.value) is kind
    if kind is not EngineCrashed:
        assert isinstance(caught.value, AprqaError)


@pytest.mark.parametrize(
    ("message", "no_template", "too_long"),
    [
        ("As of transformers v4.44, default chat template is no longer allowed", True, False),
        (
            "Cannot use chat template functions because tokenizer.chat_template is not set",
            True,
            False,
        ),
        ("Template error: template not found", True, False),
        ('"base" does not support chat', True, False),
        ("the model has no chat template", True, False),
        ("Conversation roles must alternate user/assistant/user/assistant/...", False, False),
        ("This model's maximum context length is 2048 tokens. However, you", False, True),
        ("request (5003 tokens) exceeds the available context size (512 tokens)", False, True),
        ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", False, True),
        ("The input (99 tokens) is longer than the model's context length (8)", False, True),
        ("max_tokens must be at least 1", False, False),
        ("Value must be between -1 <= value <= 2147483647, but got -5", False, False),
    ],
)
def test_servers_word_it_differently(message: str, no_template: bool, too_long: bool) -> None:
    assert endpoint_request.no_template(message) is no_template
    assert endpoint_request.too_long(message) is too_long


def test_nobody_there_is_no_engine(serve: Starter) -> None:
    server = serve()
    server.close()
    with pytest.raises(EngineUnavailable, match="no server answers at http://127"):
        connected(server)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_server_that_is_gone_has_crashed(serve: Starter, streaming: bool) -> None:
    server = serve()
    engine = connected(server, streaming=streaming)
    server.close()
    with pytest.raises(EngineCrashed, match="the connection broke: ConnectError"):
        engine.generate(PLAIN)


@pytest.mark.parametrize("fault", ["stream_broken", "chunked_dies", "stream_no_reason"])
def test_a_stream_that_ends_in_mid_answer_has_crashed(serve: Starter, fault: str) -> None:
    told: list[str] = []
    with pytest.raises(EngineCrashed, match=r"the connection broke|without finish_reason"):
        connected(serve(fault)).stream(PLAIN, listener(told))
    assert told


class Ours:
    """A server of ours, whose log and memory can be read."""

    model_name = MODEL
    ours = True

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def alive(self) -> bool:
        return self.server.alive

    def headers(self) -> dict[str, str]:
        return {}

    def memory_bytes(self) -> int | None:
        return 123

    def describe(self) -> dict[str, str]:
        return {"engine": "scripted 1", "device": "cpu"}

    def log_tail(self) -> str:
        return "ggml_abort: line 7"

    def stop(self, limit_s: float) -> object:
        raise AssertionError("an engine stops no server")


def test_a_crash_of_ours_brings_the_log(serve: Starter) -> None:
    engine = connect_served(Ours(serve("chunked_dies")))  # type: ignore[arg-type]
    with pytest.raises(EngineCrashed, match="it runs no more") as caught:
        engine.generate(PLAIN)
    assert caught.value.traceback_tail == "ggml_abort: line 7"


def test_a_timeout_of_ours_brings_the_log_and_the_text_so_far(serve: Starter) -> None:
    engine = connect_served(Ours(serve("stalls_in_stream")))  # type: ignore[arg-type]
    request = GenerationRequest(prompt="x", timeout_s=2.0)
    answer = engine.generate(request)
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert answer.text == "".join(tokens_of("x")[:3])
    assert answer.ttft_s is not None
    assert answer.peak_memory_bytes == 123
    assert answer.diagnosis.endswith("ggml_abort: line 7")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("fault", ["silent", "busy_long"])
def test_no_answer_in_time_is_a_timeout(serve: Starter, streaming: bool, fault: str) -> None:
    engine = connected(serve(fault), streaming=streaming)
    started = time.monotonic()
    answer = engine.generate(GenerationRequest(prompt="x", timeout_s=0.5))
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert answer.text == ""
    assert answer.diagnosis
    assert time.monotonic() - started < 20


def test_a_server_that_drips_does_not_outlast_the_limit(serve: Starter) -> None:
    engine = connected(serve("drips"), model=MODEL)
    started = time.monotonic()
    answer = engine.generate(GenerationRequest(prompt="x", timeout_s=1.0))
    assert answer.finish_reason is FinishReason.TIMEOUT
    # The answer has several hundred bytes, a tenth of a second each.
    assert time.monotonic() - started < 20


def test_a_busy_server_is_asked_again(serve: Starter) -> None:
    server = serve("busy_twice")
    assert connected(server).generate(PLAIN).finish_reason is FinishReason.STOP
    assert server.state.requests == 3


def test_a_server_that_is_always_busy_has_failed(serve: Starter) -> None:
    server = serve("busy_always")
    with pytest.raises(EngineCrashed, match="answered 429: too many requests"):
        connected(server).generate(PLAIN)
    assert server.state.requests == 4


def test_the_only_listed_model_is_asked(serve: Starter) -> None:
    assert connected(serve()).describe()["model"] == MODEL


def test_of_several_models_one_is_to_be_named(serve: Starter) -> None:
    server = serve("two_models")
    with pytest.raises(AprqaError, match=r"lists 2 models \(scripted, second\); name one"):
        connected(server)
    assert connected(server, model="second").describe()["model"] == "second"


def test_a_model_that_is_named_needs_no_list(serve: Starter) -> None:
    server = serve("models_500")
    assert connected(server, model=MODEL).generate(PLAIN).text
    with pytest.raises(AprqaError, match="answered 500 and no list of models"):
        connected(server)


def test_logits_and_tokens_are_refused(serve: Starter) -> None:
    engine = connected(serve())
    with pytest.raises(InvalidRequest, match="tells no logits"):
        engine.logits([1])
    with pytest.raises(InvalidRequest, match="tells no token ids"):
        engine.tokenize("x", special=True)


@pytest.mark.parametrize("variable", ["APRQA_API_KEY", "OPENAI_API_KEY", "MY_KEY"])
def test_the_key_reaches_the_server_and_nothing_else(
    serve: Starter,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable, KEY)
    server = serve("key_wanted", "key_told")
    endpoint = Endpoint(server.url, api_key_env="MY_KEY" if variable == "MY_KEY" else None)
    engine = connect(endpoint)
    answer = engine.generate(PLAIN)
    assert server.state.headers
    assert {h.get("Authorization") for h in server.state.headers} == {f"Bearer {KEY}"}
    with pytest.raises(InvalidRequest) as caught:
        engine.generate(GenerationRequest(prompt="word " * 3000))
    assert "[key]" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    for text in (repr(endpoint), repr(engine), str(engine.describe()), repr(answer), shown):
        assert KEY not in text
    assert KEY not in caplog.text
    assert caplog.records


def test_a_wrong_key_names_the_variables(serve: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve("key_wanted", "key_told")
    with pytest.raises(EngineUnavailable, match="APRQA_API_KEY and OPENAI_API_KEY not set"):
        connected(server)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-key-99")
    with pytest.raises(EngineUnavailable, match="OPENAI_API_KEY is set, but is not it") as caught:
        connected(server)
    assert "wrong-key-99" not in str(caught.value)


def test_a_key_that_is_named_must_be_set(serve: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(serve().url, api_key_env="MY_KEY")
    with pytest.raises(AprqaError, match="MY_KEY is not set"):
        connect(endpoint)
    monkeypatch.setenv("MY_KEY", "two\nlines-of-it")
    with pytest.raises(AprqaError, match="holds characters that no key has") as caught:
        connect(endpoint)
    assert "lines-of-it" not in str(caught.value)


def test_proxies_do_not_act_for_loopback(serve: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert connected(serve()).generate(PLAIN).text


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.8.0.1", True),
        ("http://[::1]:8", True),
        ("http://localhost:1", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example.org", False),
    ],
)
def test_loopback_is_known(url: str, loopback: bool) -> None:
    assert endpoint_http.is_loopback(url) is loopback


def test_an_answer_without_end_is_cut_off(serve: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_http, "MOST_BYTES", 100)
    engine = connected(serve("models_500"), model=MODEL)
    with pytest.raises(EngineCrashed, match="more than 100 bytes"):
        engine.generate(PLAIN)
