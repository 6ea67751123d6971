"""A client of one server that judges as it asks: status, JSON, schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.serve import schemas
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import error_message
from pytest_aprqa.engines.endpoint_http import HttpClient, Reply
from pytest_aprqa.engines.endpoint_request import no_template

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.prompts import ServePrompts
    from pytest_aprqa.engines.serving.served import Served

MOST_DETAILS = 40
"""Exchanges and remarks that a finding keeps, the first ones."""
NO_TEMPLATE = "the model has no chat template"
EXCERPT = 240
"""Characters of a request or response that a detail shows."""


@dataclass(frozen=True, slots=True)
class Route:
    """One of the two ways to an answer, with the schemas of its bodies."""

    path: str
    schema: dict[str, Any]
    chunk_schema: dict[str, Any]
    chat: bool

    def question(self, prompt: str) -> dict[str, Any]:
        """The part of a request that holds the prompt."""
        if self.chat:
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"prompt": prompt}


COMPLETIONS = Route("/v1/completions", schemas.COMPLETION, schemas.COMPLETION_CHUNK, chat=False)
CHAT = Route("/v1/chat/completions", schemas.CHAT_COMPLETION, schemas.CHAT_CHUNK, chat=True)


@dataclass(frozen=True, slots=True)
class Said:
    """One unstreamed answer, of the right schema."""

    text: str
    finish_reason: str
    usage: Mapping[str, int]
    logprobs: object
    seconds: float


KnownAnswers = dict[tuple[str, str, int], Said]
"""Greedy answers of one server by path, prompt and max_tokens."""


class GateClient:
    """Asks one server for one gate and keeps what was said."""

    def __init__(self, served: Served, prompts: ServePrompts, known: KnownAnswers) -> None:
        """`known` holds the plain answers of earlier gates, and gets those of this one."""
        self.served = served
        self.prompts = prompts
        self._known = known
        self.http = HttpClient(served.url, served.headers())
        self.details: list[str] = []
        self.measurements: dict[str, float] = {}

    def remark(self, text: str) -> None:
        """Keep a line for the finding's details."""
        if len(self.details) < MOST_DETAILS:
            self.details.append(self.http.hide(text))

    def measure(self, **values: float) -> None:
        """Keep numbers for the finding."""
        self.measurements.update({name: float(value) for name, value in values.items()})

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: bytes | None = None,
        limit_s: float | None = None,
    ) -> Reply:
        """One exchange, kept in the details."""
        limit = self.prompts.timeout_s if limit_s is None else limit_s
        reply = self.http.send(method, path, body=body, content=content, limit_s=limit)
        sent = content.decode("utf-8", "replace") if content is not None else ""
        sent = json.dumps(body, ensure_ascii=False) if body is not None else sent
        self.remark(
            f"{method} {path} {_excerpt(sent)} → {reply.status} {_excerpt(reply.text)} "
            f"({reply.seconds * 1000:.0f} ms)"
        )
        return reply

    def body(self, route: Route, prompt: str, **settings: object) -> dict[str, Any]:
        """The body of a greedy request, but for what the settings say."""
        return {
            "model": self.served.model_name,
            **route.question(prompt),
            "max_tokens": self.prompts.max_tokens,
            "temperature": 0,
            "seed": 0,
            **settings,
        }

    def ask(
        self, route: Route, prompt: str, *, limit_s: float | None = None, **settings: object
    ) -> Said:
        """One unstreamed answer.

        Raises:
            Refuted: the status is not 200, or the body not of the schema.
            NotApplicable: the model has no chat template.
        """
        if route.chat and not self.has_chat_template:
            raise NotApplicable(NO_TEMPLATE)
        body = self.body(route, prompt, **settings)
        reply = self.send("POST", route.path, body=body, limit_s=limit_s)
        return said_in(route, reply)

    def answer(self, route: Route, prompt: str) -> Said:
        """The greedy answer to a prompt, asked for once for all gates of a server.

        Raises:
            Refuted, NotApplicable: as `ask` does.
        """
        key = (route.path, prompt, self.prompts.max_tokens)
        if key not in self._known:
            self._known[key] = self.ask(route, prompt)
        return self._known[key]

    @property
    def has_chat_template(self) -> bool:
        """False where a server of ours says so, which may yet answer by a template of its own."""
        return not self.served.describe().get("chat_template", "").startswith("none")

    def routes(self) -> tuple[Route, ...]:
        """The routes that the server and the model have, told by asking for one token each.

        Raises:
            NotApplicable: neither.
        """
        found, missing = [], []
        for route in (COMPLETIONS, CHAT):
            if route.chat and not self.has_chat_template:
                missing.append(NO_TEMPLATE)
                continue
            body = self.body(route, self.prompts.prompts[0], max_tokens=1)
            reply = self.send("POST", route.path, body=body)
            told = error_message(reply.text)
            if reply.status == 404 or (route.chat and reply.status >= 400 and no_template(told)):
                missing.append(f"{route.path} answers {reply.status} ({told})")
            else:
                found.append(route)
        for line in missing:
            self.remark(f"not asked: {line}")
        if not found:
            raise NotApplicable(f"there is nothing to ask: {'; '.join(missing)}")
        return tuple(found)

    def close(self) -> None:
        """Close what is open."""
        self.http.close()


def said_in(route: Route, reply: Reply) -> Said:
    """The answer in a reply.

    Raises:
        Refuted: the status is not 200, or the body not of the schema.
        NotApplicable: the model has no chat template.
    """
    answer = require_json(route, reply)
    choice = answer["choices"][0]
    text = choice["message"]["content"] if route.chat else choice["text"]
    return Said(
        text=text or "",
        finish_reason=choice["finish_reason"],
        usage=answer["usage"],
        logprobs=choice.get("logprobs"),
        seconds=reply.seconds,
    )


def require_json(route: Route, reply: Reply) -> dict[str, Any]:
    """The body of an answer, of the route's schema.

    Raises:
        Refuted: the status is not 200, or the body is not of the schema.
        NotApplicable: the model has no chat template.
    """
    refuse_status(route, reply)
    return require_schema(route.path, reply, route.schema)


def require_schema(path: str, reply: Reply, schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that an answer holds, of a schema.

    Raises:
        Refuted: it is none, or not of the schema.
    """
    try:
        body = reply.json()
    except ValueError as error:
        raise Refuted(f"{path} answered {_excerpt(reply.text)}; expected JSON ({error})") from error
    problem = schemas.problem_of(body, schema)
    if problem is not None or not isinstance(body, dict):
        raise Refuted(f"{path}: {problem or 'no object'}; expected the schema of OpenAI's API")
    return body


def refuse_status(route: Route, reply: Reply) -> None:
    """Go on with status 200 only.

    Raises:
        Refuted: another.
        NotApplicable: the model has no chat template.
    """
    message = error_message(reply.text)
    if route.chat and reply.status >= 400 and no_template(message):
        raise NotApplicable(f"the model has no chat template ({one_line(message, limit=160)})")
    if reply.status != 200:
        raise Refuted(f"{route.path} answered {reply.status}: {message or 'nothing'}; expected 200")


def _excerpt(text: str) -> str:
    return one_line(text, limit=EXCERPT)
