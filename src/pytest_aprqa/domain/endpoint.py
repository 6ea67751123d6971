"""An OpenAI-compatible server as a user names it: where it is, its model, where its key is kept."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pytest_aprqa.domain.errors import AprqaError

KEY_VARIABLES = ("APRQA_API_KEY", "OPENAI_API_KEY")
"""Environment variables that are looked at, in this order, where an endpoint names none."""
_EXPECTED = "expected http://HOST:PORT or https://HOST"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an OpenAI-compatible server answers. The key itself is no part of it.

    Raises:
        AprqaError: the URL is none of a server, or carries a password or a key.
    """

    url: str
    """The server's root, without `/v1` and without a slash at its end."""
    model: str | None = None
    """What requests name the model; None: the only one that the server lists."""
    api_key_env: str | None = None
    """The environment variable that holds the key; None: the first of KEY_VARIABLES that is set."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _root(self.url.strip()))

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables in which the key is looked for, in order."""
        return KEY_VARIABLES if self.api_key_env is None else (self.api_key_env,)

    @property
    def host(self) -> str:
        """The server's host name or address."""
        return urlsplit(self.url).hostname or ""


def _root(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # reading a senseless port raises
    except ValueError as error:
        raise AprqaError(f"the endpoint's URL cannot be read ({error}); {_EXPECTED}") from None
    _refuse_secrets(url, parts)
    if parts.scheme not in ("http", "https") or not host:
        raise AprqaError(f"{url!r} is not the URL of a server; {_EXPECTED}")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _refuse_secrets(url: str, parts: SplitResult) -> None:
    """What may be a key is in the message no more than it may be in the URL."""
    shown = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "the URL"
    elsewhere = f"put the key into the environment variable {' or '.join(KEY_VARIABLES)}"
    if "@" in parts.netloc or (not parts.netloc and "@" in url):
        raise AprqaError(f"the endpoint {shown} has a user name or password in it; {elsewhere}")
    if parts.query or parts.fragment:
        raise AprqaError(
            f"the endpoint {shown} has a `?` or `#` part, and keys do not belong there; "
            f"give the URL without it, and {elsewhere}"
        )
