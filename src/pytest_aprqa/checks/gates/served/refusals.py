"""Claims about requests that no server should serve: it refuses them, and lives."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.served.asking import asked, chat_route, few, prompt_key
from pytest_aprqa.checks.serve.client import require_json
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_http import HttpClient, Unreachable

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.client import GateClient
    from pytest_aprqa.engines.endpoint_http import Reply

REFUSALS: Family[ServerLab] = Family(
    "serve/refusals",
    Place.SERVER,
    Cost.SERVER,
    Rung.SERVER,
    category=Category.STAB,
    source="RFC 9110, section 15.5; OpenAI's error codes",
)
FAMILIES = (REFUSALS,)

HEADER_LIMIT_S = 10.0
_STACK = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|^\s+at \S+\(.*:\d+\)|"
    r"stack backtrace:|panicked at ",
    re.MULTILINE,
)


@REFUSALS.gate("F-HTTP-404-001", "an unknown path is a 404")
@asked
def unknown_path(client: GateClient) -> str:
    """A path that no server has."""
    reply = client.send("GET", "/aprqa-no-such-path")
    if reply.status != 404:
        raise Refuted(f"GET of an unknown path gets {reply.status}; expected 404")
    return "an unknown path gets 404"


@REFUSALS.gate("F-HTTP-METHOD-001", "deleting the model list is refused, and the list stays")
@asked
def wrong_method(client: GateClient) -> str:
    """DELETE /v1/models gets a 4xx, and the model is listed after it."""
    reply = client.send("DELETE", "/v1/models")
    if not 400 <= reply.status < 500:
        raise Refuted(f"DELETE /v1/models gets {reply.status}; expected 405 or another 4xx")
    after = client.send("GET", "/v1/models")
    if after.status != 200 or client.served.model_name not in after.text:
        raise Refuted(f"after DELETE /v1/models it answers {one_line(after.text, limit=120)}")
    return f"DELETE /v1/models gets {reply.status}"


@REFUSALS.gate("F-HTTP-LEAK-001", "an error shows no stack of the server's")
@asked
def no_stacks(client: GateClient) -> str:
    """Errors tell what was wrong with the request, and no code or path of the server."""
    route = client.routes()[0]
    asked_wrong = {
        "bad JSON": client.send("POST", route.path, content=b"{"),
        "a list": client.send("POST", route.path, content=b"[]"),
        "a prompt of a wrong type": few(client, route, **{prompt_key(route): {"a": 1}}),
    }
    for name, reply in asked_wrong.items():
        if found := _STACK.search(_told_text(reply)):
            raise Refuted(f"{name} gets {one_line(found.group(), limit=80)!r}; expected no stack")
    return f"{len(asked_wrong)} errors show no stack"


def _told_text(reply: Reply) -> str:
    """An error's text, in JSON's escapes or not."""
    return reply.text.replace("\\n", "\n").replace('\\"', '"')


@REFUSALS.gate("F-HTTP-HEADER-001", "a header of 100 000 bytes does no harm")
@asked
def huge_header(client: GateClient) -> str:
    """It is served, refused with a 4xx, or the connection is closed; the server lives."""
    headers = client.served.headers() | {"X-Filler": "a" * 100_000}
    other = HttpClient(client.served.url, headers)
    try:
        told = f"gets {(reply := other.send('GET', '/v1/models', limit_s=HEADER_LIMIT_S)).status}"
        client.remark(f"a header of 100 000 bytes {told}")
        if reply.status >= 500:
            raise Refuted(f"a header of 100 000 bytes {told}; expected 200 or a 4xx such as 431")
    except Unreachable:
        told = "ends its connection"
    finally:
        other.close()
    _require_healthy(client, "a header of 100 000 bytes")
    return f"a header of 100 000 bytes {told}; the server lives"


BODY_BYTES = 17 * 2**20
"""Of a request that says little: more than a prompt of a million tokens has."""


@REFUSALS.gate("F-HTTP-BODY-001", "a body of 17 MiB does no harm")
@asked
def huge_body(client: GateClient) -> str:
    """It is served, refused with a 4xx, or the connection is closed; the server lives."""
    route = client.routes()[0]
    body = json.dumps(client.body(route, client.prompts.prompts[0], max_tokens=1)).encode()
    try:
        limit = client.prompts.timeout_s
        padded = b" " * BODY_BYTES + body
        reply = client.http.send("POST", route.path, content=padded, limit_s=limit)
        told = f"gets {reply.status}"
        client.remark(f"a body of {len(padded)} bytes {told}")
        if reply.status >= 500:
            raise Refuted(f"a body of 17 MiB {told}; expected 200 or a 4xx such as 413")
    except Unreachable:
        told = "ends its connection"
    _require_healthy(client, "a body of 17 MiB")
    return f"a body of 17 MiB {told}; the server lives"


def _require_healthy(client: GateClient, after: str) -> None:
    try:
        reply = client.send("GET", "/v1/models")
    except Unreachable:
        if not client.served.alive:
            raise
        raise Refuted(f"after {after} the server takes no connection") from None
    if reply.status != 200:
        raise Refuted(f"after {after} /v1/models answers {reply.status}; expected 200")


@REFUSALS.gate("F-HTTP-015", "a chat without messages is refused")
@asked
def empty_messages(client: GateClient) -> str:
    """A 4xx; servers that render the template alone answer, which shows nothing."""
    route = chat_route(client)
    reply = few(client, route, messages=[])
    if reply.status == 200:
        require_json(route, reply)
        raise NotApplicable("the server answers the chat template alone; no message is missed")
    if not 400 <= reply.status < 500:
        raise Refuted(f"a chat without messages gets {reply.status}; expected a 4xx")
    return f"a chat without messages gets {reply.status}"


@REFUSALS.gate("F-HTTP-017", "a body that is no JSON object is refused")
@asked
def no_object(client: GateClient) -> str:
    """Nothing, a list, a text, null, and bytes that are no text get a 4xx each."""
    route = client.routes()[0]
    bodies = (b"", b"[]", b'"text"', b"null", b"\xff\xfe\x00{")
    for body in bodies:
        reply = client.send("POST", route.path, content=body)
        if not 400 <= reply.status < 500:
            raise Refuted(f"the body {body!r} gets {reply.status}; expected a 4xx")
    return f"{len(bodies)} bodies that are no JSON object are refused"


@REFUSALS.gate("F-HTTP-FIELDS-001", "a field of a wrong type is refused")
@asked
def wrong_types(client: GateClient) -> str:
    """A prompt, a limit and a temperature of a wrong type get a 4xx each."""
    route = client.routes()[0]
    wrong: tuple[tuple[str, object], ...] = (
        (prompt_key(route), {"a": 1}),
        ("max_tokens", "ten"),
        ("temperature", "hot"),
    )
    for name, value in wrong:
        reply = few(client, route, **{name: value})
        if not 400 <= reply.status < 500:
            raise Refuted(f"{name}: {value!r} gets {reply.status}; expected a 4xx")
    return f"{len(wrong)} fields of a wrong type are refused"


@REFUSALS.gate(
    "F-HTTP-018", "a million tokens are refused or begun, and do no harm", severity=Severity.P0
)
@asked
def million_tokens(client: GateClient) -> str:
    """max_tokens 1 000 000 gets a 4xx or a stream, which is left; then the server answers."""
    route = client.routes()[0]
    body = client.body(route, client.prompts.prompts[0], max_tokens=1_000_000, stream=True)
    limit = client.prompts.timeout_s
    with client.http.open("POST", route.path, body=body, limit_s=limit) as incoming:
        status = incoming.status
        next(incoming.pieces(), b"")
    client.remark(f"max_tokens 1000000 gets {status}")
    if status >= 500:
        raise Refuted(f"max_tokens 1000000 gets {status}; expected 200 or a 4xx")
    after = few(client, route)
    if after.status != 200:
        raise Refuted(f"after max_tokens 1000000 a short request gets {after.status}; expected 200")
    return f"max_tokens 1000000 gets {status}; a short request is answered after it"
