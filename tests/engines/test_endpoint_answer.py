"""Whatever a server says is an answer, or an error that says what it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.completion import FinishReason
from pytest_aprqa.engines.endpoint_answer import (
    Garbled,
    GrowingAnswer,
    ToldError,
    data_of,
    error_message,
    lines_of,
    logprobs_of,
    told_message,
)
from pytest_aprqa.engines.endpoint_http import hide_secrets

NAMES = (
    "choices text message delta content finish_reason logprobs tokens token token_logprobs "
    "top_logprobs logprob id usage prompt_tokens completion_tokens error index bytes"
)
KEYS = st.sampled_from(NAMES.split())
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["stop", "length", 10**400])
)
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5)
)


@given(BODIES | st.dictionaries(KEYS, BODIES) | st.builds(lambda c: {"choices": [c]}, BODIES))
def test_any_body_is_an_answer_or_said_to_be_none(body: object) -> None:
    growing = GrowingAnswer()
    told = ""
    try:
        piece = growing.take(body)
    except (Garbled, ToldError) as error:
        piece, told = growing.text, str(error)
    assert "\n" not in told
    assert piece == growing.text
    assert growing.text.encode().decode() == growing.text


@given(st.lists(st.binary(max_size=40)))
def test_lines_do_not_hang_on_how_the_bytes_are_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert list(lines_of(pieces)) == list(lines_of([whole]))
    assert len(list(lines_of([whole]))) == len(whole.removesuffix(b"\n").split(b"\n")) * bool(whole)


def test_a_character_cut_in_two_is_whole_again() -> None:
    data = 'data: {"text": "日本"}\r\n\r\ndata: [DONE]\r\n\r\ndata: more\n'.encode()
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert list(data_of(lines_of(pieces))) == ['{"text": "日本"}', "[DONE]"]


def test_other_fields_and_comments_are_no_data() -> None:
    lines = [": ping", "event: x", "id: 1", "", "data:a", "data: b", "retry: 5"]
    assert list(data_of(lines)) == ["a", "b"]


def test_an_error_line_is_the_servers_error() -> None:
    with pytest.raises(ToldError, match="no slot"):
        list(data_of(['error: {"message": "no slot"}']))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", FinishReason.STOP),
        ("eos_token", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
    ],
)
def test_a_reason_is_read(reason: str, finish: FinishReason) -> None:
    growing = GrowingAnswer()
    growing.take({"choices": [{"text": "x", "finish_reason": reason}]})
    assert growing.require_end() is finish


def test_a_reason_that_is_none_is_garbled() -> None:
    with pytest.raises(Garbled, match="finish_reason 'tired'; expected one of stop"):
        GrowingAnswer().take({"choices": [{"text": "x", "finish_reason": "tired"}]})
    growing = GrowingAnswer()
    growing.take({"choices": [{"text": "x", "finish_reason": None}]})
    with pytest.raises(Garbled, match="without finish_reason, after 'x'"):
        growing.require_end()


def test_json_of_any_depth_is_refused() -> None:
    with pytest.raises(Garbled, match="no JSON"):
        GrowingAnswer().take_json("[" * 100_000)


def test_the_first_token_of_an_echoed_prompt_has_no_number() -> None:
    told = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -1.0],
        "top_logprobs": [None, {"c": -2.0, "b": -1.0}],
    }
    (choice,) = logprobs_of(told)
    assert choice.chosen.text == "b"
    assert [token.text for token in choice.top] == ["b", "c"]


def test_llama_servers_tokens_have_ids() -> None:
    entry = {"id": 19, "token": "4", "bytes": [52], "logprob": -0.5, "top_logprobs": []}
    (choice,) = logprobs_of({"content": [entry]})
    assert choice.chosen.token_id == 19


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "no", "code": 400}}', "no"),
        ('{"error": "no"}', "no"),
        ('{"message": "no"}', "no"),
        ('{"detail": [{"msg": "no"}, {"msg": "never"}]}', "no; never"),
        ('{"detail": "no"}', "no"),
        ("no\nway", "no way"),
        ("", ""),
    ],
)
def test_a_message_is_found_where_servers_put_it(body: str, message: str) -> None:
    assert told_message(body) == error_message(body) == message


def test_a_body_without_a_message_is_shown_as_it_is() -> None:
    body = '{"error": {"message": ""}}'
    assert told_message(body) == ""
    assert error_message(body) == body


def test_a_key_is_hidden_as_it_is_and_as_json_has_it() -> None:
    key = 'se"same/1234'
    headers = {"Authorization": f"Bearer {key}", "X-Short": "none"}
    shown = f"{key} {json.dumps(key)} {json.dumps(key)}".replace("/", "\\/", 1)
    hidden = hide_secrets(shown + json.dumps(key).replace("/", "\\/") + " none", headers)
    assert "same" not in hidden
    assert hidden.endswith(" none")
