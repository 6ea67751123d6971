"""`aprqa serve`: one model behind an OpenAI-compatible HTTP server, in the foreground."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen
from pytest_aprqa.cli.sources import model_path
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.domain.text import escaped

if TYPE_CHECKING:
    import socket

NAME = "serve"
HELP = "answer OpenAI's HTTP API with a model"
DESCRIPTION = """\
Serve a model over HTTP: GET /health and /v1/models, POST /v1/completions and /v1/chat/completions,
streamed or not. transformers runs directories and .apr files; llama.cpp's own server runs .gguf
files on the CPU. There is no key: whoever reaches the address may ask.

Ctrl-C or SIGTERM end it: no request is taken any more, and those that run have 10 s to end.
"""
EXAMPLES = """\
examples:
  aprqa serve embedded/aprqa-tiny
  aprqa serve model.gguf --port 8080 --name my-model
"""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa serve`."""
    command.add_argument(
        "model",
        metavar="MODEL",
        help="a Hugging Face directory, an .apr or .gguf file, the id of a model in the Hugging "
        "Face cache, or embedded/aprqa-tiny",
    )
    command.add_argument("--host", default="127.0.0.1", help="the address (default: %(default)s)")
    command.add_argument(
        "--port", type=_port, default=8000, help="the port (default: %(default)s; 0: any free one)"
    )
    command.add_argument(
        "--backend",
        type=Backend,
        choices=list(Backend),
        default=Backend.CPU,
        help="what runs it (default: cpu)",
    )
    command.add_argument("--name", help="what requests call the model (default: MODEL's name)")
    command.add_argument("--quiet", action="store_true", help="log no requests")


def run(chosen: argparse.Namespace) -> Exit:
    """Load, say where, and serve until a signal; status 1 when the model does not load."""
    from pytest_aprqa.engines.engine import LoadFailed
    from pytest_aprqa.engines.serving.http_server import bound_socket
    from pytest_aprqa.formats.opening import format_of

    path = model_path(chosen.model)
    format_ = format_of(path)
    if format_ is Format.SAFETENSORS and not path.is_dir():
        raise AprqaError(f"{path}: expected the directory that holds it, with config and tokenizer")
    name = chosen.name or (chosen.model if _is_id(chosen.model) else path.stem)
    bound = bound_socket(chosen.host, chosen.port)  # before a load of minutes
    try:
        if format_ is Format.GGUF and chosen.backend is Backend.CPU:
            return _serve_llama(path, name, bound, chosen)
        return _serve_ours(path, format_, name, bound, chosen)
    except LoadFailed as failed:
        sys.stderr.write(f"aprqa: {escaped(str(failed))}\n")
        return Exit.WRONG
    finally:
        bound.close()


def _serve_ours(
    path: Path, format_: Format, name: str, bound: socket.socket, chosen: argparse.Namespace
) -> Exit:
    from pytest_aprqa.engines.choice import load_here
    from pytest_aprqa.engines.serving.app import make_app
    from pytest_aprqa.engines.serving.exchange import logged
    from pytest_aprqa.engines.serving.http_server import CUT_S, serve_until_signal, url_of
    from pytest_aprqa.engines.serving.worker import Worker

    engine = load_here(path, format_, backend=chosen.backend)
    worker = Worker(engine)
    app = make_app(worker, name)
    serve_until_signal(
        app if chosen.quiet else logged(app, _log),
        bound,
        ready=lambda: _announce(
            name, url_of(bound), engine.describe(), chats=engine.has_chat_template, chosen=chosen
        ),
    )
    if not worker.close(CUT_S):
        _leave()  # native code that is still at work cannot be torn down
    engine.close()
    return Exit.FINE


def _serve_llama(path: Path, name: str, bound: socket.socket, chosen: argparse.Namespace) -> Exit:
    from pytest_aprqa.engines.serving.http_server import GRACE_S, signals_go_to
    from pytest_aprqa.engines.serving.llama_log import readable_log
    from pytest_aprqa.engines.serving.llama_server import INFO, LlamaServer

    host, port = bound.getsockname()[:2]
    bound.close()  # llama.cpp binds for itself
    asked_to_end = threading.Event()
    with readable_log(requests=not chosen.quiet) as muted:
        server = LlamaServer(
            path, model_name=name, threads=None, host=host, port=port, verbosity=INFO
        )
        with signals_go_to(lambda _number, _frame: asked_to_end.set()):
            _announce(name, server.url, server.describe(), chats=server.has_template, chosen=chosen)
            asked_to_end.wait()
            server.end(GRACE_S, when_idle=muted.set)
    _leave()  # the server's destructor may wait for ever


def _leave() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Exit.FINE)


def _announce(
    name: str, url: str, told: dict[str, str], *, chats: bool, chosen: argparse.Namespace
) -> None:
    screen = Screen()
    screen.line(f"{name} at {url} ({told['engine']}, {told['device']})", style="green")
    body: dict[str, Any] = {"model": name, "max_tokens": 64}
    if chats:
        where, body["messages"] = "chat/completions", [{"role": "user", "content": "What is 2+2?"}]
    else:
        where, body["prompt"] = "completions", "2 + 2 ="
    header = shlex.quote("Content-Type: application/json")
    screen.line(f"curl {url}/v1/{where} -H {header} -d {shlex.quote(json.dumps(body))}")
    if chosen.host not in _LOOPBACK:
        screen.line("note: there is no key; whoever reaches this address may ask", style="bold")
    sys.stdout.flush()


def _log(line: str) -> None:
    sys.stderr.write(f"{escaped(line)}\n")
    sys.stderr.flush()


def _is_id(named: str) -> bool:
    """Whether MODEL was named by an id, which is then the better name for it."""
    return not Path(named).expanduser().exists()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 65535")
    return int(text)
