"""Put a gate's questions to a server: every way in which that can end is a finding, or a crash."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, refuted
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.serve.client import NO_TEMPLATE, GateClient
from pytest_aprqa.checks.serve.finding import NotApplicable
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable, hide_secrets
from pytest_aprqa.engines.engine import EngineCrashed

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.client import Route
    from pytest_aprqa.engines.endpoint_http import Reply

    ServerCheck = Callable[[GateClient], str]

FEW_TOKENS = 4
"""Tokens of an answer that is asked for because of its form."""


def asked(check: ServerCheck) -> Callable[[ServerLab], Finding]:
    """The check of a server's lab that a function of a client decides.

    The function says what was seen, or raises Refuted or NotApplicable; a server that is gone is a
    crash, one that breaks a connection or is silent refutes the claim.
    """

    @wraps(check)
    def of_lab(lab: ServerLab) -> Finding:
        return ask(check, lab)

    return of_lab


def ask(check: ServerCheck, lab: ServerLab) -> Finding:
    """What a function of a client finds at a lab's server.

    Raises:
        EngineCrashed: the server's process is gone.
    """
    from pytest_aprqa.checks.serve.gates import put

    served = lab.served
    try:
        return put(check, served, lab.prompts, known=lab.known)
    except Silent as silent:
        return refuted(f"the server gave {hide_secrets(str(silent), served.headers())}")
    except Unreachable as error:
        told = hide_secrets(f"the connection to the server was lost: {error}", served.headers())
        if not served.alive:
            tail = hide_secrets(served.log_tail(), served.headers())
            raise EngineCrashed(f"{told}; it runs no more", tail) from error
        return refuted(f"{told}; it still runs")


def prompt_key(route: Route) -> str:
    """What a request of the route holds its prompt under."""
    return "messages" if route.chat else "prompt"


def chat_route(client: GateClient) -> Route:
    """The route of chats.

    Raises:
        NotApplicable: the model has no chat template.
    """
    for route in client.routes():
        if route.chat:
            return route
    raise NotApplicable(NO_TEMPLATE)


def few(client: GateClient, route: Route, **settings: object) -> Reply:
    """The reply to a short request."""
    body = client.body(route, client.prompts.prompts[0], max_tokens=FEW_TOKENS) | settings
    return client.send("POST", route.path, body=body)
