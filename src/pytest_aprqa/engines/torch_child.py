"""The process that torch runs in: holds any number of models, and answers until its parent ends."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_protocol import Channel, open_channel, peak_memory_bytes
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.domain.trace import TraceLevel
from pytest_aprqa.engines.engine import EngineCrashed, LoadFailed
from pytest_aprqa.engines.messages import completion_message, error_message, request_of
from pytest_aprqa.engines.tracing import message_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.domain.completion import Completion
    from pytest_aprqa.engines.transformers_engine import TransformersEngine


def main() -> None:
    """Import torch, then do what each frame says."""
    channel = open_channel()
    with suppress(ImportError):  # the first load tells what is missing
        import torch  # noqa: F401
        import transformers  # noqa: F401
    models = Models(channel)
    while (frame := channel.receive()) is not None:
        models.answer(frame.message)


class Models:
    """The loaded models by the handles that the parent chose for them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._engines: dict[int, TransformersEngine] = {}

    def answer(self, message: Mapping[str, Any]) -> None:
        """Do one thing and say how it went."""
        for handle in message["forgotten"]:
            self._close(handle)
        loads = message["do"] == "load"
        try:
            reply, blob = self._do(message)
        except Exception as error:
            otherwise = LoadFailed if loads else EngineCrashed
            self._channel.send(error_message(error, otherwise=otherwise))
        else:
            self._channel.send(reply, blob)

    def _do(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        handle = message["handle"]
        if message["do"] == "load":
            self._engines[handle] = engine = _load(message)
            return _described(engine), b""
        if message["do"] == "close":
            self._close(handle)
            return {}, b""
        engine = self._engines[handle]
        if message["do"] == "tokenize":
            ids = engine.tokenize(message["text"], special=message["special"])
            return {"token_ids": ids}, b""
        if message["do"] == "logits":
            found = engine.logits(message["token_ids"])
            return {"shape": found.shape}, found.tobytes()
        if message["do"] == "trace":
            return message_of(engine.trace(message["token_ids"], TraceLevel(message["level"])))
        if message["do"] == "batch":
            return self._batch(engine, message), b""
        request = request_of(message["request"])
        rendered, prompt_ids = engine.prompt_of(request)
        self._channel.send({"rendered_prompt": rendered, "prompt_token_ids": prompt_ids})
        return _told(engine.generate(request)), b""

    def _batch(self, engine: TransformersEngine, message: Mapping[str, Any]) -> dict[str, Any]:
        def began(limit_s: float) -> None:
            self._channel.send({"limit_s": limit_s})

        requests = [request_of(entry) for entry in message["requests"]]
        found = engine.generate_batch(requests, began)
        return {"answers": [None if answer is None else _told(answer) for answer in found]}

    def _close(self, handle: int) -> None:
        if (engine := self._engines.pop(handle, None)) is not None:
            engine.close()
            del engine
            gc.collect()


def _load(message: Mapping[str, Any]) -> TransformersEngine:
    path, backend = Path(message["path"]), Backend(message["backend"])
    settings = {"dtype": message["dtype"], "threads": message["threads"]}
    if message["format"] is None:
        from pytest_aprqa.engines.transformers_engine import load

        return load(path, backend=backend, **settings)
    from pytest_aprqa.engines.portable_load import load_portable_file

    return load_portable_file(path, Format(message["format"]), backend=backend, **settings)


def _described(engine: TransformersEngine) -> dict[str, Any]:
    return {
        "version": engine.version,
        "device": engine.device,
        "has_chat_template": engine.has_chat_template,
        "context_length": engine.context_length,
        "told": engine.describe(),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _told(completion: Completion) -> dict[str, Any]:
    return completion_message(completion)


if __name__ == "__main__":
    main()
