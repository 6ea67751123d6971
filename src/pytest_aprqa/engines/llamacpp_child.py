"""The process that llama.cpp runs in: loads one GGUF file, then answers until its parent ends."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.conversion.child_protocol import Channel, Frame, open_channel
from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed, told
from pytest_aprqa.engines.llamacpp_model import GgufModel


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
        channel.send({**reply, "peak_memory_bytes": _peak_memory_bytes()}, blob)


def _do(
    channel: Channel, model: GgufModel, message: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    if message["do"] == "tokenize":
        return {"token_ids": model.tokenize(message["text"], special=message["special"])}, b""
    if message["do"] == "logits":
        found = model.logits(message["token_ids"])
        return {"shape": found.shape}, found.tobytes()
    asked = message["request"]
    asked["messages"] = tuple(Message(**entry) for entry in asked["messages"])
    request = GenerationRequest(**{**asked, "stop": tuple(asked["stop"])})

    def began(rendered: str, prompt_ids: list[int]) -> None:
        channel.send({"rendered_prompt": rendered, "prompt_token_ids": prompt_ids})

    return model.generate(request, began), b""


def _peak_memory_bytes() -> int:
    """The most memory this process has held.

    From its own status: getrusage's figure begins with that of the parent that started it.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:  # noqa: PTH123
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no line VmHWM: expected the peak resident memory")


if __name__ == "__main__":
    main()
