"""Gates of bad company: requests at once, wrong requests, clients that leave."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_aprqa.checks.serve.client import require_json
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.checks.serve.long_stream import accepted_long_body, open_long_stream
from pytest_aprqa.checks.serve.wrong_requests import WrongRequest, wrong_requests
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import told_message
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_aprqa.checks.serve.client import GateClient, Route

AT_ONCE = 8
AT_ONCE_S = 20.0
"""What the requests at once may take, guessed from those alone; at least each client asks once."""
CUT_STREAMS = 8
"""Clients that leave: more than the slots of a small server."""
SHORT_TOKENS = 2
LEAST_LIMIT_S = 5.0
SLOWER = 20
"""A short request may take LEAST_LIMIT_S or so many times what it took alone, whichever is more."""


def concurrent(client: GateClient) -> str:
    """Eight clients at once, all with other prompts, get the answers that one alone gets."""
    route = client.routes()[0]
    prompts = client.prompts.prompts[:AT_ONCE]
    alone = [client.answer(route, prompt) for prompt in prompts]
    serial = [said.text for said in alone]
    seconds = sum(said.seconds for said in alone)
    rounds = max(1, min(len(prompts), int(AT_ONCE_S / max(seconds, 1e-3))))
    at_once = _ask_at_once(client, route, prompts, rounds)
    most = _most_at_once([(start, end) for _i, _text, start, end in at_once])
    different = [(i, text) for i, text, _start, _end in at_once if text != serial[i]]
    client.measure(
        answers_at_once=len(at_once),
        answers_at_once_equal=len(at_once) - len(different),
        most_at_once=most,
    )
    if different:
        first, text = different[0]
        raise Refuted(
            f"{len(different)} of {len(at_once)} answers differ at once; {prompts[first]!r:.60} "
            f"gets {one_line(text, limit=80)!r}, alone {one_line(serial[first], limit=80)!r}"
        )
    if len(set(serial)) < 2:
        raise NotApplicable(f"all answers are {serial[0]!r:.60}: a mix-up could not be seen")
    if most < 2:
        raise NotApplicable("the server answers faster than two requests can be sent")
    return (
        f"{len(at_once)} requests, up to {most} at once, get the {len(set(serial))} different "
        "answers that they get alone"
    )


_Timed = tuple[int, str, float, float]
"""Which prompt was asked, its answer, and when it was asked and answered."""


def _ask_at_once(
    client: GateClient, route: Route, prompts: Sequence[str], rounds: int
) -> list[_Timed]:
    limit = client.prompts.timeout_s * AT_ONCE  # a server of one slot answers them in turn
    together = threading.Barrier(AT_ONCE)

    def ask(first: int) -> list[_Timed]:
        found: list[_Timed] = []
        together.wait(client.prompts.timeout_s)
        for step in range(rounds):  # each begins with another one
            number = (first + step) % len(prompts)
            start = time.perf_counter()
            text = client.ask(route, prompts[number], limit_s=limit).text
            found.append((number, text, start, time.perf_counter()))
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(ask, number) for number in range(AT_ONCE)]
        return [timed for future in futures for timed in future.result()]


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def errors(client: GateClient) -> str:
    """Each wrong request gets a 4xx with a message; after it the server answers as before."""
    route = client.routes()[0]
    prompt = client.prompts.prompts[0]
    before = client.answer(route, prompt).text
    asked = wrong_requests(client, route)
    for wrong in asked:
        try:
            _refused(client, route, wrong)
            after = client.ask(route, prompt).text
        except Unreachable as error:
            raise Unreachable(f"{wrong.name}: {error}", connected=error.connected) from error
        if after != before:
            raise Refuted(
                f"after {wrong.name} {prompt!r:.60} gets {one_line(after, limit=80)!r}, before it "
                f"{one_line(before, limit=80)!r}; expected the same"
            )
    return f"{len(asked)} wrong requests are refused with a message: {_names(asked)}"


def _names(asked: tuple[WrongRequest, ...]) -> str:
    return ", ".join(wrong.name for wrong in asked)


def _refused(client: GateClient, route: Route, wrong: WrongRequest) -> None:
    limit = client.prompts.timeout_s
    try:
        reply = client.send(wrong.method, route.path, body=wrong.body, content=wrong.content)
    except Silent as silent:
        raise Refuted(f"{wrong.name}: {silent}; expected a 4xx with a message") from silent
    except Unreachable as error:
        if not client.served.alive:
            raise
        raise Refuted(f"{wrong.name}: {error}; expected a 4xx with a message") from error
    message = told_message(reply.text)
    if wrong.may_be_served and reply.status == 200:
        require_json(route, reply)
        client.remark(f"{wrong.name}: the server answers for whatever model is named")
        return
    if not 400 <= reply.status < 500 or (reply.status == 404 and not wrong.may_be_404):
        raise Refuted(
            f"{wrong.name} gets {reply.status} ({one_line(reply.text, limit=120)}); "
            f"expected a 4xx with a message within {limit:g} s"
        )
    if not message:
        raise Refuted(f"{wrong.name} gets {reply.status} without a message; expected one")


def disconnect(client: GateClient) -> str:
    """Clients that leave in mid-stream free their slots: the next short request is answered."""
    route = client.routes()[0]
    prompt = client.prompts.prompts[0]
    alone = client.ask(route, prompt, max_tokens=SHORT_TOKENS).seconds
    limit = max(LEAST_LIMIT_S, SLOWER * alone)
    body = accepted_long_body(client, route)
    cut = 0
    for number in range(CUT_STREAMS):
        try:
            with open_long_stream(client, route, body, limit_s=limit) as long:
                cut += not long.finished
        except Silent as silent:
            raise Refuted(
                f"{number} clients had left in mid-stream; to the next one: {silent}; expected "
                "their slots to be free"
            ) from silent
    if not cut:
        raise NotApplicable("every answer had ended before its client could leave")
    try:
        after = client.ask(route, prompt, max_tokens=SHORT_TOKENS, limit_s=limit).seconds
    except Silent as silent:
        raise Refuted(
            f"{cut} clients had left in mid-stream; to a short request: {silent}; expected their "
            f"slots to be free, as alone it takes {alone:.3g} s"
        ) from silent
    client.measure(streams_cut=cut, seconds_alone=alone, seconds_after=after, seconds_limit=limit)
    return f"{cut} clients left in mid-stream; a short request then takes {after:.3g} s"
