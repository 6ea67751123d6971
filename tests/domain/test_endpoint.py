from __future__ import annotations

import pytest

from pytest_aprqa.domain.endpoint import Endpoint
from pytest_aprqa.domain.errors import AprqaError


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        (" http://127.0.0.1:8000/v1 ", "http://127.0.0.1:8000"),
        ("https://host/v1/", "https://host"),
        ("https://host/openai/v1", "https://host/openai"),
        ("http://[::1]:80/v1", "http://[::1]:80"),
    ],
)
def test_the_root_is_without_v1_and_slash(given: str, root: str) -> None:
    assert Endpoint(given).url == root


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://me:sesame-1234@host/v1", "has a user name or password in it; put the key into"),
        ("http://sesame-1234@host", "has a user name or password in it"),
        ("me:sesame-1234@host", "has a user name or password in it"),
        ("https://host/v1?key=sesame-1234", "`[?]` or `#` part, and keys do not belong there"),
        ("https://host/v1#sesame-1234", "`[?]` or `#` part"),
        ("host:8000", "is not the URL of a server; expected http://HOST:PORT"),
        ("ftp://host", "is not the URL of a server"),
        ("http://", "is not the URL of a server"),
        ("http://host:port", "cannot be read"),
        ("http://host:99999", "cannot be read"),
        ("http://[::1", "cannot be read"),
    ],
)
def test_what_is_no_server_or_holds_a_key_is_refused(url: str, told: str) -> None:
    with pytest.raises(AprqaError, match=told) as caught:
        Endpoint(url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_key_is_looked_up_where_the_endpoint_says() -> None:
    assert Endpoint("http://host").key_variables == ("APRQA_API_KEY", "OPENAI_API_KEY")
    assert Endpoint("http://host", api_key_env="K").key_variables == ("K",)
    assert Endpoint("http://host:8/v1").host == "host"
