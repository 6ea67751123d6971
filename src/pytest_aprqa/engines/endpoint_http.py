"""One HTTP request to a server: its status, its bytes as they come, its time; never too long."""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_BYTES = 64 * 2**20
"""Most bytes of an answer that are read: a hundred times the longest context in tokens."""
SHORTEST_SECRET = 8
"""A shorter key (`none`, `EMPTY`) is a placeholder, and would be found in every other text."""
_LONGEST_WAIT_S = 1e6


class Unreachable(Exception):
    """No connection came about, or it broke before the answer was whole."""

    def __init__(self, message: str, *, connected: bool) -> None:
        super().__init__(message)
        self.connected = connected
        """False when nothing listens there."""


class Silent(Exception):
    """The answer was not whole in time; the connection was cut."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """With names in lower case."""
    text: str
    """The body, with the client's own key hidden should the server repeat it."""
    seconds: float
    """From the request being sent to the last byte."""

    def json(self) -> object:
        """The body as JSON.

        Raises:
            ValueError: it is not.
        """
        return parse_json(self.text)


class Incoming:
    """An answer whose body still comes."""

    def __init__(self, response: Any, watch: _Watchdog, client: HttpClient) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): client.hide(value) for name, value in response.headers.items()
        }
        self._response = response
        self._watch = watch
        self._client = client

    def seconds(self) -> float:
        """How long ago the request was sent over its connection."""
        return time.perf_counter() - self._watch.started

    def pieces(self) -> Iterator[bytes]:
        """The body's bytes as they come.

        Raises:
            Unreachable: the connection broke, or there are more of them than any answer has.
            Silent: the limit passed.
        """
        size = 0
        with _translated(self._watch, self._client):
            for piece in self._response.iter_bytes():
                size += len(piece)
                if size > MOST_BYTES:
                    raise Unreachable(f"an answer of more than {MOST_BYTES} bytes", connected=True)
                yield piece
        self._watch.require_time()

    def rest(self) -> Reply:
        """The whole answer, once it is there."""
        text = b"".join(self.pieces()).decode("utf-8", "replace")
        return Reply(self.status, self.headers, self._client.hide(text), self.seconds())


class HttpClient:
    """Asks one server. Every request has a connection of its own, so none meets a stale one.

    Redirects are not followed: a key goes where the user sent it. Proxies of the environment do
    not act for loopback. What the server repeats of the client's key is hidden.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        import httpx2

        self.url = url
        self._secrets = _secrets(headers)
        self._client = httpx2.Client(
            headers=dict(headers),
            trust_env=not is_loopback(url),
            # Reading the certificates takes 50 ms, and nothing here would use them.
            verify=url.startswith("https:") or not is_loopback(url),
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def __repr__(self) -> str:
        return f"HttpClient({self.url!r})"

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: bytes | None = None,
        limit_s: float,
    ) -> Iterator[Incoming]:
        """Send a request and read its answer inside the `with`; leaving it early hangs up.

        `body` goes as JSON, `content` as it is but called JSON. `limit_s` is the limit of all of
        it, however slowly the server drips.

        Raises:
            Unreachable: no connection, or it broke.
            Silent: the limit passed.
        """
        data = content if body is None else json.dumps(body).encode()
        watch = _Watchdog(limit_s)
        try:
            with _translated(watch, self):
                request = self._client.build_request(
                    method,
                    self.url + path,
                    content=data,
                    headers=None if data is None else {"Content-Type": "application/json"},
                    timeout=watch.limit_s,
                    extensions={"trace": watch.trace},
                )
                response = self._client.send(request, stream=True)
            try:
                yield Incoming(response, watch, self)
            finally:
                response.close()
        finally:
            watch.cancel()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: bytes | None = None,
        limit_s: float,
    ) -> Reply:
        """Send a request as `open` does and give the whole answer, whatever its status."""
        with self.open(method, path, body=body, content=content, limit_s=limit_s) as incoming:
            return incoming.rest()

    def hide(self, text: str) -> str:
        """The text with every secret of the request's headers as `[key]`."""
        return _hidden(text, self._secrets)

    def close(self) -> None:
        """Close what is open. Closing twice is fine."""
        self._client.close()


class _Watchdog:
    """Cuts a connection at its limit: reading with a timeout alone never ends where bytes drip."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = max(min(limit_s, _LONGEST_WAIT_S), 1e-3)
        self.started = time.perf_counter()
        """When the connection stood and the request could be sent."""
        self._expired = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(self.limit_s, self._expire)
        self._timer.daemon = True
        self._timer.start()

    @property
    def told(self) -> str:
        return f"no whole answer within {self.limit_s:.4g} s"

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the HTTP library with each of its steps."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            self.started = time.perf_counter()

    def require_time(self) -> None:
        if self._expired:
            raise Silent(self.told)

    def cancel(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._socket is not None:
            try:
                # Not TLS's own shutdown, which another thread may be reading through.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                self._socket = None  # closed in this very moment: there is nothing to cut


@contextmanager
def _translated(watch: _Watchdog, client: HttpClient) -> Iterator[None]:
    """The HTTP library's errors as ours."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise Silent(watch.told) from error
    except (httpx2.HTTPError, OSError) as error:
        watch.require_time()
        refused = isinstance(error, httpx2.ConnectError)
        told = one_line(client.hide(f"{type(error).__name__}: {error}"))
        raise Unreachable(told, connected=not refused) from error


def is_loopback(url: str) -> bool:
    """Whether the URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def parse_json(text: str) -> object:
    """The text's JSON.

    Raises:
        ValueError: it is none, or nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def hide_secrets(text: str, headers: Mapping[str, str]) -> str:
    """The text with every secret of a client's headers as `[key]`."""
    return _hidden(text, _secrets(headers))


def _hidden(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return text


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the headers and their last words (`Bearer KEY`), longest first."""
    found = {part for value in headers.values() for part in (value, value.rsplit(" ", 1)[-1])}
    found |= {json.dumps(s)[1:-1] for s in found}  # as they stand in JSON
    found |= {s.replace("/", "\\/") for s in found}
    return tuple(sorted((s for s in found if len(s) >= SHORTEST_SECRET), key=len, reverse=True))
