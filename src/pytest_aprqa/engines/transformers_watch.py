"""Watch what `generate` of transformers does, token by token: when to stop, broken logits."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.engines.generation import NAN_LOGITS, Watch


class StopWatch(Watch):
    """A watch that is a stopping criterion of transformers."""

    def __call__(self, input_ids: Any, _scores: Any, **_kwargs: Any) -> Any:
        """Note the newest token; true when it is the last (called by `generate` after each)."""
        import torch

        # Reading the token waits for the device, so the time is taken after it.
        done = self.note(int(input_ids[0, -1]))
        return torch.full((1,), done, dtype=torch.bool, device=input_ids.device)


class NanGuard:
    """A logits processor that refuses NaN: from NaN every pick is arbitrary, none is an answer."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores as they are.

        Raises:
            FloatingPointError: they hold NaN.
        """
        if bool(scores.isnan().any()):
            raise FloatingPointError(NAN_LOGITS)
        return scores
