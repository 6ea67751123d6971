"""What every engine does alike: refuse senseless requests, watch a generation, pick tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.engines.engine import ContextOverflow, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pytest_aprqa.engines.streaming import Teller

NAN_LOGITS = "the model's logits hold NaN"
"""From NaN every pick is arbitrary, none is an answer."""


def require_sane(request: GenerationRequest) -> None:
    """Refuse settings that mean nothing, before anything runs.

    Raises:
        InvalidRequest: no token asked for, no such temperature, or an empty stop string.
    """
    if request.max_tokens < 1:
        raise InvalidRequest(f"max_tokens {request.max_tokens}: expected at least 1")
    if not 0 <= request.temperature < float("inf"):
        raise InvalidRequest(f"temperature {request.temperature}: expected 0 or more")
    if "" in request.stop:
        raise InvalidRequest("a stop string is empty: it would end every answer at once")


def require_room(prompt_tokens: int, max_tokens: int, context_length: int | None) -> None:
    """Refuse a request whose prompt and answer do not fit the model's context together.

    Raises:
        ContextOverflow: they do not.
    """
    if context_length is not None and prompt_tokens + max_tokens > context_length:
        raise ContextOverflow(
            f"{prompt_tokens} prompt tokens and max_tokens {max_tokens} are more than the "
            f"model's context of {context_length}; shorten the prompt or lower max_tokens"
        )


def require_tokens(token_ids: tuple[int, ...], vocabulary: int, context_length: int | None) -> None:
    """Refuse token ids that the model cannot be given as one text.

    Raises:
        InvalidRequest: none, or one outside of the vocabulary.
        ContextOverflow: more than the model's context.
    """
    if not token_ids:
        raise InvalidRequest("no token ids: logits belong to tokens; give at least one")
    wrong = next((i for i in token_ids if not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise InvalidRequest(f"token id {wrong}: expected 0 to {vocabulary - 1}")
    if context_length is not None and len(token_ids) > context_length:
        raise ContextOverflow(
            f"{len(token_ids)} tokens are more than the model's context of {context_length}; "
            "give it fewer"
        )


def require_start(ids: list[int], rendered: str) -> list[int]:
    """The token ids that a plain prompt became, or that stand for an empty one.

    Raises:
        InvalidRequest: there are none.
    """
    if not ids:
        raise InvalidRequest(
            f"the prompt {rendered!r} has no tokens and the model has no start or end token "
            "to begin from; give it a prompt"
        )
    return ids


def encodable(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def picker(request: GenerationRequest) -> Callable[[np.ndarray[Any, Any]], int]:
    """How the next token is picked from its logits (float32 [vocabulary]).

    Greedy is the first maximum. Above temperature 0 a token is drawn from the whole distribution
    softmax(logits / temperature) by a generator of its own, seeded with the request's seed.

    The picker raises FloatingPointError when the logits hold NaN or give no distribution.
    """
    import numpy as np

    greedy = request.greedy
    random = np.random.default_rng(request.seed % 2**63)

    def pick(logits: np.ndarray[Any, Any]) -> int:
        if np.isnan(logits).any():
            raise FloatingPointError(NAN_LOGITS)
        best = int(logits.argmax())
        if greedy:
            return best
        if not np.isfinite(logits[best]):
            raise FloatingPointError(f"the largest logit is {logits[best]}: nothing to draw from")
        scaled = (logits.astype(np.float64) - float(logits[best])) / request.temperature
        total = np.exp(scaled).cumsum()
        # `random()` is below 1, so the place found is a token of more than no probability.
        return int(np.searchsorted(total, random.random() * total[-1], side="right"))

    return pick


class Watch:
    """Keeps the tokens, the times and the reason to stop.

    The first that holds after a token is the reason: the time limit, an end token or a stop
    string, `max_tokens`.
    """

    def __init__(
        self,
        request: GenerationRequest,
        *,
        end_ids: frozenset[int],
        text_of: Callable[[list[int]], str],
        teller: Teller | None = None,
    ) -> None:
        self._request = request
        self._end_ids = end_ids
        self._text_of = text_of
        self._teller = teller
        self._started = self._stopped = 0.0
        self._left = False
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.token_s: list[float] = []
        """Seconds from the start to each token."""
        self.ttft_s: float | None = None
        """Seconds from the start to the first token."""

    def start(self) -> None:
        """The prefill begins now."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """The last token is there."""
        self._stopped = time.perf_counter()

    @property
    def total_s(self) -> float:
        """Seconds from start to stop."""
        return self._stopped - self._started

    def note(self, token_id: int) -> bool:
        """Note the newest token; true when it is the last."""
        self.token_ids.append(token_id)
        elapsed = time.perf_counter() - self._started
        self.token_s.append(elapsed)
        if self.ttft_s is None:
            self.ttft_s = elapsed
        self.finish_reason = self._reason(elapsed)
        if self.finish_reason is None and self._teller and not self._teller.grow(self.text()):
            self._left = True
            self.finish_reason = FinishReason.TIMEOUT
        return self.finish_reason is not None

    def cut(self) -> None:
        """The time limit ran out while a token was being computed: it will not come."""
        self.finish_reason = FinishReason.TIMEOUT

    def text(self) -> str:
        """The text so far: no end token, and nothing from the first stop string on.

        When a listener wanted no more it is what that was told.
        """
        if self._left and self._teller:
            return self._teller.told
        ends = self.token_ids[-1:] and self.token_ids[-1] in self._end_ids
        text = self._text_of(self.token_ids[:-1] if ends else self.token_ids)
        if self.finish_reason is not FinishReason.STOP:
            # The limit may have cut a character in two; its half is not the model's mistake.
            text = text.removesuffix("\ufffd")
        return text[: min((text.find(s) for s in self._request.stop if s in text), default=None)]

    def _reason(self, elapsed: float) -> FinishReason | None:
        if elapsed > self._request.timeout_s:
            return FinishReason.TIMEOUT
        if self.token_ids[-1] in self._end_ids or self._stop_string_met():
            return FinishReason.STOP
        if len(self.token_ids) >= self._request.max_tokens:
            return FinishReason.LENGTH
        return None

    def _stop_string_met(self) -> bool:
        if not self._request.stop:
            return False
        text = self._text_of(self.token_ids)
        return any(stop in text for stop in self._request.stop)
