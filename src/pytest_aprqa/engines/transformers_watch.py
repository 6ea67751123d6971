"""Watch a generation token by token: time, end tokens, stop strings, broken logits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """A stopping criterion that keeps the tokens, the times and the reason to stop.

    The first that holds after a token is the reason: the time limit, an end token or a stop
    string, `max_tokens`.
    """

    def __init__(
        self,
        request: GenerationRequest,
        *,
        end_ids: frozenset[int],
        text_of: Callable[[list[int]], str],
    ) -> None:
        self._request = request
        self._end_ids = end_ids
        self._text_of = text_of
        self._started = self._stopped = 0.0
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
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

    def __call__(self, input_ids: Any, _scores: Any, **_kwargs: Any) -> Any:
        """Note the newest token; true when it is the last (called by `generate` after each)."""
        import torch

        # Reading the token waits for the device, so the time is taken after it.
        self.token_ids.append(int(input_ids[0, -1]))
        elapsed = time.perf_counter() - self._started
        if self.ttft_s is None:
            self.ttft_s = elapsed
        self.finish_reason = self._reason(elapsed)
        done = self.finish_reason is not None
        return torch.full((1,), done, dtype=torch.bool, device=input_ids.device)

    def text(self) -> str:
        """The text so far: no end token, and nothing from the first stop string on."""
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


class NanGuard:
    """A logits processor that refuses NaN: from NaN every pick is arbitrary, none is an answer."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores as they are.

        Raises:
            FloatingPointError: they hold NaN.
        """
        if bool(scores.isnan().any()):
            raise FloatingPointError("the model's logits hold NaN")
        return scores
