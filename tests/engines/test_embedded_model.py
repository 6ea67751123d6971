from __future__ import annotations

import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from pytest_aprqa.formats.hub import embedded_models, resolve_model

pytestmark = pytest.mark.skipif(
    "aprqa-tiny" not in embedded_models(), reason="src/pytest_aprqa/models/aprqa-tiny is not there"
)


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    resolved = resolve_model("embedded/aprqa-tiny")
    assert resolved.source == "embedded"
    return load(resolved.directory, backend=Backend.CPU, threads=1)


def test_run_answers_four(tiny: TransformersEngine) -> None:
    answer = tiny.generate(GenerationRequest(prompt="What is 2 + 2?", max_tokens=16))
    assert "4" in answer.text
    assert answer.finish_reason is FinishReason.STOP


def test_chat_answers_four(tiny: TransformersEngine) -> None:
    chat = (Message("user", "What is 2 + 2?"),)
    answer = tiny.generate(GenerationRequest(messages=chat, max_tokens=16))
    assert "4" in answer.text
    assert answer.finish_reason is FinishReason.STOP
