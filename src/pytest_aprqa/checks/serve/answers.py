"""Gates of the plain answers: health, model list, completions, chat, streams, usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.serve.client import CHAT, COMPLETIONS, require_schema
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.checks.serve.schemas import MODELS
from pytest_aprqa.checks.serve.streaming import stream
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.checks.serve.client import GateClient, Route, Said

HEALTH_PATHS = ("/health", "/healthz", "/ping", "/api/version")
"""Probes of llama-server, vLLM, SGLang and TGI; of Kubernetes; of SageMaker; of Ollama."""
COMPARED_STREAMS = 3
"""Prompts that are asked streamed and unstreamed, for each route."""


def health(client: GateClient) -> str:
    """The probe answers 2xx; a server of ours answers /health."""
    paths = HEALTH_PATHS[:1] if client.served.ours else HEALTH_PATHS
    for path in paths:
        reply = client.send("GET", path)
        if 200 <= reply.status < 300:
            client.measure(health_seconds=reply.seconds)
            return f"GET {path} answers {reply.status} in {reply.seconds * 1000:.1f} ms"
        if reply.status not in (404, 405, 501):
            break
    else:
        if not client.served.ours:
            raise NotApplicable(f"the server has none of the probes {', '.join(paths)}")
    raise Refuted(f"GET {path} answers {reply.status}: {one_line(reply.text)}; expected 200")


def models(client: GateClient) -> str:
    """The list is of the schema and names the model that requests name."""
    reply = client.send("GET", "/v1/models")
    if reply.status != 200:
        raise Refuted(f"/v1/models answered {reply.status}: {one_line(reply.text)}; expected 200")
    listed = [entry["id"] for entry in require_schema("/v1/models", reply, MODELS)["data"]]
    if client.served.model_name not in listed:
        told = one_line(", ".join(listed), limit=200)
        raise Refuted(f"/v1/models names {told}; expected {client.served.model_name} among them")
    client.measure(models_listed=len(listed))
    return f"/v1/models names {client.served.model_name}"


def completions(client: GateClient) -> str:
    """Every completion is of the schema; at least one holds text."""
    return _answers(client, COMPLETIONS)


def chat(client: GateClient) -> str:
    """Every chat completion is of the schema; at least one holds an answer."""
    return _answers(client, CHAT)


def _answers(client: GateClient, route: Route) -> str:
    said = [client.answer(route, prompt) for prompt in client.prompts.prompts]
    spoken = [answer.text for answer in said if answer.text.strip()]
    client.measure(answers=len(said), answers_with_text=len(spoken))
    if not spoken:
        raise Refuted(f"all {len(said)} answers of {route.path} are empty; expected text")
    first = one_line(spoken[0], limit=60)
    return f"{len(spoken)} of {len(said)} answers hold text, such as {first!r}"


def streams(client: GateClient) -> str:
    """Streams are well formed, and their texts and reasons those of the unstreamed answers."""
    pieces = 0
    routes = client.routes()
    ttfts = []
    for route in routes:
        for prompt in client.prompts.prompts[:COMPARED_STREAMS]:
            whole = client.answer(route, prompt)
            streamed = stream(client, route, prompt)
            _require_same(route, "text", streamed.text, whole.text)
            _require_same(route, "finish_reason", streamed.finish_reason, whole.finish_reason)
            pieces += streamed.pieces
            ttfts += [] if streamed.ttft_s is None else [streamed.ttft_s]
    if not pieces:
        raise NotApplicable("every streamed answer is empty, and so is every unstreamed one")
    client.measure(stream_pieces=pieces, ttft_seconds_worst=max(ttfts, default=0.0))
    paths = " and ".join(route.path for route in routes)
    return f"{len(routes) * COMPARED_STREAMS} streams of {paths} are whole: {pieces} pieces of text"


def _require_same(route: Route, what: str, streamed: str, whole: str) -> None:
    if streamed != whole:
        raise Refuted(
            f"{route.path}: the {what} streamed is {one_line(streamed, limit=120)!r}, "
            f"unstreamed {one_line(whole, limit=120)!r}; expected the same"
        )


def usage(client: GateClient) -> str:
    """Counts add up, follow the prompt, and follow max_tokens where it ended the answer."""
    routes = client.routes()
    for route in routes:
        _usage_of(client, route)
    paths = " and ".join(route.path for route in routes)
    return f"usage of {paths} adds up, follows the prompt, and keeps to max_tokens"


def _usage_of(client: GateClient, route: Route) -> None:
    prompt = client.prompts.prompts[0]
    limit = 4
    said = client.ask(route, prompt, max_tokens=limit)
    again = client.ask(route, prompt, max_tokens=limit)
    longer = client.ask(route, f"{prompt} {prompt} {prompt}", max_tokens=limit)
    for answer in (said, again, longer):
        _require_sum(route, answer, limit)
    counts = [answer.usage["prompt_tokens"] for answer in (said, again, longer)]
    if counts[0] != counts[1]:
        raise Refuted(f"{route.path}: one prompt has {counts[0]} and then {counts[1]} tokens")
    if counts[2] <= counts[0]:
        raise Refuted(
            f"{route.path}: a prompt has {counts[0]} tokens, and three times as long {counts[2]}; "
            "expected more"
        )
    options = {"include_usage": True}
    try:
        streamed = stream(client, route, prompt, max_tokens=limit, stream_options=options)
    except Refuted as refusal:
        if "stream_options" not in str(refusal):
            raise
        client.remark(f"not offered: {refusal}")
        return
    if streamed.usage is None:
        client.remark(f"{route.path} tells no usage in streams, although stream_options asks it to")
    elif _told(streamed.usage) != _told(said.usage):
        raise Refuted(
            f"{route.path}: usage streamed is {_told(streamed.usage)}, "
            f"unstreamed {_told(said.usage)}; expected the same"
        )


def _told(counts: Mapping[str, int]) -> dict[str, int]:
    return {key: counts[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _require_sum(route: Route, said: Said, limit: int) -> None:
    counts = _told(said.usage)
    prompt, completion, total = counts.values()
    if prompt < 1:
        raise Refuted(f"{route.path}: usage {counts}; expected prompt_tokens above 0")
    if total != prompt + completion:
        raise Refuted(f"{route.path}: usage {counts}; expected a total of {prompt + completion}")
    if completion > limit or (said.finish_reason == "length" and completion != limit):
        expected = f"{limit}" if said.finish_reason == "length" else f"at most {limit}"
        raise Refuted(
            f"{route.path}: usage {counts} with max_tokens {limit} and finish_reason "
            f"{said.finish_reason!r}; expected completion_tokens {expected}"
        )
    if said.text and completion < 1:
        raise Refuted(f"{route.path}: usage {counts} of {one_line(said.text)!r:.60}; expected more")
