"""The adapter of Ollama's own API, against a local server that speaks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_aprqa.checks.gates.served.scripted import ScriptedModel
from pytest_aprqa.checks.gates.served.scripted_ollama import OllamaScript, OllamaServer
from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.engines.endpoint_http import Unreachable
from pytest_aprqa.engines.ollama import OllamaClient, OllamaError

TAG = "tiny:latest"
DETAILS = {"family": "qwen2", "parameter_size": "1.9M", "quantization_level": "Q8_0"}


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """These tests talk to a server on loopback."""


@pytest.fixture
def script() -> OllamaScript:
    return OllamaScript(ScriptedModel(), tag=TAG, details=dict(DETAILS), first_s=0.0)


@pytest.fixture
def client(script: OllamaScript) -> Iterator[OllamaClient]:
    server = OllamaServer(script)
    found = OllamaClient(f"{server.url}/", timeout_s=10.0)
    yield found
    found.close()
    server.close()


def test_version_tags_and_details_are_read(client: OllamaClient) -> None:
    assert client.version() == "0.9.0"
    assert client.tags() == (TAG,)
    assert client.show(TAG).quantization == "Q8_0"
    assert client.show(TAG).family == "qwen2"


@pytest.mark.parametrize("stream", [True, False])
def test_a_plain_prompt_is_answered_past_the_template(client: OllamaClient, stream: bool) -> None:
    request = GenerationRequest(prompt="What is 2 + 2?", max_tokens=5, stop=("xyz",))

    answer = client.generate(TAG, request, stream=stream)

    assert answer.text == ScriptedModel().generate(request).text
    assert answer.completion_tokens == 5
    assert answer.done_reason == "length"
    assert answer.tokens_per_second == pytest.approx(10.0)
    assert (answer.ttft_s is not None) is stream


def test_a_chat_is_asked_with_its_messages(client: OllamaClient) -> None:
    request = GenerationRequest(messages=(Message("user", "Hi"),), max_tokens=4)

    answer = client.generate(TAG, request, stream=True)

    assert answer.text == ScriptedModel().generate(request).text


def test_a_seed_and_a_temperature_are_sent(client: OllamaClient) -> None:
    requests = [
        GenerationRequest(prompt="Once", max_tokens=8, temperature=1.0, seed=seed)
        for seed in (1, 2)
    ]

    texts = [client.generate(TAG, request, stream=False).text for request in requests]

    assert texts == [ScriptedModel().generate(request).text for request in requests]
    assert texts[0] != texts[1]


def test_a_model_that_is_not_there_is_told(client: OllamaClient) -> None:
    with pytest.raises(OllamaError, match=r"/api/show answers 404: .*model 'other' not found"):
        client.show("other")
    with pytest.raises(OllamaError, match=r"/api/generate answers 404"):
        client.generate("other", GenerationRequest(prompt="Hi"), stream=False)


def test_a_server_that_is_no_ollama_is_told(client: OllamaClient, script: OllamaScript) -> None:
    script.broken = True
    with pytest.raises(OllamaError, match=r"/api/version answers 500"):
        client.version()
    del script.details["family"]
    with pytest.raises(OllamaError, match=r"details: family is None; expected a text"):
        client.show(TAG)


def test_nobody_there_is_unreachable() -> None:
    server = OllamaServer(OllamaScript(ScriptedModel()))
    server.close()
    client = OllamaClient(server.url, timeout_s=5.0)
    with pytest.raises(Unreachable):
        client.version()
    client.close()
