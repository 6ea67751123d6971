"""Any OpenAI-compatible server as an engine: vLLM, SGLang, TGI, llama-server, Ollama."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import (
    DONE,
    Garbled,
    GrowingAnswer,
    ToldError,
    data_of,
    error_message,
    lines_of,
)
from pytest_aprqa.engines.endpoint_http import HttpClient, Incoming, Silent, Unreachable
from pytest_aprqa.engines.endpoint_request import (
    Ask,
    ask_of,
    plainer,
    refusal_error,
    rendered,
    wait_before,
)
from pytest_aprqa.engines.endpoint_served import find_server
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest
from pytest_aprqa.engines.generation import encodable, require_sane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from pytest_aprqa.domain.endpoint import Endpoint
    from pytest_aprqa.engines.serving.served import Served

MOST_ATTEMPTS = 4
"""How often a busy server (429, 503) is asked."""
CONNECT_TIMEOUT_S = 30.0
"""Limit of each question by which a server is got to know."""
TOKENIZE_TIMEOUT_S = 60.0


def connect(
    endpoint: Endpoint, *, timeout_s: float = CONNECT_TIMEOUT_S, streaming: bool = False
) -> EndpointEngine:
    """Find the server at an endpoint; `streaming` makes `generate` ask for streams.

    Raises:
        EngineUnavailable: no server answers there, or it wants another key.
        AprqaError: no model is named, and the server does not list exactly one.
    """
    server = find_server(endpoint, timeout_s=timeout_s)
    return EndpointEngine(
        server, streaming=streaming, key_variables=endpoint.key_variables, timeout_s=timeout_s
    )


def connect_served(
    served: Served, *, streaming: bool = True, timeout_s: float = CONNECT_TIMEOUT_S
) -> EndpointEngine:
    """An engine that asks a server which runs already, by default for streams."""
    return EndpointEngine(served, streaming=streaming, timeout_s=timeout_s)


class EndpointEngine:
    """A model behind HTTP: a `StreamingEngine`.

    The times are what a client sees, from the sent request to the last byte. What only the server
    knows stays unknown: the device, the context, token ids, logits.
    """

    name = "endpoint"
    context_length: int | None = None

    def __init__(
        self,
        served: Served,
        *,
        streaming: bool = False,
        key_variables: tuple[str, ...] = (),
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._served = served
        self._streaming = streaming
        self._key_variables = key_variables
        self._http = HttpClient(served.url, served.headers())
        self._server = _server_of(self._http, timeout_s)

    def __repr__(self) -> str:
        return f"EndpointEngine({self._served.url!r}, {self._served.model_name!r})"

    @property
    def has_chat_template(self) -> bool:
        """False where a server of ours says so; else not known before NoChatTemplate tells it."""
        return not self._served.describe().get("chat_template", "").startswith("none")

    @property
    def device(self) -> str:
        """The device that holds the weights: told by a server of ours, unknown of any other."""
        return self._served.describe().get("device", "unknown")

    @property
    def version(self) -> str:
        """The server and its version, as far as it tells them."""
        return self._server

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request.

        A server that is silent until the limit gives what it told so far, with TIMEOUT.

        Raises:
            InvalidRequest: the server refuses it (ContextOverflow, NoChatTemplate among them).
            EngineUnavailable: the server wants another key.
            EngineCrashed: the connection or the server broke.
        """
        if self._streaming:
            return self.stream(request, lambda _piece: True)
        require_sane(request)
        ask = ask_of(request, self._served.model_name, stream=False)
        started = time.perf_counter()
        growing = GrowingAnswer()
        try:
            with self._opened(ask, started + request.timeout_s) as incoming:
                reply = incoming.rest()
            growing.take_json(reply.text)
            reason = growing.require_end()
        except (Silent, _Busy) as late:
            return self._timeout(request, growing, late, started, None)
        except (Unreachable, Garbled, ToldError) as error:
            self._crash(error)
        return self._completion(request, growing, reason, None, reply.seconds)

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        """Answer one request, telling each piece as it comes; ends early where `tell` gives False.

        Raises:
            InvalidRequest: the server refuses it.
            EngineUnavailable: the server wants another key.
            EngineCrashed: the connection or the server broke, or the stream ended in mid-answer.
        """
        require_sane(request)
        ask = ask_of(request, self._served.model_name, stream=True)
        started = time.perf_counter()
        growing = GrowingAnswer()
        ttft: float | None = None
        told_enough = False
        try:
            with self._opened(ask, started + request.timeout_s) as incoming:
                for data in data_of(lines_of(incoming.pieces())):
                    if data.strip() == DONE:
                        break
                    piece = growing.take_json(self._http.hide(data))
                    if ttft is None and growing.begun:
                        ttft = incoming.seconds()
                    if piece and not tell(piece):
                        told_enough = True
                        break
                total = incoming.seconds()
            reason = FinishReason.STOP if told_enough else growing.require_end()
        except (Silent, _Busy) as late:
            return self._timeout(request, growing, late, started, ttft)
        except (Unreachable, Garbled, ToldError) as error:
            self._crash(error)
        return self._completion(request, growing, reason, ttft, total)

    def for_serving(self) -> EndpointEngine:
        """The same server, asked for streams by `generate` too, so that `ttft_s` is measured."""
        return EndpointEngine(self._served, streaming=True, key_variables=self._key_variables)

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids by the server's /tokenize (llama-server and vLLM have one).

        Raises:
            InvalidRequest: it has none.
            EngineCrashed: the connection broke.
        """
        body = {
            "content": encodable(text),  # llama-server's names
            "add_special": special,
            "parse_special": True,
            "model": self._served.model_name,  # vLLM's
            "prompt": encodable(text),
            "add_special_tokens": special,
        }
        try:
            reply = self._http.send("POST", "/tokenize", body=body, limit_s=TOKENIZE_TIMEOUT_S)
            found = reply.json() if reply.status == 200 else {}
        except (Unreachable, Silent) as error:
            self._crash(error)
        except ValueError:
            found = {}
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise InvalidRequest(
                f"the endpoint {self._served.url} tells no token ids (/tokenize answered "
                f"{reply.status}); tokens can be compared with a model of this machine only"
            )
        return tuple(tokens)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Refuse to: no such server tells logits.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(
            f"the endpoint {self._served.url} tells no logits; its log probabilities give a lower "
            "bound of how far it is from a model of this machine"
        )

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: where, which model, which server."""
        return {
            **self._served.describe(),
            "url": self._served.url,
            "model": self._served.model_name,
            "server": self._server,
            "streamed": "yes" if self._streaming else "no",
        }

    def close(self) -> None:
        """Close the connection; the server runs on. Closing twice is fine."""
        self._http.close()

    @contextmanager
    def _opened(self, ask: Ask, deadline: float) -> Iterator[Incoming]:
        """The answer to a request that the server accepts, asked again while it is busy."""
        for attempt in count(1):
            left = deadline - time.perf_counter()
            with self._http.open("POST", ask.path, body=ask.body, limit_s=left) as incoming:
                if incoming.status == 200:
                    yield incoming
                    return
                refusal = incoming.rest()
            wait = wait_before(refusal, attempt - 1)
            if wait is None or attempt == MOST_ATTEMPTS:
                simpler = plainer(ask, refusal)
                if simpler is None:
                    raise refusal_error(
                        ask, refusal, self._served.url, self._key_variables, self._log_tail()
                    )
                ask = simpler
                continue
            if time.perf_counter() + wait >= deadline:
                message = error_message(refusal.text)
                raise _Busy(f"answered {refusal.status} and asks to wait {wait:.4g} s: {message}")
            time.sleep(wait)

    def _completion(
        self,
        request: GenerationRequest,
        growing: GrowingAnswer,
        reason: FinishReason,
        ttft_s: float | None,
        total_s: float,
        diagnosis: str = "",
    ) -> Completion:
        return Completion(
            text=growing.text,
            token_ids=(),
            prompt_tokens=growing.prompt_tokens or 0,
            finish_reason=reason,
            ttft_s=ttft_s,
            total_s=total_s,
            peak_memory_bytes=self._served.memory_bytes() or 0,
            rendered_prompt=rendered(request),
            counted_tokens=growing.completion_tokens,
            logprobs=growing.logprobs,
            diagnosis=diagnosis,
        )

    def _timeout(
        self,
        request: GenerationRequest,
        growing: GrowingAnswer,
        late: Exception,
        started: float,
        ttft_s: float | None,
    ) -> Completion:
        diagnosis = "\n".join(filter(None, (f"the server {late}", self._log_tail())))
        total = time.perf_counter() - started
        reason = FinishReason.TIMEOUT
        return self._completion(request, growing, reason, ttft_s, total, diagnosis)

    def _crash(self, error: Unreachable | Silent | Garbled | ToldError) -> NoReturn:
        told = {
            Unreachable: "the connection broke",
            Silent: "the server did not answer",
            Garbled: "the server's answer is garbled",
            ToldError: "the server broke the answer off",
        }[type(error)]
        state = ""
        if self._served.ours:
            state = "; it still runs" if self._served.alive else "; it runs no more"
        raise EngineCrashed(
            one_line(f"{told}: {self._http.hide(str(error))}{state}"), self._log_tail()
        ) from error

    def _log_tail(self) -> str:
        return self._http.hide(self._served.log_tail())


class _Busy(Exception):
    """The server asks to be left alone for longer than the time limit."""


_BUILD_KEYS = ("build_info", "version")


def _server_of(http: HttpClient, timeout_s: float) -> str:
    """The server's name and version: its Server header, and what it tells of its build."""
    found: dict[str, str] = {}
    for path in ("/props", "/version", "/api/version"):  # llama-server, vLLM, Ollama
        try:
            reply = http.send("GET", path, limit_s=timeout_s)
            found.setdefault("name", reply.headers.get("server", ""))
            body = reply.json() if reply.status == 200 else {}
        except (Unreachable, Silent):
            break  # whoever asks next finds out; a description is no reason to fail
        except ValueError:
            continue
        told = [body[key] for key in _BUILD_KEYS if isinstance(body, dict) and body.get(key)]
        if told:
            found["build"] = str(told[0])
            break
    return one_line(" ".join(filter(None, found.values())), limit=120) or "unknown"
