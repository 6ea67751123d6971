"""Claims about what goes over the wire: connections, JSON, event streams, wrong requests."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.served.asking import FEW_TOKENS, asked, few
from pytest_aprqa.checks.serve.client import require_json
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.checks.serve.wrong_requests import UNKNOWN_MODEL
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import DONE

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.client import GateClient

_RFC = "RFC 9110, RFC 9112"
_SSE = "WHATWG HTML, Server-sent events"

CONNECTION: Family[ServerLab] = Family(
    "serve/connection", Place.SERVER, Cost.SERVER, Rung.SERVER, category=Category.STAB, source=_RFC
)
WIRE: Family[ServerLab] = Family(
    "serve/wire", Place.SERVER, Cost.SERVER, Rung.SERVER, source="RFC 8259, RFC 9110"
)
EVENTS: Family[ServerLab] = Family(
    "serve/events", Place.SERVER, Cost.SERVER, Rung.SERVER, source=_SSE
)
FAMILIES = (CONNECTION, WIRE, EVENTS)
ALIASES = {"F-API-001": "F-HTTP-007", "F-API-005": "F-HTTP-010"}

CONNECTIONS = 10
"""Connections that are held open at once."""
CONNECT_S = 5.0
HEALTH_S = 1.0
"""Longer, and a load balancer's probe counts as failed (Kubernetes: timeoutSeconds 1)."""
HEALTH_TRIES = 3
"""A machine that is busy elsewhere may be late once; the fastest of these counts."""
_FIELDS = re.compile(rb"^(?:data|event|id|retry)(?::.*)?$|^:.*$", re.DOTALL)
DEBUG_KEYS = frozenset({"brick_trace", "step_trace", "layer_trace", "trace", "__verbose", "debug"})
"""Parts of an answer that only a request for them may bring: traces, and llama.cpp's."""


