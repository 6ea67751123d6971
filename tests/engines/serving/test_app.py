"""The HTTP interface over a scripted engine: schemas, streams, refusals, order, leaving."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engines.serving.client import until
from tests.engines.serving.conftest import Running

LONG = "one two three four"


def test_health_and_the_model_list(scripted: Running) -> None:
    assert scripted.client.get("/health").json == {"status": "ok"}
    listed = scripted.client.get("/v1/models").json
    assert listed["object"] == "list"
    (entry,) = listed["data"]
    assert entry.pop("created") > 0
    assert entry == {"id": "tiny", "object": "model", "owned_by": "pytest-aprqa"}
    assert scripted.client.get("/v1/models/tiny").json["id"] == "tiny"
    assert scripted.client.get("/v1/models/a/b").error["code"] == "model_not_found"


def test_a_completion(scripted: Running) -> None:
    answer = scripted.client.complete(LONG, model="tiny", max_tokens=3, temperature=0, seed=7)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json
    assert found.pop("id").startswith("cmpl-")
    assert found.pop("created") > 0
    assert found == {
        "object": "text_completion",
        "model": "tiny",
        "choices": [
            {"index": 0, "text": "one two three ", "logprobs": None, "finish_reason": "length"}
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
    }
    (asked,) = scripted.engine.asked
    assert (asked.prompt, asked.max_tokens, asked.temperature, asked.seed) == (LONG, 3, 0, 7)


def test_a_chat_completion(scripted: Running) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    found = scripted.client.chat("hello", parts, max_completion_tokens=8).json
    assert found["id"].startswith("chatcmpl-")
    assert found["object"] == "chat.completion"
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": "one two ", "refusal": None}
    assert (choice["finish_reason"], choice["index"]) == ("stop", 0)
    (asked,) = scripted.engine.asked
    assert [(m.role, m.content) for m in asked.messages] == [("user", "hello"), ("user", "one two")]
    assert asked.max_tokens == 8


def test_what_is_not_said_has_a_default(scripted: Running) -> None:
    scripted.client.complete("one")
    scripted.client.chat("one two")
    scripted.client.complete([5, 6, 7])
    plain, chat, ids = scripted.engine.asked
    assert (plain.max_tokens, plain.temperature, plain.stop) == (16, 1.0, ())
    assert chat.max_tokens == 98  # what the context of 100 leaves
    assert plain.seed != chat.seed
    assert ids.prompt is None
    assert ids.prompt_token_ids == (5, 6, 7)


def test_keys_that_are_not_known_and_nulls_do_nothing(scripted: Running) -> None:
    nulls = dict.fromkeys(("model", "max_tokens", "seed", "stop", "stream", "n", "top_p"))
    answer = scripted.client.complete(
        "one",
        user="me",
        ignore_eos=True,
        top_p=1,
        n=1,
        **{key: value for key, value in nulls.items() if key not in ("n", "top_p")},
    )
    assert answer.json["choices"][0]["text"] == "one "


def test_stop_is_one_text_or_several(scripted: Running) -> None:
    scripted.client.complete("one", stop="a")
    scripted.client.complete("one", stop=["a", "b"])
    assert [asked.stop for asked in scripted.engine.asked] == [("a",), ("a", "b")]


@pytest.mark.parametrize("kind", ["complete", "chat"])
def test_a_stream_is_the_unstreamed_answer_in_pieces(scripted: Running, kind: str) -> None:
    ask = getattr(scripted.client, kind)
    answer = ask(LONG, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream"
    events = answer.events
    assert len({event["id"] for event in events}) == 1
    *chunks, last, usage = events
    whole = ask(LONG).json
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert all(event["usage"] is None for event in (*chunks, last))
    reasons = [event["choices"][0]["finish_reason"] for event in (*chunks, last)]
    assert reasons == [*[None] * len(chunks), "stop"]
    if kind == "chat":
        assert chunks.pop(0)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
        assert last["choices"][0]["delta"] == {}
        assert whole["choices"][0]["message"]["content"] == "".join(pieces)
    else:
        pieces = [chunk["choices"][0]["text"] for chunk in chunks]
        assert whole["choices"][0]["text"] == "".join(pieces)
    assert pieces == ["one ", "two ", "three ", "four "]


def test_a_stream_without_usage_names_none(scripted: Running) -> None:
    events = scripted.client.complete(LONG, stream=True).events
    assert len(events) == 5
    assert not any("usage" in event for event in events)


def test_log_probabilities(scripted: Running) -> None:
    plain = scripted.client.complete("one two", logprobs=2).json["choices"][0]["logprobs"]
    assert plain == {
        "tokens": ["a", "a"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"a": -0.5, "b": -9999.0}] * 2,
        "text_offset": [0, 1],
    }
    chat = scripted.client.chat("one", logprobs=True, top_logprobs=1).json["choices"][0]
    (token,) = chat["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("a", -0.5, [97])
    assert [best["token"] for best in token["top_logprobs"]] == ["a"]
    streamed = scripted.client.chat("one", logprobs=True, stream=True).events[-1]
    assert len(streamed["choices"][0]["logprobs"]["content"]) == 1
    asked = [asked.top_logprobs for asked in scripted.engine.asked]
    assert asked == [2, 1, 1]


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
WRONG: list[tuple[str, Any, int, str]] = [
    ("/v1/completions", b"{", 400, "the body is not valid JSON"),
    ("/v1/completions", b'{"prompt": NaN}', 400, "NaN is no JSON"),
    ("/v1/completions", b"\xff\xfe", 400, "the body is not valid JSON"),
    ("/v1/completions", b"[" * 100_000, 400, "the body is not valid JSON"),
    ("/v1/completions", b"[1]", 400, "the body is a JSON list; expected an object"),
    ("/v1/completions", b"", 400, "the body is not valid JSON"),
    ("/v1/completions", {}, 400, "prompt: Field required"),
    ("/v1/completions", {"prompt": 5}, 400, "prompt: expected one text, or one list of token"),
    ("/v1/completions", {"prompt": []}, 400, "prompt: expected one text"),
    ("/v1/completions", {"prompt": ["a", "b"]}, 400, "prompt: expected one text"),
    ("/v1/completions", {"prompt": [True]}, 400, "prompt: expected one text"),
    ("/v1/completions", {"prompt": "a", "model": "gpt"}, 404, "expected 'tiny'"),
    ("/v1/completions", {"prompt": "a", "model": 5}, 400, "model: Input should be a valid string"),
    ("/v1/completions", {"prompt": "a", "max_tokens": -1}, 400, "max_tokens: Input should be gre"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens: Input should be gre"),
    ("/v1/completions", {"prompt": "a", "max_tokens": "5"}, 400, "max_tokens: Input should be a"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 1.5}, 400, "max_tokens: Input should be a"),
    ("/v1/completions", {"prompt": "a", "temperature": -1}, 400, "temperature: Input should be"),
    ("/v1/completions", {"prompt": "a", "temperature": "hot"}, 400, "temperature: Input should be"),
    ("/v1/completions", {"prompt": "a", "seed": "x"}, 400, "seed: Input should be a valid int"),
    ("/v1/completions", {"prompt": "a", "stop": 5}, 400, "stop: expected a text or a list"),
    ("/v1/completions", {"prompt": "a", "stop": ""}, 400, "stop.0: String should have at least"),
    ("/v1/completions", {"prompt": "a", "stream": "yes"}, 400, "stream: Input should be a valid"),
    ("/v1/completions", {"prompt": "a", "logprobs": 21}, 400, "logprobs: Input should be less"),
    ("/v1/completions", {"prompt": "a", "n": 2}, 400, "n 2 is not offered; expected 1 or nothing"),
    ("/v1/completions", {"prompt": "a", "echo": True}, 400, "echo True is not offered"),
    ("/v1/completions", {"prompt": "a", "top_p": 0.5}, 400, "top_p 0.5 is not offered"),
    ("/v1/completions", {"prompt": "a " * 101}, 400, "the model's context of 100"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 100}, 400, "the model's context of 100"),
    ("/v1/completions", {"prompt": "refuse"}, 400, "the template refuses the messages"),
    ("/v1/completions", {"prompt": "crash"}, 500, "the engine crashed: RuntimeError: it broke"),
    ("/v1/completions", {"prompt": "bug"}, 500, "the engine crashed: KeyError"),
    ("/v1/chat/completions", {}, 400, "messages: Field required"),
    ("/v1/chat/completions", {"messages": []}, 400, "messages: List should have at least 1"),
    ("/v1/chat/completions", {"messages": "hi"}, 400, "messages: Input should be a valid list"),
    ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "messages.0.content: Field"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "tool", "content": "x"}]},
        400,
        "messages.0.role: Input should be 'system', 'user' or 'assistant'",
    ),
    ("/v1/chat/completions", {**CHAT, "top_logprobs": 3}, 400, "expected logprobs to be true"),
    ("/v1/chat/completions", {**CHAT, "tools": [{"type": "function"}]}, 400, "tools "),
    ("/v1/chat/completions", {**CHAT, "stream_options": 5}, 400, "stream_options: Input should"),
    ("/v1/nothing", {}, 404, "POST /v1/nothing: Not Found"),
    ("/v1/models", {}, 405, "POST /v1/models: Method Not Allowed; expected GET or HEAD"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), WRONG)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_wrong_request_is_told_and_leaves_the_server_healthy(
    shared: Running, path: str, body: Any, status: int, message: str, streamed: bool
) -> None:
    if isinstance(body, dict) and streamed:
        body = {"stream": True, **body}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = shared.client.send("POST", path, data)
    assert answer.status == status
    assert message in answer.error["message"]
    assert answer.error["type"] == {404: "not_found_error", 500: "server_error"}.get(
        status, "invalid_request_error"
    )
    assert shared.client.get("/health").status == 200
    assert shared.client.complete("one").json["choices"][0]["text"] == "one "


def test_a_wrong_method_is_told(scripted: Running) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = scripted.client.send(method, "/v1/completions")
        assert answer.status == 405
        assert "expected POST" in answer.error["message"]
        assert answer.headers["allow"] == "POST"


def test_what_is_wrong_is_named(scripted: Running) -> None:
    assert scripted.client.complete("a", max_tokens=-1).error["param"] == "max_tokens"
    assert scripted.client.complete("a", model="gpt").error["code"] == "model_not_found"
    assert scripted.client.complete("a " * 101).error["code"] == "context_length_exceeded"
    scripted.engine.has_chat_template = False
    assert scripted.client.chat("hi").error["code"] == "no_chat_template"


def test_a_body_without_end_is_refused(scripted: Running) -> None:
    body = b'{"prompt": "' + b"a" * (17 * 1024 * 1024)
    connection = scripted.client.open()
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        connection.send(body)
        answer = connection.getresponse()
        assert answer.status == 413
    except (BrokenPipeError, ConnectionResetError):
        assert scripted.engine.asked == []  # refused before it had been sent
    finally:
        connection.close()
    assert scripted.client.get("/health").status == 200


def test_a_crash_in_mid_stream_is_told_and_the_stream_is_not_whole(scripted: Running) -> None:
    body = scripted.client.complete("crash late", stream=True).body.decode()
    events = [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n") if line]
    assert events[-1]["error"]["message"] == "the engine crashed: RuntimeError: it broke late"
    assert "[DONE]" not in body


def test_requests_are_answered_one_at_a_time_and_in_order(scripted: Running) -> None:
    first = scripted.client.begin("/v1/completions", {"prompt": "wait first"})
    until(lambda: scripted.worker.busy)
    others = []
    for number in range(3):
        others.append(scripted.client.begin("/v1/completions", {"prompt": f"number {number}"}))
        until(lambda: scripted.worker.waiting == len(others))
    scripted.engine.go.set()
    texts = [
        json.loads(connection.getresponse().read())["choices"][0]["text"]
        for connection in (first, *others)
    ]
    assert texts == ["wait first ", "number 0 ", "number 1 ", "number 2 "]
    assert scripted.engine.ended == ["wait first", "number 0", "number 1", "number 2"]
    assert scripted.engine.most_at_once == 1
    for connection in (first, *others):
        connection.close()


def test_a_full_queue_refuses_and_says_when_to_come_again(scripted: Running) -> None:
    held = [scripted.client.begin("/v1/completions", {"prompt": "wait"})]
    until(lambda: scripted.worker.busy)
    for _ in range(3):
        held.append(scripted.client.begin("/v1/completions", {"prompt": "one"}))
        until(lambda: scripted.worker.waiting == len(held) - 1)
    refused = scripted.client.complete("one")
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.error["message"] == "3 requests wait already; try again later"
    scripted.engine.go.set()
    assert [connection.getresponse().status for connection in held] == [200] * 4
    for connection in held:
        connection.close()
    assert scripted.client.complete("one").status == 200


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_ends_its_answer(scripted: Running, streamed: bool) -> None:
    body = {"prompt": "forever", "stream": streamed}
    connection = scripted.client.begin("/v1/completions", body)
    until(lambda: scripted.worker.busy)
    if streamed:
        answer = connection.getresponse()
        assert answer.read(6) == b"data: "
        answer.close()
    connection.close()
    until(lambda: scripted.engine.ended == ["forever"])
    until(lambda: not scripted.worker.busy)
    assert scripted.client.complete("one").json["choices"][0]["text"] == "one "


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_while_it_waits_frees_its_place(
    scripted: Running, streamed: bool
) -> None:
    first = scripted.client.begin("/v1/completions", {"prompt": "wait"})
    until(lambda: scripted.worker.busy)
    second = scripted.client.begin("/v1/completions", {"prompt": "never", "stream": streamed})
    until(lambda: scripted.worker.waiting == 1)
    second.close()
    until(lambda: scripted.worker.waiting == 0)
    scripted.engine.go.set()
    assert first.getresponse().status == 200
    first.close()
    assert [asked.prompt for asked in scripted.engine.asked] == ["wait"]


def test_eight_at_once_are_answered_as_one_after_another(scripted: Running) -> None:
    scripted.worker._capacity = 8
    prompts = [f"prompt number {number}" for number in range(8)]
    serial = [scripted.client.complete(prompt).json["choices"][0]["text"] for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(scripted.client.complete, prompts))
    assert [answer.json["choices"][0]["text"] for answer in answers] == serial
    assert scripted.engine.most_at_once == 1


def test_at_its_end_the_server_lets_a_request_finish(scripted: Running) -> None:
    connection = scripted.client.begin("/v1/completions", {"prompt": "wait a bit"})
    until(lambda: scripted.worker.busy)
    scripted.server.should_exit = True
    threading.Timer(0.05, scripted.engine.go.set).start()
    assert json.loads(connection.getresponse().read())["choices"][0]["text"] == "wait a bit "
    connection.close()
    scripted.thread.join(60)
    with pytest.raises(ConnectionRefusedError):
        scripted.client.get("/health")


def test_at_its_end_the_server_cuts_what_does_not_finish(scripted: Running) -> None:
    connection = scripted.client.begin("/v1/completions", {"prompt": "forever", "stream": True})
    answer = connection.getresponse()
    scripted.server.should_exit = True
    scripted.thread.join(60)
    assert not scripted.thread.is_alive()
    until(lambda: scripted.engine.ended == ["forever"])
    assert b"[DONE]" not in _rest(answer)
    connection.close()


def _rest(answer: Any) -> bytes:
    try:
        return bytes(answer.read())
    except OSError:
        return b""
    except Exception as error:  # http.client.IncompleteRead holds what there was
        return bytes(getattr(error, "partial", b""))
