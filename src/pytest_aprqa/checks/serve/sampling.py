"""Gates of what a request asks for: stop strings, max_tokens, seed, log probabilities."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_aprqa.checks.serve.client import COMPLETIONS, said_in
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.checks.serve.streaming import stream
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import Garbled, error_message, logprobs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_aprqa.checks.serve.client import GateClient, Route
    from pytest_aprqa.domain.completion import TokenChoice

LONG_ENOUGH = 24
"""Characters of an answer in whose middle a stop string surely lies."""
STOP_LENGTH = 3
"""Characters of a stop string, where the answer has as many: enough to lie across two tokens."""
FEW_TOKENS = 5
"""The second value of max_tokens; the first is 1."""
SEEDS = (1, 2, 3, 4)
SEEDED_PROMPTS = 5
"""A model that is sure of one answer may still waver at another."""
TOP = 5
"""OpenAI's completions tell at most five log probabilities a token."""
LOGPROB_PROMPTS = 4
LOGPROB_EPS = 1e-4
"""Rounding of log probabilities that a server computes in float32 over a large vocabulary."""
SUM_EPS = 1e-3


def stop(client: GateClient) -> str:
    """A string of the model's own greedy answer, given as stop, ends the answer before it."""
    routes = client.routes()
    asked = [line for route in routes if (line := _stop_of(client, route))]
    if not asked:
        raise NotApplicable("no answer is long enough to take a stop string out of it")
    return "; ".join(asked)


def _stop_of(client: GateClient, route: Route) -> str | None:
    for prompt, answer in _longest_first(client, route):
        if (string := stop_string_in(answer)) is None:
            continue
        expected = answer[: answer.find(string)]
        # Both forms that the API has, and a stream, in which a piece cannot be taken back.
        for given in (string, [string]):
            said = client.ask(route, prompt, stop=given)
            _require_stop(route, given, said.text, said.finish_reason, expected)
        streamed = stream(client, route, prompt, stop=[string])
        _require_stop(route, [string], streamed.text, streamed.finish_reason, expected)
        return f"{route.path} stops at {string!r} after {one_line(expected, limit=60)!r}"
    return None


def _longest_first(client: GateClient, route: Route) -> list[tuple[str, str]]:
    """Prompts and their answers, the longest answer first; one that is long enough is enough."""
    found: list[tuple[str, str]] = []
    for prompt in client.prompts.prompts:
        found.append((prompt, client.answer(route, prompt).text))
        if len(found[-1][1]) >= LONG_ENOUGH:
            break
    return sorted(found, key=lambda item: -len(item[1]))


def stop_string_in(answer: str) -> str | None:
    """A string from the middle of an answer, neither at its start nor white space; or None."""
    for length in range(STOP_LENGTH, 0, -1):
        middle = len(answer) // 2
        for start in sorted(range(1, len(answer) - length + 1), key=lambda i: abs(i - middle)):
            string = answer[start : start + length]
            if string.strip() == string and answer.find(string) > 0:
                return string
    return None


def _require_stop(
    route: Route, given: str | list[str], text: str, reason: str, expected: str
) -> None:
    if text != expected:
        raise Refuted(
            f"{route.path} with stop {given!r} answers {one_line(text, limit=100)!r}; "
            f"expected {one_line(expected, limit=100)!r}"
        )
    if reason != "stop":
        raise Refuted(f"{route.path} with stop {given!r}: finish_reason {reason!r}; expected stop")


def max_tokens(client: GateClient) -> str:
    """1 and FEW_TOKENS give so many tokens, the start of the long answer, and the reason length."""
    routes = client.routes()
    asked = [line for route in routes if (line := _max_tokens_of(client, route))]
    if not asked:
        raise NotApplicable("every answer ends by itself after a token or two")
    return "; ".join(asked)


def _max_tokens_of(client: GateClient, route: Route) -> str | None:
    tried = []
    for few in (1, FEW_TOKENS):
        for prompt in client.prompts.prompts:
            whole = client.answer(route, prompt)
            if whole.usage["completion_tokens"] > few + 1:  # the last may be an end without text
                _require_cut(client, route, prompt, few, whole.text)
                tried.append(few)
                break
    told = " and ".join(str(few) for few in tried)
    return f"{route.path} keeps to max_tokens {told}" if tried else None


