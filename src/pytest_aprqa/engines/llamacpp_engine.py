"""Run a GGUF file with llama.cpp, in a child process: its crash is an outcome, never ours."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_process import ChildProcess, ChildSilent
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import (
    EngineClosed,
    EngineCrashed,
    LoadFailed,
)
from pytest_aprqa.engines.generation import require_sane
from pytest_aprqa.engines.memory import require_memory, weights_bytes
from pytest_aprqa.engines.messages import loaded, received

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.conversion.child_protocol import Frame

MODULE = "pytest_aprqa.engines.llamacpp_child"
GRACE_S = 30.0
"""What a child that has run out of time is given to say so; it looks at the time in every layer."""
PROMPT_TIMEOUT_S = 120.0
"""Limit of rendering the chat template and of tokenizing."""
LOGITS_TIMEOUT_S = 3600.0
"""Limit of one prefill of a whole context, which may be long on a slow machine."""
LOAD_TIMEOUT_S = 1800.0
"""Limit of a load: 100 GB at the 60 MB/s of a slow network disk."""


def load_gguf(path: Path, *, threads: int | None = None, exact: bool = False) -> LlamaCppEngine:
    """Load a GGUF file (the first of a split one) on the CPU.

    `threads` None is one for each core that this process may use. `exact` computes attention
    plainly with keys and values kept as float32, for comparing logits; otherwise they are kept as
    float16 and flash attention is used where it can be, as llama.cpp does by default.

    Raises:
        LoadFailed: llama.cpp does not take the file, or dies of it.
        EngineUnavailable: its bindings are missing, or there is too little memory.
    """
    if not path.is_file():
        raise LoadFailed(f"{path}: the file does not exist; expected a GGUF file")
    require_memory(weights_bytes(path), "cpu", where=str(path))
    return LlamaCppEngine(path, threads=threads or len(os.sched_getaffinity(0)), exact=exact)


class LlamaCppEngine:
    """A GGUF file in a child process that holds llama.cpp; a child that dies is replaced.

    Requests mean what they mean to the transformers engine: the same greedy choice, the same
    sampling from the whole distribution (other numbers are drawn), the same stops and limits. What
    ends an answer is every token that llama.cpp takes for an end of generation, the tokens are its
    own tokenizer's, and the chat template is the file's.
    """

    name = "llama.cpp"
    device = "cpu"

    def __init__(self, path: Path, *, threads: int, exact: bool) -> None:
        self._path = path
        self._settings = {"path": str(path), "threads": threads, "exact": exact}
        self._closed = False
        self._talk = threading.RLock()  # one request at a time, whoever asks
        self._peak_memory_bytes = 0
        self._child, described = self._start()
        self.version: str = described["version"]
        self.has_chat_template: bool = described["has_chat_template"]
        self.context_length: int | None = described["context_length"]
        self._told: dict[str, str] = {**described["told"], "file": path.name}

    @property
    def child_pid(self) -> int:
        """The process id of the child that runs the model now."""
        return self._child.pid

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request; at the time limit the answer is what there is.

        A child that says nothing long after the limit is killed: the answer is then a timeout
        without text.

        Raises:
            InvalidRequest: the model cannot be asked this.
            EngineCrashed: the child died or hung before it began, llama.cpp reported an error, or
                the logits hold NaN.
        """
        require_sane(request)
        with self._talk:
            child = self._running()
            child.send({"do": "generate", "request": asdict(request)})
            prompt = self._receive(child, PROMPT_TIMEOUT_S).message
            began = time.perf_counter()
            try:
                limit = request.timeout_s + GRACE_S
                answer = self._receive(child, limit, may_be_late=True).message
            except ChildSilent as silence:
                answer = self._nothing(time.perf_counter() - began, silence.diagnosis)
            self._peak_memory_bytes = answer["peak_memory_bytes"]
        return self._completion(answer, prompt)

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        """Answer greedy requests together; None for each that must be asked alone.

        Those are, beside what `BatchingEngine` names, the ones that ask for logprobs.

        Raises:
            EngineCrashed: the child died or hung, or llama.cpp reported an error; nothing is known
                of any of them.
        """
        with self._talk:
            child = self._running()
            child.send({"do": "batch", "requests": [asdict(request) for request in requests]})
            limit = PROMPT_TIMEOUT_S
            while "answers" not in (message := self._receive(child, limit).message):
                limit = message["limit_s"] + GRACE_S
            self._peak_memory_bytes = message["peak_memory_bytes"]
        return tuple(
            None if answer is None else self._completion(answer, answer)
            for answer in message["answers"]
        )

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids; `special` adds the start and end tokens the file asks for.

        Raises:
            EngineCrashed: the child died, or llama.cpp reported an error.
        """
        with self._talk:
            child = self._running()
            child.send({"do": "tokenize", "text": text, "special": special})
            return tuple(self._receive(child, PROMPT_TIMEOUT_S).message["token_ids"])

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Teacher-forced logits in one prefill: float32 [tokens, vocabulary].

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, more than the context.
            EngineCrashed: the child died, or llama.cpp reported an error.
        """
        import numpy as np

        with self._talk:
            child = self._running()
            child.send({"do": "logits", "token_ids": list(token_ids)})
            frame = self._receive(child, LOGITS_TIMEOUT_S)
        return np.frombuffer(frame.blob, np.float32).reshape(frame.message["shape"])

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: versions, device, threads, weights, cache, file."""
        return dict(self._told)

    def close(self) -> None:
        """End the child; the engine answers no more. Closing twice is fine."""
        self._closed = True
        self._child.close()

    def _start(self) -> tuple[ChildProcess, dict[str, Any]]:
        child = ChildProcess(MODULE)
        child.send(self._settings)
        try:
            return child, loaded(child, self.name, LOAD_TIMEOUT_S, where=str(self._path))
        except BaseException:
            child.close()
            raise

    def _running(self) -> ChildProcess:
        """The child, started again when the last one was killed or died."""
        if self._closed:
            raise EngineClosed
        if not self._child.alive:
            try:
                self._child, _ = self._start()
            except (LoadFailed, EngineUnavailable) as error:
                raise EngineCrashed(f"llama.cpp does not start again: {error}") from error
        return self._child

    def _receive(
        self, child: ChildProcess, timeout_s: float, *, may_be_late: bool = False
    ) -> Frame:
        return received(child, self.name, timeout_s, may_be_late=may_be_late)

    def _completion(self, answer: dict[str, Any], prompt: dict[str, Any]) -> Completion:
        prompt_ids = tuple(prompt["prompt_token_ids"])
        return Completion(
            text=answer["text"],
            token_ids=tuple(answer["token_ids"]),
            prompt_tokens=len(prompt_ids),
            finish_reason=FinishReason(answer["finish_reason"]),
            ttft_s=answer["ttft_s"],
            total_s=answer["total_s"],
            peak_memory_bytes=self._peak_memory_bytes,
            rendered_prompt=prompt["rendered_prompt"],
            prompt_token_ids=prompt_ids,
            batch_size=answer.get("batch_size", 1),
            token_s=tuple(answer.get("token_s", ())),
            diagnosis=answer.get("diagnosis", ""),
        )

    def _nothing(self, total_s: float, diagnosis: str) -> dict[str, Any]:
        """What is known of an answer whose child was killed: how long it took, and no text."""
        return {
            "text": "",
            "token_ids": (),
            "finish_reason": FinishReason.TIMEOUT,
            "ttft_s": None,
            "total_s": total_s,
            "peak_memory_bytes": self._peak_memory_bytes,
            "diagnosis": diagnosis,
        }
