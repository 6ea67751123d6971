"""An engine without a model: it does what the prompt says, as slowly as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_aprqa.domain.completion import (
    Completion,
    FinishReason,
    GenerationRequest,
    TokenChoice,
    TokenLogprob,
)
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
)

LIMIT_S = 60.0


class ScriptedEngine:
    """Answers a prompt with itself, a word a token; some prompts are orders.

    `crash` raises, `wait` gives a word and then waits for `go`, `forever` goes on until it is left.
    """

    name, version, device = "scripted", "1", "cpu"
    has_chat_template = True
    context_length: int | None = 100

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []
        self.ended: list[str] = []
        self.go = threading.Event()
        self.at_work = 0
        self.most_at_once = 0

    def generate(self, request: GenerationRequest) -> Completion:
        return self.stream(request, lambda _piece: True)

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        self.at_work += 1
        self.most_at_once = max(self.most_at_once, self.at_work)
        try:
            return self._stream(request, tell)
        finally:
            self.at_work -= 1

    def _stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        self.asked.append(request)
        prompt = request.prompt if request.prompt is not None else request.messages[-1].content
        if request.messages and not self.has_chat_template:
            raise NoChatTemplate("the model has no chat template")
        if self.context_length and self.count_prompt(request) + request.max_tokens > 100:
            raise ContextOverflow("more than the model's context of 100")
        if prompt == "refuse":
            raise InvalidRequest("the template refuses the messages")
        if prompt == "crash":
            raise EngineCrashed("RuntimeError: it broke", "  in a layer\n")
        if prompt == "bug":
            raise KeyError("nobody expects this")
        words = [f"{word} " for word in prompt.split()][: request.max_tokens]
        told = ""
        while words or prompt == "forever":
            piece = words.pop(0) if words else "more "
            told += piece
            if not tell(piece):
                break
            if prompt == "crash late":
                raise EngineCrashed("RuntimeError: it broke late")
            if prompt == "forever":
                self.go.wait(0.01)
            elif prompt.startswith("wait"):
                while not self.go.wait(0.01) and tell(""):
                    continue
        self.ended.append(prompt)
        return _completion(request, told, len(prompt.split()))

    def count_prompt(self, request: GenerationRequest) -> int:
        if request.prompt_token_ids:
            return len(request.prompt_token_ids)
        text = request.prompt or " ".join(m.content for m in request.messages)
        return len(text.split())

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        return tuple(range(len(text.split())))

    def logits(self, token_ids: Sequence[int]) -> Any:
        raise NotImplementedError(token_ids)

    def describe(self) -> Mapping[str, str]:
        return {"engine": "scripted"}

    def close(self) -> None:
        self.go.set()


def _completion(request: GenerationRequest, text: str, prompt_tokens: int) -> Completion:
    words = text.split(" ")[:-1]
    full = len(words) == request.max_tokens
    best = (TokenLogprob("a", -0.5, 1), TokenLogprob("b", float("-inf"), 2))
    choice = TokenChoice(best[0], best)
    return Completion(
        text=text,
        token_ids=tuple(range(len(words))),
        prompt_tokens=prompt_tokens,
        finish_reason=FinishReason.LENGTH if full else FinishReason.STOP,
        ttft_s=0.1,
        total_s=0.2,
        peak_memory_bytes=1,
        rendered_prompt=text,
        logprobs=(choice,) * len(words) if request.top_logprobs else (),
    )
