"""The process that holds one GGUF file in llama.cpp's own server, on loopback."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from pytest_aprqa.conversion.child_protocol import open_channel
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.engine import LoadFailed, told
from pytest_aprqa.engines.serving.http_server import signals_go_to
from pytest_aprqa.engines.serving.llama_server import LlamaServer
from pytest_aprqa.engines.serving.parent_watch import end_with_parent


def main() -> None:
    """Serve what the parent's one frame names; it is told the address when the model is loaded."""
    channel = open_channel()
    frame = channel.receive()
    if frame is None:
        return
    end_with_parent(channel)
    settings = frame.message
    asked_to_end = threading.Event()
    try:
        server = LlamaServer(
            Path(settings["path"]),
            model_name=settings["model_name"],
            threads=settings["threads"],
        )
    except (EngineUnavailable, LoadFailed) as error:
        channel.send({"error": type(error).__name__, "text": str(error)})
    except Exception as error:
        channel.send({"error": LoadFailed.__name__, "text": told(error)})
    else:
        with signals_go_to(lambda _number, _frame: asked_to_end.set()):
            channel.send({"url": server.url, "told": server.describe()})
            asked_to_end.wait()
            server.end(settings["grace_s"])
        sys.stderr.flush()
        os._exit(0)  # the server's destructor may wait for ever


if __name__ == "__main__":
    main()
