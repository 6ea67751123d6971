"""A model that transformers runs in the host's child: its crash is an outcome, never ours."""

from __future__ import annotations

import time
import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_process import ChildDied, ChildSilent
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import EngineClosed, EngineCrashed, LoadFailed
from pytest_aprqa.engines.generation import require_sane
from pytest_aprqa.engines.messages import completion_of, loaded, received
from pytest_aprqa.engines.torch_host import TorchHost, torch_host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.conversion.child_process import ChildProcess
    from pytest_aprqa.domain.model import Backend, Format
    from pytest_aprqa.domain.trace import TraceLevel
    from pytest_aprqa.engines.tracing import TracedPass

GRACE_S = 30.0
"""What a child that has run out of time is given to say so; it looks at the time at every token."""
PROMPT_TIMEOUT_S = 120.0
"""Limit of rendering the chat template and of tokenizing."""
LOGITS_TIMEOUT_S = 3600.0
"""Limit of one prefill of a whole context, which may be long on a slow machine."""
LOAD_TIMEOUT_S = 1800.0
"""Limit of a load: 100 GB at the 60 MB/s of a slow network disk."""
CLOSE_TIMEOUT_S = 30.0
"""Limit of freeing a model's memory; a child that takes longer is killed, which frees it too."""


def load(
    directory: Path, *, backend: Backend, dtype: str | None = None, threads: int | None = None
) -> HostedEngine:
    """Load the model in a directory in the host's child; nothing is ever fetched.

    `dtype` None keeps the checkpoint's own, on the CPU too: what ships is what is qualified.
    `threads` is torch's thread count while this model loads and runs; None leaves torch's own.

    Raises:
        LoadFailed: the files do not make a model, kill the child, or take longer than the limit.
        EngineUnavailable: this machine cannot run it: no CUDA device, too little memory.
    """
    return HostedEngine(
        {"path": str(directory.absolute()), "format": None},
        {"backend": backend, "dtype": dtype, "threads": threads},
    )


def load_file(
    path: Path,
    format_: Format,
    *,
    backend: Backend,
    threads: int | None = None,
    dtype: str | None = None,
) -> HostedEngine:
    """Load an APR or GGUF file with transformers in the host's child, everything from the file.

    Raises:
        LoadFailed: the file cannot be read, or what it holds does not make a model.
        EngineUnavailable: this machine lacks the device or the memory.
    """
    return HostedEngine(
        {"path": str(path.absolute()), "format": format_},
        {"backend": backend, "dtype": dtype, "threads": threads},
    )


