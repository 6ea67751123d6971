"""A stream long enough to be left, or to be interrupted, in its middle."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.serve.finding import Refuted
from pytest_aprqa.engines.endpoint_answer import (
    DONE,
    Garbled,
    GrowingAnswer,
    ToldError,
    data_of,
    error_message,
    lines_of,
)
from pytest_aprqa.engines.endpoint_http import Incoming, Unreachable, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_aprqa.checks.serve.client import GateClient, Route

LONG_ANSWERS = (4096, 1024, 256, 64)
"""max_tokens of a long stream, the first that the server accepts."""


class LongStream:
    """A stream that is being read."""

    def __init__(self, incoming: Incoming) -> None:
        self._events = data_of(lines_of(incoming.pieces()))
        self._growing = GrowingAnswer()
        self.done = False
        """Whether `[DONE]` came."""

    @property
    def finished(self) -> bool:
        """Whether the answer's end was told."""
        return self._growing.finished or self.done

    def begin(self) -> None:
        """Read up to the first token.

        Raises:
            Refuted: there is none.
        """
        try:
            while not self._growing.begun and self._take():
                continue
        except (Garbled, ToldError, ValueError) as error:
            raise Refuted(f"a long stream begins with: {error}") from error
        if not self._growing.begun:
            raise Refuted("a long stream ends without a token; expected some")

    def finish(self) -> str:
        """Read to the end, and say what it was: `complete`, or `cut` and by what.

        Raises:
            Silent: it has no end.
        """
        try:
            while self._take():
                continue
        except (Garbled, ToldError, ValueError, Unreachable) as error:
            return f"cut ({type(error).__name__}: {error})"
        return "complete" if self.done and self._growing.finished else "cut"

    def _take(self) -> bool:
        data = next(self._events, None)
        if data is None or data.strip() == DONE:
            self.done = data is not None
            return False
        self._growing.take(parse_json(data))
        return True


@contextmanager
def open_long_stream(
    client: GateClient, route: Route, body: dict[str, Any], *, limit_s: float
) -> Iterator[LongStream]:
    """A stream whose first token is there; leaving the `with` hangs up.

    Raises:
        Refuted: the server refuses it, or it has no token.
        Silent: the limit of all of it passed.
    """
    with client.http.open("POST", route.path, body=body, limit_s=limit_s) as incoming:
        if incoming.status != 200:
            reply = incoming.rest()
            raise Refuted(f"a long stream gets {reply.status}: {error_message(reply.text)}")
        long = LongStream(incoming)
        long.begin()
        yield long


def accepted_long_body(client: GateClient, route: Route) -> dict[str, Any]:
    """A request for a long stream that the server accepts, past the end token where it can.

    Raises:
        Refuted: it accepts none.
    """
    bodies = [
        client.body(route, client.prompts.prompts[0], max_tokens=tokens, stream=True, **more)
        for more in ({"ignore_eos": True}, {})  # llama-server, vLLM and SGLang know it
        for tokens in LONG_ANSWERS
    ]
    for body in bodies:
        limit = client.prompts.timeout_s
        with client.http.open("POST", route.path, body=body, limit_s=limit) as incoming:
            if incoming.status == 200:
                client.remark(f"long streams are of {json.dumps(body, ensure_ascii=False)}")
                return body
            refusal = incoming.rest()
    raise Refuted(
        f"{route.path} refuses every long stream, the last with {refusal.status}: "
        f"{error_message(refusal.text)}"
    )
