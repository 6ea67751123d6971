"""A client that can do what a well-kept one does not: leave early, send nonsense."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        found = self.json["error"]
        assert set(found) >= {"message", "type", "code"}
        return found

    @property
    def events(self) -> list[Any]:
        """What a whole stream sent, without its end."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


class Client:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=LIMIT_S)

    def send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        connection = self.open()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, answer.read(), headers)
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def complete(self, prompt: Any, **more: Any) -> Answer:
        return self.post("/v1/completions", {"prompt": prompt, **more})

    def chat(self, *contents: Any, **more: Any) -> Answer:
        messages = [{"role": "user", "content": content} for content in contents]
        return self.post("/v1/chat/completions", {"messages": messages, **more})

    def post(self, path: str, body: Any) -> Answer:
        return self.send("POST", path, json.dumps(body).encode())

    def begin(self, path: str, body: Any) -> http.client.HTTPConnection:
        """A request that has been sent, its answer not read; close the connection to leave."""
        connection = self.open()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection


def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition; it must hold within the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)
