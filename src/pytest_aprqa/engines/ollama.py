"""Ollama's own API: what it has, what it says of a model, and its answers with their times.

Requests and answers are those of https://github.com/ollama/ollama/blob/main/docs/api.md: durations
in nanoseconds, streams of one JSON object a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_http import HttpClient, parse_json

if TYPE_CHECKING:
    from pytest_aprqa.domain.completion import GenerationRequest
    from pytest_aprqa.engines.endpoint_http import Incoming

_NANOSECOND = 1e-9


class OllamaError(AprqaError):
    """Ollama refuses a request, or answers otherwise than its API says; one line."""


@dataclass(frozen=True, slots=True)
class OllamaDetails:
    """What Ollama says that a model is."""

    format: str
    family: str
    parameter_size: str
    """Such as `494.03M` or `3.2B`."""
    quantization: str
    """Such as `Q4_K_M`."""


@dataclass(frozen=True, slots=True)
class OllamaAnswer:
    """One whole answer; times in seconds."""

    text: str
    prompt_tokens: int
    """0 where Ollama had the prompt in its cache and does not count it."""
    completion_tokens: int
    done_reason: str
    load_s: float
    prompt_s: float
    eval_s: float
    """What the tokens of the answer took."""
    total_s: float
    ttft_s: float | None
    """When the first text of a stream came here; None for a whole answer."""

    @property
    def tokens_per_second(self) -> float | None:
        """`eval_count / eval_duration`, as the API's reference has it; None without tokens."""
        return (
            self.completion_tokens / self.eval_s if self.completion_tokens and self.eval_s else None
        )


class OllamaClient:
    """Asks one Ollama server."""

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        """`url` is the server's root; `timeout_s` bounds each request, loading the model too."""
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._http = HttpClient(self.url, {})

    def version(self) -> str:
        """The server's version.

        Raises:
            OllamaError: it has none, or is no Ollama.
            Unreachable, Silent: nothing answers.
        """
        return _text(self._json("GET", "/api/version"), "version", "/api/version")

    def tags(self) -> tuple[str, ...]:
        """The names of the models that the server has.

        Raises:
            OllamaError, Unreachable, Silent: as `version` does.
        """
        models = self._json("GET", "/api/tags").get("models")
        if not isinstance(models, list):
            raise OllamaError("/api/tags: no list `models`; expected Ollama's API")
        return tuple(_text(_mapping(m, "/api/tags"), "name", "/api/tags") for m in models)

    def show(self, tag: str) -> OllamaDetails:
        """What the model of this name is.

        Raises:
            OllamaError, Unreachable, Silent: as `version` does, or there is no such model.
        """
        told = self._json("POST", "/api/show", {"model": tag})
        details = _mapping(told.get("details"), "/api/show: details")
        return OllamaDetails(
            *(
                _text(details, key, "/api/show: details")
                for key in ("format", "family", "parameter_size", "quantization_level")
            )
        )

    def generate(self, tag: str, request: GenerationRequest, *, stream: bool) -> OllamaAnswer:
        """The answer to a plain prompt, past the template, or to a chat's messages.

        Raises:
            OllamaError, Unreachable, Silent: as `show` does.
        """
        path = "/api/chat" if request.messages else "/api/generate"
        asked: dict[str, Any] = {"prompt": request.prompt, "raw": True}
        if request.messages:
            asked = {"messages": [{"role": m.role, "content": m.content} for m in request.messages]}
        body = {"model": tag, "stream": stream, "options": _options(request), **asked}
        with self._http.open("POST", path, body=body, limit_s=self.timeout_s) as incoming:
            if incoming.status != 200:
                raise OllamaError(f"{path} answers {incoming.status}: {_error(incoming)}")
            return _answer(path, incoming, stream=stream)

    def close(self) -> None:
        """Close what is open. Closing twice is fine."""
        self._http.close()

    def _json(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        with self._http.open(method, path, body=body, limit_s=self.timeout_s) as incoming:
            if incoming.status != 200:
                raise OllamaError(f"{path} answers {incoming.status}: {_error(incoming)}")
            return _object(path, incoming.rest().text)


def _options(request: GenerationRequest) -> dict[str, Any]:
    """Ollama's own sampling settings, with all that would bend greedy decoding switched off."""
    options: dict[str, Any] = {
        "seed": request.seed,
        "temperature": 0 if request.greedy else request.temperature,
        "num_predict": request.max_tokens,
        "repeat_penalty": 1.0,
    }
    return options | ({"stop": list(request.stop)} if request.stop else {})


def _answer(path: str, incoming: Incoming, *, stream: bool) -> OllamaAnswer:
    texts: list[str] = []
    ttft = None
    last: Mapping[str, Any] = {}
    for line in _lines(incoming.pieces()):
        last = _object(path, line)
        if "error" in last:
            raise OllamaError(f"{path}: {one_line(last['error'])}")
        text = last.get("response", (last.get("message") or {}).get("content"))
        texts += [text] if isinstance(text, str) else []
        if ttft is None and text:
            ttft = incoming.seconds()
    if last.get("done") is not True:
        raise OllamaError(f"{path}: the answer ends without `done`; expected Ollama's API")
    return OllamaAnswer(
        text="".join(texts),
        prompt_tokens=int(last.get("prompt_eval_count", 0)),
        completion_tokens=int(last.get("eval_count", 0)),
        done_reason=str(last.get("done_reason", "")),
        load_s=_seconds(last, "load_duration"),
        prompt_s=_seconds(last, "prompt_eval_duration"),
        eval_s=_seconds(last, "eval_duration"),
        total_s=_seconds(last, "total_duration"),
        ttft_s=ttft if stream else None,
    )


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole if line.strip())
    if rest.strip():
        yield rest.decode("utf-8", "replace")


def _seconds(told: Mapping[str, Any], key: str) -> float:
    return float(told.get(key, 0)) * _NANOSECOND


def _object(path: str, text: str) -> Mapping[str, Any]:
    try:
        return _mapping(parse_json(text), path)
    except ValueError as error:
        shown = one_line(text, limit=120)
        raise OllamaError(f"{path}: {shown!r}; expected a JSON object ({error})") from error


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise OllamaError(f"{where}: {one_line(repr(value), limit=120)}; expected an object")
    return value


def _text(told: Mapping[str, Any], key: str, where: str) -> str:
    value = told.get(key)
    if not isinstance(value, str):
        raise OllamaError(f"{where}: {key} is {value!r}; expected a text")
    return value


def _error(incoming: Incoming) -> str:
    return one_line(incoming.rest().text, limit=200)
