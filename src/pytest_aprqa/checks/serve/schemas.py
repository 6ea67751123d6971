"""OpenAI's API as data: what the bodies of answers must hold at least.

From the reference of `POST /v1/completions`, `POST /v1/chat/completions` and `GET /v1/models`
(platform.openai.com/docs/api-reference); further keys are allowed, as servers add some.
"""

from __future__ import annotations

from typing import Any

from pytest_aprqa.domain.text import one_line

_COUNT = {"type": "integer", "minimum": 0}
_FINISH = {"enum": ["stop", "length", "tool_calls", "content_filter", "function_call"]}
_FINISH_OR_NOT_YET = {"anyOf": [_FINISH, {"type": "null"}]}
_NAME = {"type": "string", "minLength": 1}
_LOGPROBS = {"type": ["object", "null"]}
USAGE: dict[str, Any] = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
    },
}


def _answer(kind: str, choice: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", *required],
        "properties": {
            "id": _NAME,
            "object": {"const": kind},
            "created": _COUNT,
            "model": _NAME,
            "choices": {"type": "array", "items": choice, "maxItems": 1}
            | ({"minItems": 1} if required else {}),
            "usage": USAGE if required else {"anyOf": [USAGE, {"type": "null"}]},
        },
    }


def _choice(part: dict[str, Any], required: list[str], finish: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["index", *required],
        "properties": {
            "index": {"const": 0},
            "finish_reason": finish,
            "logprobs": _LOGPROBS,
            **part,
        },
    }


_TEXT = {"text": {"type": "string"}}
_MESSAGE = {
    "message": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}},
    }
}
_DELTA = {
    "delta": {
        "type": "object",
        "properties": {
            "role": {"anyOf": [{"const": "assistant"}, {"type": "null"}]},
            "content": {"type": ["string", "null"]},
        },
    }
}
COMPLETION = _answer(
    "text_completion", _choice(_TEXT, ["text", "finish_reason"], _FINISH), ["usage"]
)
CHAT_COMPLETION = _answer(
    "chat.completion", _choice(_MESSAGE, ["message", "finish_reason"], _FINISH), ["usage"]
)
COMPLETION_CHUNK = _answer("text_completion", _choice(_TEXT, ["text"], _FINISH_OR_NOT_YET), [])
CHAT_CHUNK = _answer("chat.completion.chunk", _choice(_DELTA, ["delta"], _FINISH_OR_NOT_YET), [])
MODELS: dict[str, Any] = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"const": "list"},
        "data": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "object", "created", "owned_by"],
                "properties": {
                    "id": _NAME,
                    "object": {"const": "model"},
                    "created": _COUNT,
                    "owned_by": {"type": "string"},
                },
            },
        },
    },
}


def problem_of(body: object, schema: dict[str, Any]) -> str | None:
    """Where a body is not what a schema asks for, in one line; None when it is."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(body))
    if error is None:
        return None
    place = error.json_path.removeprefix("$").removeprefix(".") or "the body"
    return f"{place}: {one_line(error.message, limit=200)}"
