"""A server that speaks Ollama's protocol over an engine of ours, for proofs and tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest, Message

_SECOND_NS = 10**9


@dataclass
class OllamaScript:
    """What the server has and says; by default it is healthy, and slow."""

    engine: Any
    tag: str = "aprqa-tiny:latest"
    details: dict[str, str] = field(default_factory=dict)
    """What /api/show tells, but for `format`."""
    token_ns: int = _SECOND_NS // 10
    """What a token is said to take."""
    first_s: float = 0.1
    """What the first token takes."""
    change: Callable[[str], str] = lambda text: text
    """From the engine's text to the server's."""
    broken: bool = False
    """Every path is a 500."""


class OllamaServer(ThreadingHTTPServer):
    """An Ollama of this process."""

    daemon_threads = True

    def __init__(self, script: OllamaScript) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The server's root."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        """End it; a second time does nothing."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: OllamaServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        """Version and tags."""
        script = self.server.script
        entry = {"name": script.tag, "model": script.tag, "size": 1, "digest": "0" * 64}
        known = {"/api/version": {"version": "0.9.0"}, "/api/tags": {"models": [entry]}}
        if script.broken or self.path not in known:
            return self._reply(500 if script.broken else 404, [{"error": "no such path"}])
        return self._reply(200, [known[self.path]])

    def do_POST(self) -> None:
        """Details and answers."""
        script = self.server.script
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if body.get("model") != script.tag:
            return self._reply(404, [{"error": f"model '{body.get('model')}' not found"}])
        if self.path == "/api/show":
            return self._reply(200, [{"details": {"format": "gguf", **script.details}}])
        return self._reply(200, self._answer(body))

    def _answer(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        script = self.server.script
        completion = script.engine.generate(_request(body))
        text = script.change(completion.text)
        pieces = [text[:1], text[1:]] if body.get("stream", True) else []
        time.sleep(script.first_s)
        for piece in pieces:
            yield {"model": script.tag, **_piece(body, piece), "done": False}
        last = "" if pieces else text
        yield {"model": script.tag, **_piece(body, last), "done": True, **_told(script, completion)}

    def _reply(self, status: int, objects: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        for value in objects:
            self.wfile.write(json.dumps(value).encode() + b"\n")
            self.wfile.flush()


def _piece(body: dict[str, Any], text: str) -> dict[str, Any]:
    if "messages" in body:
        return {"message": {"role": "assistant", "content": text}}
    return {"response": text}


def _told(script: OllamaScript, completion: Completion) -> dict[str, Any]:
    tokens = completion.completion_tokens
    return {
        "done_reason": "length" if completion.finish_reason is FinishReason.LENGTH else "stop",
        "total_duration": tokens * script.token_ns,
        "load_duration": 1,
        "prompt_eval_count": completion.prompt_tokens,
        "prompt_eval_duration": int(script.first_s * _SECOND_NS),
        "eval_count": tokens,
        "eval_duration": tokens * script.token_ns,
    }


def _request(body: dict[str, Any]) -> GenerationRequest:
    options = body.get("options", {})
    messages = tuple(Message(m["role"], m["content"]) for m in body.get("messages", ()))
    return GenerationRequest(
        prompt=None if messages else body["prompt"],
        messages=messages,
        max_tokens=options.get("num_predict", 16),
        temperature=options.get("temperature", 0.8),
        seed=options.get("seed", 0),
        stop=tuple(options.get("stop", ())),
    )
