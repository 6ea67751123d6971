"""The process that llama.cpp runs in: loads one GGUF file, then answers until its parent ends."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.conversion.child_protocol import (
    Channel,
    Frame,
    open_channel,
    peak_memory_bytes,
)
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed, told
from pytest_aprqa.engines.llamacpp_model import GgufModel
from pytest_aprqa.engines.messages import request_of


def main() -> None:
    """Serve the parent: the first frame says which file, each later one what to do with it."""
    channel = open_channel()
    first = channel.receive()
    if first is None:
        return
    model = _load(channel, first)
    while model is not None and (frame := channel.receive()) is not None:
        _answer(channel, model, frame.message)


def _load(channel: Channel, frame: Frame) -> GgufModel | None:
    try:
        model = GgufModel(**frame.message)
        described = model.describe()
    except ImportError as error:
        channel.send({"error": EngineUnavailable.__name__, "text": told(error)})
    except (EngineUnavailable, LoadFailed) as error:
        channel.send({"error": type(error).__name__, "text": str(error)})
    except Exception as error:
        channel.send({"error": LoadFailed.__name__, "text": told(error)})
    else:
        channel.send(described)
        return model
    return None


def _answer(channel: Channel, model: GgufModel, message: dict[str, Any]) -> None:
    try:
        reply, blob = _do(channel, model, message)
    except InvalidRequest as error:
        channel.send({"error": type(error).__name__, "text": str(error)})
    except Exception as error:
        crash = EngineCrashed.from_exception(error)
        tail = "\n".join(filter(None, (crash.traceback_tail, model.log.take())))
        channel.send({"error": "EngineCrashed", "text": crash.error, "tail": tail})
    else:
        channel.send({**reply, "peak_memory_bytes": peak_memory_bytes()}, blob)


def _do(
    channel: Channel, model: GgufModel, message: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    if message["do"] == "tokenize":
        return {"token_ids": model.tokenize(message["text"], special=message["special"])}, b""
    if message["do"] == "logits":
        found = model.logits(message["token_ids"])
        return {"shape": found.shape}, found.tobytes()
    if message["do"] == "batch":
        requests = [request_of(entry) for entry in message["requests"]]
        answers = model.generate_batch(requests, lambda s: channel.send({"limit_s": s}))
        return {"answers": answers}, b""
    request = request_of(message["request"])

    def began(rendered: str, prompt_ids: list[int]) -> None:
        channel.send({"rendered_prompt": rendered, "prompt_token_ids": prompt_ids})

    return model.generate(request, began), b""


if __name__ == "__main__":
    main()
