"""A small OpenAI-compatible server over a scripted model, healthy but for the faults it is given.

As a script it serves until SIGTERM: `python -P openai_server.py FAULT...` prints its URL.
"""

from __future__ import annotations

import hashlib
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted"
CONTEXT = 2000
SLOTS = 4
TAKES_S = 0.003
"""What an answer takes, so that requests meet."""
KINDS = {"/v1/completions": "text_completion", "/v1/chat/completions": "chat.completion"}
_NAMES = """
    health_500 no_health models_other models_schema models_500
    completion_empty completion_no_id completion_not_json completion_500 no_completions
    chat_empty chat_role no_template
    stream_chunk_lost stream_swapped stream_no_done stream_after_done stream_two_reasons
    stream_ids stream_line stream_type stream_text_after stream_broken stream_no_reason
    usage_total usage_prompt_zero usage_too_many usage_prompt_constant usage_prompt_random
    usage_streamed usage_length
    stop_ignored stop_kept stop_reason stop_streamed stop_list
    max_tokens_ignored max_tokens_reason max_tokens_short max_tokens_other
    seed_ignored always_greedy
    no_logprobs logprobs_refused logprobs_positive logprobs_sum logprobs_not_greedy logprobs_nan
    logprobs_chosen_missing logprobs_chat_shape logprobs_at_most_five
    mixed_up busy_at_once all_alike
    bad_json_500 bad_json_hangs bad_json_drops bad_json_dies model_500 model_404 model_200
    negative_200 overlong_200 overlong_500 method_200 no_message sick_after_error
    slots_leak no_ignore_eos short_context
    sigterm_ignored sigterm_slow sigterm_status
    key_wanted key_told silent drips busy_twice busy_always busy_long redirects no_stream_options
    error_in_stream garbled two_models stalls_in_stream chunked_dies
"""
FAULTS = frozenset(_NAMES.split())
WORDS = ("red", "green", "blue", "seven", "house", "river", "tree", "cloud", "stone", "bird")


@dataclass
class State:
    """What the server remembers."""

    faults: frozenset[str] = frozenset()
    requests: int = 0
    last_prompt: str = ""
    at_once: int = 0
    sick: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(SLOTS)
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)