class HostedEngine:
    """A TransformersEngine in the host's child; it means what that means, and answers as it does.

    A child that dies or had to be killed takes all its models along; each is loaded again in the
    next child when it is next asked.
    """

    name = "transformers"

    def __init__(self, source: dict[str, Any], settings: dict[str, Any]) -> None:
        self._load_as = {**source, **settings}
        self._host: TorchHost = torch_host()
        self._handle = 0
        self._child: ChildProcess | None = None
        self._closed = False
        self._forget: weakref.finalize[..., Any] | None = None
        described = self._load()
        self.version: str = described["version"]
        self.device: str = described["device"]
        self.has_chat_template: bool = described["has_chat_template"]
        self.context_length: int | None = described["context_length"]
        self._told: dict[str, str] = described["told"]
        self._peak_memory_bytes: int = described["peak_memory_bytes"]

    @property
    def child_pid(self) -> int:
        """The process id of the child that holds the model, or held it last."""
        assert self._child is not None
        return self._child.pid

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request; at the time limit the answer is what there is.

        A child that says nothing long after the limit is killed: the answer is then a timeout
        without text, and its diagnosis says where the child was.

        Raises:
            InvalidRequest: the model cannot be asked this.
            EngineCrashed: the child died, or hung before it began; torch or transformers raised;
                or the logits hold NaN.
        """
        require_sane(request)
        with self._host.talk():
            child = self._running()
            self._host.send(child, self._handle, "generate", request=asdict(request))
            prompt = received(child, self.name, PROMPT_TIMEOUT_S).message
            began = time.perf_counter()
            try:
                limit = request.timeout_s + GRACE_S
                answer = received(child, self.name, limit, may_be_late=True).message
            except ChildSilent as silence:
                took = time.perf_counter() - began
                return self._nothing(prompt, took, silence.diagnosis)
        return self._noted(completion_of(answer))

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        """Answer greedy requests together; None for each that must be asked alone.

        Raises:
            EngineCrashed: the child died or hung, or torch raised; nothing is known of any of them.
        """
        with self._host.talk():
            child = self._running()
            asked = [asdict(request) for request in requests]
            self._host.send(child, self._handle, "batch", requests=asked)
            limit = PROMPT_TIMEOUT_S
            while "answers" not in (message := received(child, self.name, limit).message):
                limit = message["limit_s"] + GRACE_S
        return tuple(
            None if answer is None else self._noted(completion_of(answer))
            for answer in message["answers"]
        )

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids; `special` adds the start and end tokens the model asks for.

        Raises:
            EngineCrashed: the child died or hung, or the tokenizer raised.
        """
        with self._host.talk():
            child = self._running()
            self._host.send(child, self._handle, "tokenize", text=text, special=special)
            return tuple(received(child, self.name, PROMPT_TIMEOUT_S).message["token_ids"])

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Teacher-forced logits in one prefill: float32 [tokens, vocabulary].

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, more than the context.
            EngineCrashed: the child died or hung, or torch or transformers raised.
        """
        import numpy as np

        with self._host.talk():
            child = self._running()
            self._host.send(child, self._handle, "logits", token_ids=list(map(int, token_ids)))
            frame = received(child, self.name, LOGITS_TIMEOUT_S)
        return np.frombuffer(frame.blob, np.float32).reshape(frame.message["shape"])

    def trace(self, token_ids: Sequence[int], level: TraceLevel) -> TracedPass:
        """One teacher-forced pass with its inside recorded; the model stays as it was.

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, or too many.
            EngineCrashed: the child died or hung, or torch or transformers raised.
        """
        from pytest_aprqa.engines.tracing import pass_of

        with self._host.talk():
            child = self._running()
            ids = list(map(int, token_ids))
            self._host.send(child, self._handle, "trace", token_ids=ids, level=level)
            frame = received(child, self.name, LOGITS_TIMEOUT_S)
        return pass_of(frame.message, frame.blob)

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: library versions, device, dtype, threads, attention."""
        return dict(self._told)

    def close(self) -> None:
        """Free the model's memory; the engine answers no more. Closing twice is fine."""
        with self._host.talk():
            if self._closed:
                return
            self._closed = True
            if self._forget is not None:
                self._forget.detach()
            child = self._host.child
            if child is None or child is not self._child:
                return  # the model went with its child
            self._host.send(child, self._handle, "close")
            try:
                child.receive(CLOSE_TIMEOUT_S)
            except (ChildDied, ChildSilent):
                self._child = None  # and with it the model's memory

    def _running(self) -> ChildProcess:
        """The child with the model in it, loaded again when the last one was killed or died."""
        if self._closed:
            raise EngineClosed
        if self._child is None or self._host.child is not self._child:
            try:
                self._load()
            except (LoadFailed, EngineUnavailable) as error:
                raise EngineCrashed(f"{self.name} does not start again: {error}") from error
        assert self._child is not None
        return self._child

    def _load(self) -> dict[str, Any]:
        with self._host.talk():
            child = self._host.start(self._load_as["threads"])
            handle = self._host.new_handle()
            self._host.send(child, handle, "load", **self._load_as)
            told = loaded(child, self.name, LOAD_TIMEOUT_S, where=self._load_as["path"])
            self._child, self._handle = child, handle
            if self._forget is not None:
                self._forget.detach()
            self._forget = weakref.finalize(self, self._host.forget, handle)
            self._forget.atexit = False
            return told

    def _noted(self, completion: Completion) -> Completion:
        self._peak_memory_bytes = completion.peak_memory_bytes
        return completion

    def _nothing(self, prompt: dict[str, Any], total_s: float, diagnosis: str) -> Completion:
        """What is known of an answer whose child was killed: how long it took, and no text."""
        return Completion(
            text="",
            token_ids=(),
            prompt_tokens=len(prompt["prompt_token_ids"]),
            finish_reason=FinishReason.TIMEOUT,
            ttft_s=None,
            total_s=total_s,
            peak_memory_bytes=self._peak_memory_bytes,
            rendered_prompt=prompt["rendered_prompt"],
            prompt_token_ids=tuple(prompt["prompt_token_ids"]),
            diagnosis=diagnosis,
        )
