"""The most probable tokens at each place of an answer that `generate` of transformers gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import TokenChoice, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class TopLogprobs:
    """A logits processor that notes log softmax of the raw logits and changes nothing.

    transformers runs it before its own temperature, so what it sees is the model's distribution.
    Of each place only the `count` best and the chosen token are kept.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._row: Any = None
        self._best: list[list[tuple[int, float]]] = []
        self._chosen: list[float] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores as they are (float32 [1, vocabulary]); called before each token is chosen."""
        import torch

        if self._row is not None:
            self._settle(int(input_ids[0, -1]))
        self._row = torch.log_softmax(scores[0].float(), dim=-1)
        values, ids = self._row.topk(min(self._count, self._row.shape[-1]))
        self._best.append(list(zip(ids.tolist(), values.tolist(), strict=True)))
        return scores

    def choices(
        self, token_ids: Sequence[int], text_of: Callable[[int], str]
    ) -> tuple[TokenChoice, ...]:
        """What was chosen among what, for all tokens of the answer."""
        if self._row is not None and len(self._chosen) < len(token_ids):
            self._settle(token_ids[-1])
        return tuple(
            TokenChoice(
                chosen=TokenLogprob(text_of(token), logprob, token),
                top=tuple(TokenLogprob(text_of(i), value, i) for i, value in best),
            )
            for token, logprob, best in zip(token_ids, self._chosen, self._best, strict=False)
        )

    def _settle(self, chosen: int) -> None:
        self._chosen.append(float(self._row[chosen]))
        self._row = None
