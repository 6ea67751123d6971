"""What a served model must prove over HTTP: one gate for each claim, each an item of its own."""

from __future__ import annotations

from enum import StrEnum

from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category


class ServeGate(StrEnum):
    """The gates of a server, in the order in which they are asked; the last one ends it."""

    HEALTH = "health"
    MODELS = "models"
    COMPLETIONS = "completions"
    CHAT = "chat"
    STREAM = "stream"
    USAGE = "usage"
    STOP = "stop"
    MAX_TOKENS = "max_tokens"
    SEED = "seed"
    LOGPROBS = "logprobs"
    CONCURRENT = "concurrent"
    ERRORS = "errors"
    DISCONNECT = "disconnect"
    MEMORY = "memory"
    SHUTDOWN = "shutdown"

    @property
    def assertion(self) -> str:
        """The one sentence the gate asserts."""
        return _ASSERTIONS[self]

    @property
    def item_name(self) -> str:
        """The gate's part of its item's name, such as `serve_health`."""
        return f"serve_{self}"

    @property
    def gate_id(self) -> str:
        """The gate's id among all falsification gates."""
        return _IDS[self]

    @property
    def severity(self) -> Severity:
        """P0 where clients get no answer or a wrong one, else P1."""
        return Severity.P0 if self in _P0 else Severity.P1

    @property
    def category(self) -> Category:
        """The part of the score the gate counts for."""
        return Category.STAB if self in _STABILITY else Category.COMP


_ASSERTIONS = {
    ServeGate.HEALTH: "the health probe answers",
    ServeGate.MODELS: "the model list names the model, in the schema of OpenAI's API",
    ServeGate.COMPLETIONS: "a completion is JSON of the schema and holds text",
    ServeGate.CHAT: "a chat completion is JSON of the schema and holds an answer",
    ServeGate.STREAM: "a stream is whole and in order, and is what the unstreamed answer is",
    ServeGate.USAGE: "usage counts the tokens of the prompt and of the answer",
    ServeGate.STOP: "a stop string ends the answer before it",
    ServeGate.MAX_TOKENS: "max_tokens ends the answer, and says so",
    ServeGate.SEED: "one seed gives one answer, and seeds give more than one",
    ServeGate.LOGPROBS: "where log probabilities are offered, they are those of a distribution",
    ServeGate.CONCURRENT: "eight requests at once are answered as one after another",
    ServeGate.ERRORS: "a wrong request gets a 4xx with a message and leaves the server healthy",
    ServeGate.DISCONNECT: "a client that leaves in mid-stream frees its slot",
    ServeGate.MEMORY: "memory does not grow with requests",
    ServeGate.SHUTDOWN: "SIGTERM in mid-request ends the server cleanly and in time",
}
_IDS = {
    ServeGate.HEALTH: "F-HTTP-002",
    ServeGate.MODELS: "F-HTTP-MODELS-001",
    ServeGate.COMPLETIONS: "F-HTTP-COMPLETIONS-001",
    ServeGate.CHAT: "F-HTTP-005",
    ServeGate.STREAM: "F-HTTP-STREAM-001",
    ServeGate.USAGE: "F-HTTP-014",
    ServeGate.STOP: "F-HTTP-STOP-001",
    ServeGate.MAX_TOKENS: "F-HTTP-LIMIT-001",
    ServeGate.SEED: "F-HTTP-SEED-001",
    ServeGate.LOGPROBS: "F-HTTP-LOGPROBS-001",
    ServeGate.CONCURRENT: "F-HTTP-019",
    ServeGate.ERRORS: "F-API-004",
    ServeGate.DISCONNECT: "F-HTTP-DISCONNECT-001",
    ServeGate.MEMORY: "F-HTTP-MEMORY-001",
    ServeGate.SHUTDOWN: "F-HTTP-004",
}
_P0 = frozenset(
    {
        ServeGate.HEALTH,
        ServeGate.COMPLETIONS,
        ServeGate.CHAT,
        ServeGate.STREAM,
        ServeGate.CONCURRENT,
    }
)
_STABILITY = frozenset(
    {
        ServeGate.CONCURRENT,
        ServeGate.ERRORS,
        ServeGate.DISCONNECT,
        ServeGate.MEMORY,
        ServeGate.SHUTDOWN,
    }
)
