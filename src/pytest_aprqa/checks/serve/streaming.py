"""A streamed answer, held to the rules of an event stream as it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.serve.client import GateClient, Route, refuse_status
from pytest_aprqa.checks.serve.finding import Refuted
from pytest_aprqa.checks.serve.schemas import problem_of
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import DONE, lines_of
from pytest_aprqa.engines.endpoint_http import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Streamed:
    """A whole stream."""

    text: str
    finish_reason: str
    usage: Mapping[str, int] | None
    pieces: int
    """Chunks that brought text."""
    ttft_s: float | None
    """When the first of them came; None when none brought text."""
    seconds: float


def stream(client: GateClient, route: Route, prompt: str, **settings: object) -> Streamed:
    """One streamed answer.

    Raises:
        Refuted: the stream is not one of `data:` events and `[DONE]`, or its chunks not of one
            answer, of the schema and in order.
        NotApplicable: the model has no chat template.
    """
    body = client.body(route, prompt, stream=True, **settings)
    limit = client.prompts.timeout_s
    ttft = None
    lines: list[str] = []
    with client.http.open("POST", route.path, body=body, limit_s=limit) as incoming:
        if incoming.status != 200:
            refuse_status(route, incoming.rest())
        content_type = incoming.headers.get("content-type", "none")
        for line in lines_of(incoming.pieces()):
            lines.append(client.http.hide(line))
            if ttft is None and _brings_text(line, route):
                ttft = incoming.seconds()
        seconds = incoming.seconds()
    shown = one_line(json.dumps(body, ensure_ascii=False), limit=200)
    client.remark(f"POST {route.path} {shown} → {len(lines)} lines ({seconds * 1000:.0f} ms)")
    if not content_type.startswith("text/event-stream"):
        raise Refuted(f"a stream's Content-Type is {content_type!r}; expected text/event-stream")
    return _whole(_chunks(lines, route), route, ttft, seconds)


def _chunks(lines: Sequence[str], route: Route) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = []
    done = False
    for line in lines:
        if not line.strip() or line.startswith(":"):
            continue
        shown = one_line(line, limit=160)
        if done:
            raise Refuted(f"after [DONE] the stream goes on with {shown!r}")
        if not line.startswith("data:"):
            raise Refuted(f"a line of the stream is {shown!r}; expected `data: ...`")
        data = line.removeprefix("data:").strip()
        if data == DONE:
            done = True
            continue
        try:
            chunk: Any = parse_json(data)
        except ValueError as error:
            raise Refuted(f"an event is {shown!r}; expected JSON ({error})") from error
        if (problem := problem_of(chunk, route.chunk_schema)) is not None:
            raise Refuted(f"chunk {len(chunks) + 1} of the stream: {problem}; it is {shown!r}")
        chunks.append(chunk)
    if not done:
        raise Refuted(f"the stream ends after {len(chunks)} chunks without [DONE]")
    return chunks


def _whole(
    chunks: Sequence[dict[str, Any]], route: Route, ttft_s: float | None, seconds: float
) -> Streamed:
    ids = {chunk["id"] for chunk in chunks}
    if len(ids) > 1:
        raise Refuted(f"the chunks of one stream have {len(ids)} ids: {sorted(ids)[:3]}")
    texts: list[str] = []
    reason: str | None = None
    usage: Mapping[str, int] | None = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text = _text_of(choice, route)
            if reason is not None and (text or choice.get("finish_reason")):
                raise Refuted(f"after finish_reason {reason!r} a chunk brings {one_line(choice)}")
            texts += [text] if text else []
            reason = choice.get("finish_reason") or reason
    if reason is None:
        raise Refuted(f"none of the stream's {len(chunks)} chunks has a finish_reason")
    return Streamed("".join(texts), reason, usage, len(texts), ttft_s, seconds)


def _text_of(choice: Mapping[str, Any], route: Route) -> str:
    return (choice["delta"].get("content") if route.chat else choice["text"]) or ""


def _brings_text(line: str, route: Route) -> bool:
    """Whether a line that may still turn out to be anything is a chunk with text."""
    try:
        chunk: Any = parse_json(line.removeprefix("data:"))
        return any(_text_of(choice, route) for choice in chunk["choices"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
