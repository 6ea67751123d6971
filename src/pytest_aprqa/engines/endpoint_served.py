"""Somebody else's OpenAI-compatible server: found, asked for its model, never stopped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_answer import error_message
from pytest_aprqa.engines.endpoint_http import HttpClient, Reply, Silent, Unreachable

if TYPE_CHECKING:
    from pytest_aprqa.domain.endpoint import Endpoint
    from pytest_aprqa.engines.serving.served import Stopped

PROBE_S = 5.0
"""Limit of asking whether the server still answers."""


class RemoteServer:
    """A server that was there before: a `Served` that is not ours."""

    ours = False

    def __init__(self, endpoint: Endpoint, model_name: str) -> None:
        self._endpoint = endpoint
        self._model_name = model_name

    def __repr__(self) -> str:
        return f"RemoteServer({self.url!r}, {self._model_name!r})"

    @property
    def url(self) -> str:
        """The server's root, without a slash at its end."""
        return self._endpoint.url

    @property
    def model_name(self) -> str:
        """What requests name the model."""
        return self._model_name

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables in which its key is looked for."""
        return self._endpoint.key_variables

    @property
    def alive(self) -> bool:
        """Whether it answers at all, with whatever status."""
        client = client_of(self._endpoint)
        try:
            client.send("GET", "/v1/models", limit_s=PROBE_S)
        except (Unreachable, Silent):
            return False
        finally:
            client.close()
        return True

    def describe(self) -> dict[str, str]:
        """Nothing that can be relied on: an endpoint may say anything of itself."""
        return {"engine": "endpoint", "device": "unknown"}

    def headers(self) -> dict[str, str]:
        """The key, if there is one. Never goes into evidence."""
        return _headers(self._endpoint)

    def memory_bytes(self) -> int | None:
        """None: it cannot be read from here."""
        return None

    def log_tail(self) -> str:
        """Empty: it cannot be read from here."""
        return ""

    def stop(self, limit_s: float) -> Stopped:
        """Refuse to.

        Raises:
            AprqaError: always.
        """
        raise AprqaError(f"the server at {self.url} was not started here and is not stopped here")


def find_server(endpoint: Endpoint, *, timeout_s: float) -> RemoteServer:
    """The server at an endpoint, with the model that it is to be asked for.

    Raises:
        EngineUnavailable: it does not answer, or wants a key.
        AprqaError: the endpoint names no model, and the server does not list exactly one.
    """
    client = client_of(endpoint)
    try:
        reply = client.send("GET", "/v1/models", limit_s=timeout_s)
    except (Unreachable, Silent) as error:
        raise EngineUnavailable(
            f"no server answers at {endpoint.url} ({error}); start it, or correct the URL"
        ) from error
    finally:
        client.close()
    if reply.status in (401, 403):
        refuse_key(endpoint.url, reply.status, error_message(reply.text), endpoint.key_variables)
    return RemoteServer(endpoint, endpoint.model or _only_model(endpoint, reply))


def refuse_key(url: str, status: int, message: str, variables: tuple[str, ...]) -> NoReturn:
    """Say where the key of a server that wants one is looked for.

    Raises:
        EngineUnavailable: always.
    """
    given = [name for name in variables if os.environ.get(name, "").strip()]
    state = f"{given[0]} is set, but is not it" if given else f"{' and '.join(variables)} not set"
    if not variables:
        state = "none is known for it"
    raise EngineUnavailable(
        f"{url} answered {status} ({message or 'without a message'}): it wants a key, which is "
        f"read from the environment: {state}"
    )


def client_of(endpoint: Endpoint) -> HttpClient:
    """A client that sends the endpoint's key.

    Raises:
        AprqaError: the named environment variable is not set, or its value cannot be a key.
    """
    return HttpClient(endpoint.url, _headers(endpoint))


def _headers(endpoint: Endpoint) -> dict[str, str]:
    for name in endpoint.key_variables:
        key = os.environ.get(name, "").strip()
        if not key:
            continue
        if not (key.isascii() and key.isprintable()):
            raise AprqaError(f"{name} holds characters that no key has; set it to the key alone")
        return {"Authorization": f"Bearer {key}"}
    if endpoint.api_key_env is not None:
        raise AprqaError(
            f"the environment variable {endpoint.api_key_env} is not set; set it to "
            f"the key of {endpoint.url}, or name another"
        )
    return {}


def _only_model(endpoint: Endpoint, reply: Reply) -> str:
    names = _listed(reply)
    if names is None:
        raise AprqaError(
            f"{endpoint.url}/v1/models answered {reply.status} and no list of models "
            f"({error_message(reply.text) or 'nothing'}); name the endpoint's model"
        )
    if len(names) != 1:
        told = ", ".join(names) or "none"
        raise AprqaError(f"{endpoint.url} lists {len(names)} models ({told}); name one of them")
    return names[0]


def _listed(reply: Reply) -> list[str] | None:
    try:
        body = reply.json()
    except ValueError:
        return None
    data = body.get("data") if isinstance(body, dict) else None
    if reply.status != 200 or not isinstance(data, list):
        return None
    ids = (entry.get("id") for entry in data if isinstance(entry, dict))
    return [one_line(name, limit=200) for name in ids if isinstance(name, str)]