def tokens_of(prompt: str, salt: str = "") -> list[str]:
    """The scripted answer: 12 to 19 tokens."""
    digest = hashlib.sha256(f"{prompt}|{salt}".encode()).digest()
    return [f" {WORDS[byte % len(WORDS)]}{byte % 7}" for byte in digest[: 12 + digest[0] % 8]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, file=self.server.log)

    def has(self, fault: str) -> bool:
        return fault in self.server.state.faults

    def do_GET(self) -> None:
        state = self.server.state
        state.headers.append(dict(self.headers.items()))
        if self.has("key_wanted") and self.headers.get("Authorization") != "Bearer sesame-1234":
            return self.error(401, f"wrong key: {self.headers.get('Authorization')}")
        if self.path == "/health" and not self.has("no_health"):
            return self.reply(500 if self.has("health_500") else 200, {"status": "ok"})
        if self.path == "/v1/models":
            return self.models()
        if self.path in KINDS:
            if self.has("method_200"):
                return self.reply(200, {})
            return self.error(405, "use POST")
        return self.error(404, "there is nothing here")

    def models(self) -> None:
        if self.has("models_500"):
            return self.error(500, "no list")
        name = "other" if self.has("models_other") else MODEL
        entry = {"id": name, "object": "model", "created": 1, "owned_by": "tests"}
        entry |= {"max_model_len": CONTEXT}
        if self.has("models_schema"):
            del entry["owned_by"]
        more = [entry | {"id": "second"}] if self.has("two_models") else []
        return self.reply(200, {"object": "list", "data": [entry, *more]})

    def do_POST(self) -> None:
        state = self.server.state
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        state.headers.append(dict(self.headers.items()))
        if self.has("key_wanted") and self.headers.get("Authorization") != "Bearer sesame-1234":
            return self.error(401, f"wrong key: {self.headers.get('Authorization')}")
        with state.lock:
            state.requests += 1
            state.at_once += 1
        try:
            self.post(raw)
        finally:
            with state.lock:
                state.at_once -= 1

    def post(self, raw: bytes) -> None:
        if self.path not in KINDS or (self.has("no_completions") and "chat" not in self.path):
            return self.error(404, "there is nothing here")
        if self.has("redirects"):
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if self.busy():
            return None
        try:
            body = json.loads(raw)
        except ValueError as error:
            return self.bad_json(str(error))
        self.server.state.bodies.append(body)
        refused = self.refused(body)
        if refused is not None:
            self.server.state.sick |= self.has("sick_after_error")
            return self.error(*refused)
        if self.has("silent"):
            self.server.state.closing.wait(60)
        slots = self.server.state.slots
        if not slots.acquire(timeout=30):
            return self.error(503, "no slot")
        leaked = False
        try:
            self.server.state.closing.wait(TAKES_S)
            Answering(self, body).run()
        except (BrokenPipeError, ConnectionResetError):
            leaked = self.has("slots_leak")
        finally:
            if not leaked:
                slots.release()
        return None

    def busy(self) -> bool:
        state = self.server.state
        after = ("9999",) if self.has("busy_long") else ("0",)
        if (
            self.has("busy_always")
            or self.has("busy_long")
            or (self.has("busy_twice") and state.requests <= 2)
            or (self.has("busy_at_once") and state.at_once > 1)
        ):
            self.error(429, "too many requests", after[0])
            return True
        return False

    def bad_json(self, told: str) -> None:
        self.server.state.sick |= self.has("sick_after_error")
        if self.has("bad_json_hangs"):
            self.server.state.closing.wait(30)
        if self.has("bad_json_drops") or self.has("bad_json_dies"):
            if self.has("bad_json_dies"):
                self.server.die()
            self.close_connection = True
            return None
        return self.error(500 if self.has("bad_json_500") else 400, told)

    def refused(self, body: dict[str, Any]) -> tuple[int, str] | None:
        text = prompt_of(body)
        checks = (
            (
                "messages" in body and self.has("no_template"),
                400,
                "the tokenizer has no chat template",
            ),
            (
                body.get("model") != MODEL and not self.has("model_200"),
                500 if self.has("model_500") else 404,
                "no such model",
            ),
            (
                body.get("max_tokens", 1) < 1 and not self.has("negative_200"),
                422,
                "max_tokens must be at least 1",
            ),
            (
                len(text.split()) > CONTEXT and not self.has("overlong_200"),
                500 if self.has("overlong_500") else 400,
                f"exceeds the available context size of {CONTEXT}",
            ),
            (
                "logprobs" in body and self.has("logprobs_refused"),
                400,
                "logprobs are not supported",
            ),
            (
                self.has("logprobs_at_most_five")
                and max(body.get("top_logprobs", 0), body.get("logprobs", 0)) > 5,
                400,
                "logprobs must be at most 5",
            ),
            (
                "ignore_eos" in body and self.has("no_ignore_eos"),
                400,
                "unknown parameter ignore_eos",
            ),
            (
                "stream_options" in body and self.has("no_stream_options"),
                400,
                "unknown parameter stream_options",
            ),
            (
                body.get("max_tokens", 1) > 300 and self.has("short_context"),
                400,
                "max_tokens must be at most 300",
            ),
        )
        return next(((status, told) for wrong, status, told in checks if wrong), None)

    def error(self, status: int, message: str, retry_after: str | None = None) -> None:
        key = self.headers.get("Authorization", "") if self.has("key_told") else ""
        text = "" if self.has("no_message") else f"{message} {key}".strip()
        self.reply(status, {"error": {"message": text}}, retry_after)

    def reply(self, status: int, body: object, retry_after: str | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        if not (self.has("drips") and self.command == "POST"):
            self.wfile.write(data)
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.state.closing.wait(0.1):
                return


def prompt_of(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "\n".join(f"{m['role']}: {m['content']}" for m in body["messages"])
    return str(body["prompt"])


class Answering:
    """One accepted request."""

    def __init__(self, handler: Handler, body: dict[str, Any]) -> None:
        self.handler = handler
        self.has = handler.has
        self.state = handler.server.state
        self.body = body
        self.chat = "messages" in body
        self.prompt = self.prompt_asked()
        self.stream = bool(body.get("stream"))
        self.tokens, self.reason = self.answer()
        self.id = f"cmpl-{self.state.requests}"

    def prompt_asked(self) -> str:
        prompt = prompt_of(self.body)
        if self.has("all_alike"):
            return "alike"
        if self.has("mixed_up"):
            self.state.last_prompt = prompt
            deadline = time.monotonic() + 0.3
            while self.state.at_once > 1 and time.monotonic() < deadline:
                if self.state.last_prompt != prompt:
                    return self.state.last_prompt
                self.state.closing.wait(0.002)
        return prompt

    def answer(self) -> tuple[list[str], str]:
        body = self.body
        salt = ""
        if body.get("temperature", 1) > 0 and not self.has("always_greedy"):
            salt = str(body.get("seed"))
            salt += str(self.state.requests) if self.has("seed_ignored") else ""
        salt += "sick" if self.state.sick else ""
        if self.has("max_tokens_other") and body["max_tokens"] < 10:
            salt += "other"
        tokens = tokens_of(self.prompt, salt)
        if body.get("ignore_eos"):
            tokens = tokens * 400
        if self.has("completion_empty" if not self.chat else "chat_empty"):
            tokens = []
        return self.limited(*self.stopped(tokens))

    def stopped(self, tokens: list[str]) -> tuple[list[str], str]:
        stops = self.body.get("stop") or []
        if isinstance(stops, list) and self.has("stop_list"):
            stops = []
        stops = [stops] if isinstance(stops, str) else stops
        if self.has("stop_ignored") or (self.stream and self.has("stop_streamed")):
            stops = []
        text = "".join(tokens)
        found = [text.find(stop) for stop in stops if stop in text]
        if not found:
            return tokens, "stop"
        end = min(found) + (1 if self.has("stop_kept") else 0)
        kept: list[str] = []
        for token in tokens:
            kept.append(token[: max(end - len("".join(kept)), 0)])
        reason = "length" if self.has("stop_reason") else "stop"
        return [token for token in kept if token], reason

    def limited(self, tokens: list[str], reason: str) -> tuple[list[str], str]:
        limit = self.body.get("max_tokens", 16)
        if self.has("max_tokens_short"):
            limit -= 1
        if self.has("max_tokens_ignored") or len(tokens) <= limit:
            return tokens, reason
        return tokens[: max(limit, 0)], "stop" if self.has("max_tokens_reason") else "length"

    def usage(self) -> dict[str, int]:
        prompt = len(prompt_of(self.body).split()) + 1
        prompt = 0 if self.has("usage_prompt_zero") else prompt
        prompt = 7 if self.has("usage_prompt_constant") else prompt
        prompt += self.state.requests if self.has("usage_prompt_random") else 0
        ends = self.reason == "stop" and not self.body.get("stop")
        completion = len(self.tokens) + ends
        completion = min(completion, self.body.get("max_tokens", 16))
        completion += 50 if self.has("usage_too_many") else 0
        if self.has("usage_length") and self.reason == "length":
            completion -= 1
        if self.has("max_tokens_ignored"):
            completion = len(self.tokens)
        if self.stream and self.has("usage_streamed"):
            completion += 1
        total = prompt + completion + (1 if self.has("usage_total") else 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
        }

    def logprobs(self, tokens: list[str]) -> dict[str, Any] | None:
        top = self.body.get("top_logprobs" if self.chat else "logprobs")
        if not top or self.has("no_logprobs"):
            return None
        first = 0.5 if self.has("logprobs_positive") else -0.5
        first = float("nan") if self.has("logprobs_nan") else first
        second = -0.6 if self.has("logprobs_sum") else -1.5
        second = -0.2 if self.has("logprobs_not_greedy") else second
        tops = [{token: first, " second": second, " third": -3.0} for token in tokens]
        if self.has("logprobs_chosen_missing"):
            tops = [{" else": first, " second": second} for _token in tokens]
        if not (self.chat or self.has("logprobs_chat_shape")):
            chosen = [first for _token in tokens]
            return {"tokens": tokens, "token_logprobs": chosen, "top_logprobs": tops}
        content = [
            {
                "token": token,
                "logprob": first,
                "top_logprobs": [{"token": t, "logprob": p} for t, p in ranked.items()],
            }
            for token, ranked in zip(tokens, tops, strict=True)
        ]
        return {"content": content}

    def run(self) -> None:
        if self.has("garbled"):
            return self.handler.reply(200, b'{"choices": [{"text": "hal')
        if self.stream:
            return self.run_stream()
        kind = KINDS[self.handler.path]
        text = "".join(self.tokens)
        part: dict[str, Any] = {"text": text}
        if self.chat:
            role = "user" if self.has("chat_role") else "assistant"
            part = {"message": {"role": role, "content": text}}
        choice = {
            "index": 0,
            "finish_reason": self.reason,
            "logprobs": self.logprobs(self.tokens),
            **part,
        }
        body = {**self.frame(kind), "choices": [choice], "usage": self.usage()}
        if self.has("completion_no_id"):
            del body["id"]
        if self.has("completion_500"):
            return self.handler.error(500, "out of memory")
        return self.handler.reply(200, b"fine" if self.has("completion_not_json") else body)

    def frame(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": 1, "model": MODEL}

    def chunks(self) -> Iterator[dict[str, Any]]:
        kind = KINDS[self.handler.path] + (".chunk" if self.chat else "")
        for number, token in enumerate(self.tokens):
            part: dict[str, Any] = {"text": token}
            if self.chat:
                part = {"delta": {"content": token} | ({"role": "assistant"} if not number else {})}
            choice = {"index": 0, "finish_reason": None, "logprobs": self.logprobs([token]), **part}
            yield {**self.frame(kind), "choices": [choice]}
        part = {"delta": {}} if self.chat else {"text": ""}
        end = {"index": 0, "finish_reason": self.reason, **part}
        yield {**self.frame(kind), "choices": [end]}
        if (self.body.get("stream_options") or {}).get("include_usage"):
            yield {**self.frame(kind), "choices": [], "usage": self.usage()}

    def planted(self, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.has("stream_chunk_lost"):
            del chunks[3]
        if self.has("stream_swapped"):
            chunks[2], chunks[3] = chunks[3], chunks[2]
        if self.has("stream_two_reasons"):
            chunks.append(chunks[-1])
        if self.has("stream_no_reason"):
            chunks = [c for c in chunks if not c["choices"] or not c["choices"][0]["finish_reason"]]
        if self.has("stream_ids"):
            chunks[4]["id"] = "cmpl-other"
        if self.has("stream_text_after"):
            chunks.append(chunks[0])
        return chunks

    def run_stream(self) -> None:
        self.handler.send_response(200)
        kind = "text/plain" if self.has("stream_type") else "text/event-stream; charset=utf-8"
        self.handler.send_header("Content-Type", kind)
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        self.write(": a comment\r\n\r\n")
        chunks = self.planted(list(self.chunks()))
        pause = 0.005 if len(chunks) > 100 else 0.0
        for number, chunk in enumerate(chunks):
            if number == 3 and self.break_off():
                return
            self.write(f"data: {json.dumps(chunk)}\n\n")
            if pause and self.state.closing.wait(pause):
                self.handler.close_connection = True
                return
        if not self.has("stream_no_done"):
            self.write("data: [DONE]\n\n")
        if self.has("stream_after_done"):
            self.write(f"data: {json.dumps(chunks[0])}\n\n")
        self.handler.wfile.write(b"0\r\n\r\n")

    def break_off(self) -> bool:
        """Faults in the middle of a stream; true when it ends there."""
        if self.has("stream_line"):
            self.write("chunk: {}\n\n")
        if self.has("error_in_stream"):
            self.write('data: {"error": {"message": "the slot is gone"}}\n\n')
        if self.has("stalls_in_stream"):
            self.state.closing.wait(60)
        if self.has("chunked_dies"):
            self.handler.server.die()
        if self.has("stream_broken") or self.has("chunked_dies"):
            self.handler.close_connection = True
            return True
        return False

    def write(self, text: str) -> None:
        data = text.encode()
        self.handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.handler.wfile.flush()


class Server(ThreadingHTTPServer):
    """The server; `alive` until it dies of a fault or is closed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *faults: str, log: Any = None) -> None:
        unknown = set(faults) - FAULTS
        assert not unknown, unknown
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = State(frozenset(faults))
        self.log = log or io.StringIO()
        self.alive = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are no news."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        self.alive = False
        self.state.closing.set()
        self.shutdown()
        self.server_close()

    close = die


def main(faults: list[str]) -> None:
    server = Server(*faults, log=sys.stderr)
    server.start()
    ended = threading.Event()
    ignored = "sigterm_ignored" in faults
    signal.signal(signal.SIGTERM, lambda *_: None if ignored else ended.set())
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    ended.wait(120)
    if "sigterm_slow" in faults:
        time.sleep(3)
    server.close()
    sys.exit(3 if "sigterm_status" in faults else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