@CONNECTION.gate("F-HTTP-001", "the server accepts ten connections at once", severity=Severity.P0)
@asked
def accepts(client: GateClient) -> str:
    """Ten connections are open at the same time, before anything is sent over them."""
    parts = urlsplit(client.served.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    open_ones: list[socket.socket] = []
    try:
        for number in range(CONNECTIONS):
            try:
                open_ones.append(socket.create_connection((parts.hostname or "", port), CONNECT_S))
            except OSError as error:
                raise Refuted(
                    f"connection {number + 1} of {CONNECTIONS} to {client.served.url}: {error}; "
                    "expected it to be accepted"
                ) from error
    finally:
        for opened in open_ones:
            opened.close()
    client.remark(f"{CONNECTIONS} connections to {client.served.url} at once")
    return f"{CONNECTIONS} connections at once are accepted"


@WIRE.gate("F-API-003", "the health probe answers within one second")
@asked
def health_in_time(client: GateClient) -> str:
    """The fastest of up to three probes is answered in a second."""
    seconds: list[float] = []
    while not seconds or (min(seconds) > HEALTH_S and len(seconds) < HEALTH_TRIES):
        reply = client.send("GET", "/health")
        if reply.status == 404 and not client.served.ours:
            raise NotApplicable("the server has no /health")
        seconds.append(reply.seconds)
    client.measure(health_seconds=min(seconds))
    if min(seconds) > HEALTH_S:
        told = ", ".join(f"{s:.2f}" for s in seconds)
        raise Refuted(f"/health took {told} s; expected at most {HEALTH_S:g} s")
    return f"/health takes {min(seconds) * 1000:.1f} ms"


@WIRE.gate("F-HTTP-003", "the server says where it computes, and that is the target's backend")
def names_its_device(lab: ServerLab) -> Any:
    """A server that fell back from GPU to CPU does not say the device that it was asked for."""
    return asked(lambda client: _device(client, lab))(lab)


def _device(client: GateClient, lab: ServerLab) -> str:
    if not client.served.ours:
        raise NotApplicable("where a server that is not ours computes cannot be known")
    device = client.served.describe().get("device", "")
    client.remark(f"the server says: {dict(client.served.describe())}")
    if not device:
        raise Refuted("the server names no device; expected cpu or a GPU's name")
    backend = None if lab.target is None else lab.target.target.backend
    if backend is not None and (device == "cpu") != (backend == "cpu"):
        raise Refuted(f"the server computes on {device}; expected {backend}")
    return f"the server computes on {device}"


@WIRE.gate("F-HTTP-TYPE-001", "answers in JSON say that they are")
@asked
def content_type(client: GateClient) -> str:
    """The Content-Type of a completion, of the model list and of an error is application/json."""
    route = client.routes()[0]
    replies = {
        f"POST {route.path}": few(client, route),
        "GET /v1/models": client.send("GET", "/v1/models"),
        "bad JSON": client.send("POST", route.path, content=b"{"),
    }
    for name, reply in replies.items():
        found = reply.headers.get("content-type", "none").split(";")[0].strip().lower()
        if found != "application/json":
            raise Refuted(f"{name}: Content-Type is {found!r}; expected application/json")
    return f"{len(replies)} answers are application/json"


@WIRE.gate("F-HTTP-007", "an answer is JSON as RFC 8259 has it", severity=Severity.P0)
@asked
def rfc_8259(client: GateClient) -> str:
    """UTF-8 without a mark at its start, no NaN or Infinity, no key twice, no lone surrogate."""
    asked_for = 0
    for route in client.routes():
        body = client.body(route, client.prompts.prompts[0], max_tokens=FEW_TOKENS)
        limit = client.prompts.timeout_s
        with client.http.open("POST", route.path, body=body, limit_s=limit) as incoming:
            raw = b"".join(incoming.pieces())
            if incoming.status != 200:
                continue  # each route has a gate of its own
        if (wrong := _not_rfc_8259(raw)) is not None:
            raise Refuted(f"{route.path} answers {one_line(repr(raw), limit=120)}: {wrong}")
        asked_for += 1
        client.remark(f"POST {route.path} → {len(raw)} bytes")
    if not asked_for:
        raise Refuted("no route answers with status 200; expected one that does")
    return f"answers of {asked_for} routes are JSON"


def _not_rfc_8259(raw: bytes) -> str | None:
    """Why bytes are no JSON text that any reader takes; None when they are one."""
    if raw.startswith(b"\xef\xbb\xbf"):
        return "it starts with a byte order mark"
    try:
        text = raw.decode("utf-8")
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (UnicodeError, ValueError) as error:
        return f"{one_line(error)}; expected JSON of RFC 8259"
    return None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
    return dict(pairs)


@WIRE.gate("F-HTTP-TRACE-001", "an answer to a plain request has no traces in it")
@asked
def no_traces(client: GateClient) -> str:
    """What only a request for traces may bring is in no other answer."""
    route = client.routes()[0]
    body = require_json(route, few(client, route))
    if found := sorted(DEBUG_KEYS & set(body)):
        raise Refuted(f"{route.path} answers with {', '.join(found)}; expected none unasked")
    return f"{route.path} answers with {', '.join(sorted(body))}"


@WIRE.gate("F-HTTP-ID-001", "each answer has an id of its own")
@asked
def own_ids(client: GateClient) -> str:
    """Three answers have three ids."""
    route = client.routes()[0]
    ids = [str(require_json(route, few(client, route)).get("id")) for _ in range(3)]
    if len(set(ids)) < len(ids):
        raise Refuted(f"{len(ids)} answers have the ids {', '.join(ids)}; expected all different")
    return f"{len(ids)} answers have {len(ids)} ids"


@WIRE.gate("F-HTTP-MODEL-001", "an answer names the model that gave it, whatever was asked for")
@asked
def names_its_model(client: GateClient) -> str:
    """An unknown model is refused, or its answer names the model that is served."""
    route = client.routes()[0]
    name = client.served.model_name
    right = require_json(route, few(client, route))["model"]
    if client.served.ours and right != name:
        raise Refuted(f"{route.path} names {right!r} as its model; expected {name!r}")
    reply = few(client, route, model=UNKNOWN_MODEL)
    if reply.status == 200:
        told = require_json(route, reply)["model"]
        if told == UNKNOWN_MODEL:
            raise Refuted(
                f"{route.path} answers as {told!r}, which it does not have; expected a 4xx, or "
                f"the name {name!r}"
            )
        return f"an unknown model is answered in the name of {told!r}"
    if not 400 <= reply.status < 500:
        raise Refuted(f"an unknown model gets {reply.status}; expected a 4xx")
    return f"an unknown model gets {reply.status}"


def _event_bytes(client: GateClient) -> bytes:
    """The bytes of one stream, as they came."""
    route = client.routes()[-1]
    body = client.body(route, client.prompts.prompts[0], max_tokens=FEW_TOKENS, stream=True)
    limit = client.prompts.timeout_s
    with client.http.open("POST", route.path, body=body, limit_s=limit) as incoming:
        raw = b"".join(incoming.pieces())
        if incoming.status != 200:
            raise Refuted(f"a stream of {route.path} gets {incoming.status}; expected 200")
    client.remark(f"a stream of {route.path} has {len(raw)} bytes")
    return raw.replace(b"\r\n", b"\n")


@EVENTS.gate("F-HTTP-010", "a stream is one of server-sent events, each ended by a blank line")
@asked
def framing(client: GateClient) -> str:
    """Each line is a field or a comment, and no event holds two JSON objects."""
    raw = _event_bytes(client)
    events = [event for event in raw.split(b"\n\n") if event.strip()]
    for event in events:
        lines = [line for line in event.split(b"\n") if line]
        wrong = next((line for line in lines if not _FIELDS.match(line)), None)
        if wrong is not None:
            raise Refuted(f"a line of the stream is {wrong[:80]!r}; expected `data: ...`")
        if sum(line.startswith(b"data:") for line in lines) > 1:
            raise Refuted(
                f"{one_line(repr(event), limit=120)} has two `data:` lines; expected a blank line "
                "between events"
            )
    if not events:
        raise Refuted("the stream is empty; expected events")
    if not raw.endswith(b"\n\n"):
        raise Refuted(f"the stream ends in {raw[-20:]!r}; expected a blank line")
    return f"{len(events)} events, each ended by a blank line"


@EVENTS.gate("F-HTTP-011", "a stream's last event is [DONE]")
@asked
def done(client: GateClient) -> str:
    """`data: [DONE]` comes once, at the end."""
    data = [
        line.removeprefix(b"data:").strip().decode("utf-8", "replace")
        for line in _event_bytes(client).split(b"\n")
        if line.startswith(b"data:")
    ]
    if data.count(DONE) != 1 or data[-1] != DONE:
        last = data[-1] if data else "nothing"
        raise Refuted(
            f"the stream has {data.count(DONE)} [DONE] and ends with {one_line(last, limit=80)}; "
            "expected one, at its end"
        )
    return f"[DONE] is the last of {len(data)} events"
