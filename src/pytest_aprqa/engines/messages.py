"""Requests, completions and errors as the objects that travel between an engine and its child."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_aprqa.conversion.child_process import ChildDied, ChildSilent, innermost
from pytest_aprqa.domain.completion import (
    Completion,
    FinishReason,
    GenerationRequest,
    Message,
    TokenChoice,
    TokenLogprob,
)
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    EngineCrashed,
    EngineHung,
    InvalidRequest,
    LoadFailed,
    NoChatTemplate,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.conversion.child_process import ChildProcess
    from pytest_aprqa.conversion.child_protocol import Frame

KNOWN = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (InvalidRequest, ContextOverflow, NoChatTemplate, LoadFailed, EngineUnavailable)
    }
)
"""The errors that a child may answer with, beside EngineCrashed."""


class ChildError(Exception):
    """What was raised in a child, as the cause of what is raised here."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind
        """The name of its type there."""


def request_of(message: Mapping[str, Any]) -> GenerationRequest:
    """A request from what `asdict` made of it."""
    turns = tuple(Message(**entry) for entry in message["messages"])
    texts = {key: tuple(message[key]) for key in ("stop", "prompt_token_ids")}
    return GenerationRequest(**{**message, "messages": turns, **texts})


def completion_message(completion: Completion) -> dict[str, Any]:
    """A completion as an object of JSON."""
    return asdict(completion)


def completion_of(message: Mapping[str, Any]) -> Completion:
    """A completion from such an object."""
    logprobs = tuple(
        TokenChoice(
            TokenLogprob(**entry["chosen"]), tuple(TokenLogprob(**one) for one in entry["top"])
        )
        for entry in message["logprobs"]
    )
    return Completion(
        **{
            **message,
            "token_ids": tuple(message["token_ids"]),
            "prompt_token_ids": tuple(message["prompt_token_ids"]),
            "token_s": tuple(message["token_s"]),
            "finish_reason": FinishReason(message["finish_reason"]),
            "logprobs": logprobs,
        }
    )


def error_message(error: Exception, *, otherwise: type[Exception]) -> dict[str, Any]:
    """What a child says of an exception; one of no known kind is told as `otherwise`."""
    cause = {} if error.__cause__ is None else {"cause": type(error.__cause__).__name__}
    if type(error).__name__ in KNOWN:
        return {"error": type(error).__name__, "text": str(error), **cause}
    if isinstance(error, ImportError):
        return {"error": EngineUnavailable.__name__, "text": told(error), **cause}
    if otherwise is LoadFailed:
        return {"error": LoadFailed.__name__, "text": told(error), **cause}
    crash = error if isinstance(error, EngineCrashed) else EngineCrashed.from_exception(error)
    text = {"text": crash.error, "tail": crash.traceback_tail}
    return {"error": EngineCrashed.__name__, **text, **cause}


def raise_error(message: Mapping[str, Any]) -> NoReturn:
    """Raise what a child's answer says.

    Raises:
        InvalidRequest, LoadFailed, EngineUnavailable, EngineCrashed: as the child tells it.
    """
    cause = ChildError(message["text"], message["cause"]) if "cause" in message else None
    if message["error"] == EngineCrashed.__name__:
        raise EngineCrashed(message["text"], message["tail"]) from cause
    raise KNOWN[message["error"]](message["text"]) from cause


def received(
    child: ChildProcess, who: str, timeout_s: float, *, may_be_late: bool = False
) -> Frame:
    """The child's answer; its death or silence is a crash of `who`, the library it runs.

    Raises:
        InvalidRequest: the child refuses the request.
        EngineHung: the child said nothing in time.
        EngineCrashed: the child died, or tells of a crash.
        ChildSilent: with `may_be_late`, it said nothing in time.
    """
    try:
        frame = child.receive(timeout_s)
    except ChildDied as death:
        raise EngineCrashed(f"{who} {death.how}", death.said) from death
    except ChildSilent as silence:
        if may_be_late:
            raise
        told_so = f"{who} hangs: {silence}; it was killed"
        raise EngineHung(told_so, silence.diagnosis) from silence
    if "error" in frame.message:
        raise_error(frame.message)
    return frame


def loaded(child: ChildProcess, who: str, timeout_s: float, *, where: str) -> dict[str, Any]:
    """What the child says of the model it has loaded; `where` names its files.

    Raises:
        LoadFailed: it refuses them, dies of them, or has not loaded them in time.
        EngineUnavailable: the machine cannot run it, for want of memory say.
    """
    try:
        message = child.receive(timeout_s).message
    except ChildDied as death:
        words = f": {death.last_words}" if death.last_words else ""
        text = one_line(f"{where}: {who} {death.how}{words}", limit=1000)
        kind = EngineUnavailable if death.out_of_memory else LoadFailed
        raise kind(f"{text} while it loaded the model") from death
    except ChildSilent as silence:
        place = innermost(silence.where)
        at = f"; it was at {place}" if place else ""
        text = f"{where}: {who} hangs: {silence}; it was killed while it loaded the model{at}"
        raise LoadFailed(one_line(text, limit=1000)) from silence
    if "error" in message:
        raise_error(message)
    return message
