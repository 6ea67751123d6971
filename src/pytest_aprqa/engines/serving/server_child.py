"""The process that holds one model in transformers and serves it over HTTP on loopback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.child_protocol import Channel, open_channel
from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.choice import load_here
from pytest_aprqa.engines.engine import LoadFailed, told
from pytest_aprqa.engines.serving.http_server import (
    CUT_S,
    bound_socket,
    serve_until_signal,
    url_of,
)
from pytest_aprqa.engines.serving.parent_watch import end_with_parent
from pytest_aprqa.engines.serving.worker import Worker

if TYPE_CHECKING:
    from pytest_aprqa.engines.transformers_engine import TransformersEngine


def main() -> None:
    """Serve what the parent's one frame names; it is told the address when the model is loaded."""
    channel = open_channel()
    frame = channel.receive()
    if frame is None:
        return
    end_with_parent(channel)
    settings = frame.message
    try:
        bound = bound_socket("127.0.0.1", 0)
        engine = load_served(settings)
    except ImportError as error:
        channel.send({"error": EngineUnavailable.__name__, "text": told(error)})
    except (AprqaError, LoadFailed) as error:
        kind = LoadFailed if isinstance(error, LoadFailed) else EngineUnavailable
        channel.send({"error": kind.__name__, "text": str(error)})
    except Exception as error:
        channel.send({"error": LoadFailed.__name__, "text": told(error)})
    else:
        _serve(channel, engine, bound, settings)


def load_served(settings: dict[str, Any]) -> TransformersEngine:
    """The engine of what the settings name: `path`, `format`, `backend`, `threads`, `model_name`.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine cannot run it.
    """
    format_, backend = Format(settings["format"]), Backend(settings["backend"])
    return load_here(Path(settings["path"]), format_, backend=backend, threads=settings["threads"])


def _serve(channel: Channel, engine: Any, bound: Any, settings: dict[str, Any]) -> None:
    from pytest_aprqa.engines.serving.app import make_app

    worker = Worker(engine)
    app = make_app(worker, settings["model_name"])
    template = {"chat_template": "its own" if engine.has_chat_template else "none"}
    channel.send({"url": url_of(bound), "told": {**engine.describe(), **template}})
    serve_until_signal(app, bound, grace_s=settings["grace_s"])
    worker.close(CUT_S)
    sys.stderr.flush()
    # An engine that is still in native code would be torn down under its own thread.
    os._exit(0)


if __name__ == "__main__":
    main()