def _require_cut(client: GateClient, route: Route, prompt: str, few: int, whole: str) -> None:
    said = client.ask(route, prompt, max_tokens=few)
    told = f"{route.path} with max_tokens {few}"
    if said.usage["completion_tokens"] != few:
        raise Refuted(f"{told} counts {said.usage['completion_tokens']} tokens; expected {few}")
    if said.finish_reason != "length":
        raise Refuted(f"{told}: finish_reason {said.finish_reason!r}; expected length")
    # A limit may cut a character in two, of which a server shows a half or nothing.
    if not whole.startswith(said.text.rstrip("\ufffd")) or (len(said.text) >= len(whole) > 0):
        raise Refuted(
            f"{told} answers {one_line(said.text, limit=100)!r}; expected the start of "
            f"{one_line(whole, limit=100)!r}"
        )


def seed(client: GateClient) -> str:
    """At temperature 1 one seed gives one answer, and some two seeds give two."""
    route = client.routes()[0]
    repeated = 0
    for prompt in client.prompts.prompts[-SEEDED_PROMPTS:]:
        texts = [client.ask(route, prompt, temperature=1, seed=n).text for n in SEEDS]
        for n, text in zip(SEEDS, texts, strict=True):
            again = client.ask(route, prompt, temperature=1, seed=n).text
            repeated += 1
            if again != text:
                raise Refuted(
                    f"seed {n} at temperature 1 gives {one_line(text, limit=100)!r} and then "
                    f"{one_line(again, limit=100)!r}; expected the same"
                )
        if len(set(texts)) > 1:
            client.measure(seeds_repeated=repeated, different_answers=len(set(texts)))
            return f"{repeated} seeds repeat their answers; {len(SEEDS)} give {len(set(texts))}"
    client.measure(seeds_repeated=repeated, different_answers=1)
    raise NotApplicable(
        f"{repeated} seeds repeat their answers, but no two seeds differ for any of "
        f"{SEEDED_PROMPTS} prompts: whether the seed acts cannot be seen"
    )


def logprobs(client: GateClient) -> str:
    """Told log probabilities are at most 0, sum to at most 1, and the greedy token is the top."""
    offered: list[str] = []
    silent: list[str] = []
    for route in client.routes():
        places = _places(client, route)
        (offered if places else silent).append(route.path)
        for place, choice in enumerate(places):
            if (wrong := wrong_place(choice)) is not None:
                raise Refuted(f"{route.path}, token {place + 1} of an answer: {wrong}")
    if not offered:
        raise NotApplicable(f"{' and '.join(silent)} tell no log probabilities")
    told = f"; {', '.join(silent)} tells none" if silent else ""
    return f"log probabilities of {' and '.join(offered)} are those of a distribution{told}"


def _places(client: GateClient, route: Route) -> Sequence[TokenChoice]:
    settings = {"logprobs": TOP} if route is COMPLETIONS else {"logprobs": True}
    settings |= {} if route is COMPLETIONS else {"top_logprobs": TOP}
    found: list[TokenChoice] = []
    for prompt in client.prompts.prompts[:LOGPROB_PROMPTS]:
        body = client.body(route, prompt, **settings)
        reply = client.send("POST", route.path, body=body)
        told = error_message(reply.text)
        if 400 <= reply.status < 500 and "logprobs" in told.lower():
            return ()  # refused, hence not offered
        try:
            found += logprobs_of(said_in(route, reply).logprobs)
        except Garbled as error:
            raise Refuted(f"{route.path}: {error}") from error
    client.measure(**{f"logprob_places_{'chat' if route.chat else 'completions'}": len(found)})
    return found


def wrong_place(choice: TokenChoice) -> str | None:
    """Why the numbers at one greedy token are no distribution's; None when they may be one's."""
    chosen, top = choice.chosen, choice.top
    for token in (chosen, *top):
        if math.isnan(token.logprob) or token.logprob > LOGPROB_EPS:
            return f"{token.text!r} has the log probability {token.logprob:g}; expected at most 0"
    if not top:
        return f"{chosen.text!r} stands alone; expected the most probable tokens beside it"
    total = math.fsum(math.exp(token.logprob) for token in top)
    if total > 1 + SUM_EPS:
        return f"the probabilities of {len(top)} tokens sum to {total:.4f}; expected at most 1"
    if chosen.logprob < top[0].logprob - LOGPROB_EPS:
        return (
            f"the greedy token {chosen.text!r} has {chosen.logprob:g}, and {top[0].text!r} "
            f"{top[0].logprob:g}; expected the greatest"
        )
    same = [token for token in top if token.text == chosen.text]
    if not any(abs(token.logprob - chosen.logprob) <= LOGPROB_EPS for token in same):
        return f"{chosen.text!r} at {chosen.logprob:g} is not among the most probable tokens"
    return None
