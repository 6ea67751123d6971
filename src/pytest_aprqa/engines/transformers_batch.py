"""Answer several greedy requests in one pass of transformers' `generate`, padded on the left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.engines.engine import EngineCrashed
from pytest_aprqa.engines.memory import free_bytes, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_aprqa.engines.generation import Watch

MAX_ROWS = 64
"""Most requests in one pass; beyond, a token of each takes about as long as it does apart."""
MEMORY_SHARE = 0.25
"""Part of the free memory that one pass may take."""
PROBE_TOKENS = 4
PROBE_LIMIT_S = 600.0
"""Limit of the probe of a model, which is a few tokens long."""
NOISE_FLOOR = (0.001, 0.15)
"""How far padded logits may be from those alone, in standard deviations of the latter: float32,
and types of 16 bits. Sums in another order differ by about 1e-5 and 0.02; a model that sees the
padding differs by about 1."""


@dataclass(slots=True)
class Row:
    """One request of a batch, and what becomes of it."""

    request: GenerationRequest
    rendered: str
    prompt_ids: list[int]
    watch: Watch
    done: bool = False
    broken: bool = field(default=False)
    """Its logits held NaN."""

    @property
    def answered(self) -> bool:
        """Whether it ended by itself and in time; otherwise it must be asked alone."""
        return self.done and not self.broken and self.watch.finish_reason is not _TIMEOUT


_TIMEOUT = FinishReason.TIMEOUT


def answer_rows(
    model: Any, rows: Sequence[Row], began: Callable[[float], None]
) -> dict[int, tuple[float, int]]:
    """Answer the rows in passes that fit into memory: seconds and size of each row's pass.

    By index in `rows`; those that are missing or not `answered` must be asked alone. `began` is
    told the limit in seconds of each pass before it.

    Raises:
        EngineCrashed: torch or transformers raised something else than that memory ran out.
    """
    took: dict[int, tuple[float, int]] = {}
    for chunk in passes(model, rows):
        if len(chunk) == 1:
            continue  # alone it is asked with times of its own
        together = [rows[index] for index in chunk]
        began(max(row.request.timeout_s for row in together))
        started = time.perf_counter()
        if _run(model, together):
            seconds = time.perf_counter() - started
            took |= {index: (seconds, len(chunk)) for index in chunk}
    return took


def completion_of_row(row: Row, seconds: float, size: int, peak_memory_bytes: int) -> Completion:
    """The answer of one row; EngineCrashed as `generate` raises it when its text cannot be made."""
    try:
        text = row.watch.text()
    except Exception as error:
        raise EngineCrashed.from_exception(error) from error
    return Completion(
        text=text,
        token_ids=tuple(row.watch.token_ids),
        prompt_tokens=len(row.prompt_ids),
        finish_reason=row.watch.finish_reason or FinishReason.LENGTH,
        ttft_s=None,
        total_s=seconds,
        peak_memory_bytes=peak_memory_bytes,
        rendered_prompt=row.rendered,
        prompt_token_ids=tuple(row.prompt_ids),
        batch_size=size,
    )


def passes(model: Any, rows: Sequence[Row]) -> Iterator[list[int]]:
    """Indices of rows that go together: of about equal length, and within the share of memory."""
    budget = free_bytes(str(model.device)) * MEMORY_SHARE
    order = sorted(
        range(len(rows)), key=lambda i: (len(rows[i].prompt_ids), rows[i].request.max_tokens)
    )
    chunk: list[int] = []
    for index in order:
        if chunk and (
            len(chunk) == MAX_ROWS or _bytes_of(model, [rows[i] for i in (*chunk, index)]) > budget
        ):
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk


def _bytes_of(model: Any, rows: Sequence[Row]) -> int:
    """An upper bound of what a pass takes: keys and values, the prefill's activations, logits."""
    config, size = model.config.get_text_config(), model.dtype.itemsize
    layers, hidden = config.num_hidden_layers, config.hidden_size
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or hidden // heads
    width = max(len(row.prompt_ids) for row in rows)
    tokens = width + max(row.request.max_tokens for row in rows)
    cache = layers * key_heads * head * 2 * size * tokens
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    activations = width * (8 * hidden + 3 * inner) * 4
    return len(rows) * int(cache + activations + 3 * 4 * config.vocab_size)


def padding_is_safe(model: Any, prompt_ids: Sequence[int]) -> bool:
    """Whether the model answers padded prompts as it does alone, seen on three short ones.

    They are made of the tokens given. Compared are the logits of a few greedy steps, as long as
    the tokens agree; `NOISE_FLOOR` is what may differ.

    Raises:
        EngineCrashed: torch or transformers raised.
    """
    ids = (list(prompt_ids) * 6)[:24]
    prompts = [ids, ids[:11], ids[:3]]
    try:
        padded, chosen = _logits(model, prompts)
        return all(
            _agree(*_logits(model, [prompt]), padded[:, [row]], chosen[[row]])
            for row, prompt in enumerate(prompts)
        )
    except Exception as error:
        raise EngineCrashed.from_exception(error) from error


def _agree(alone: Any, alone_ids: Any, padded: Any, padded_ids: Any) -> bool:
    """Whether logits [steps, 1, vocabulary] agree up to the first step with another token."""
    import torch

    floor = NOISE_FLOOR[0 if alone.dtype == torch.float32 else 1]
    for step in range(len(alone)):
        one, other = alone[step].float(), padded[step].float()
        # Written so that NaN, which agrees with nothing, is a disagreement.
        if not bool((one - other).abs().max() <= floor * one.std()):
            return False
        if not torch.equal(alone_ids[:, step], padded_ids[:, step]):
            return True
    return True


def _logits(model: Any, prompts: Sequence[list[int]]) -> tuple[Any, Any]:
    import torch

    out = _generate(model, prompts, PROBE_TOKENS, output_logits=True, return_dict_in_generate=True)
    logits = torch.stack(out.logits)
    # `generate` may have widened what the model computed in fewer bits.
    return logits.to(model.dtype), out.sequences[:, -len(out.logits) :]


def _run(model: Any, rows: Sequence[Row]) -> bool:
    """One pass; false when there is no memory for it."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    for row in rows:
        row.watch.start()
    try:
        _generate(
            model,
            [row.prompt_ids for row in rows],
            max(row.request.max_tokens for row in rows),
            logits_processor=LogitsProcessorList([_NanGuard(rows)]),
            stopping_criteria=StoppingCriteriaList([_Watches(rows)]),
        )
    except Exception as error:
        if is_out_of_memory(error):
            return False
        raise EngineCrashed.from_exception(error) from error
    return True


def _generate(model: Any, prompts: Sequence[list[int]], max_tokens: int, **more: Any) -> Any:
    import torch
    from transformers import GenerationConfig

    untyped: Any = GenerationConfig
    returns = {key: more.pop(key) for key in list(more) if key.startswith(("output", "return"))}
    config = untyped(max_new_tokens=max_tokens, use_cache=True, **returns)
    width = max(map(len, prompts))
    pad = model.generation_config.pad_token_id or 0
    padded = [[pad] * (width - len(ids)) + ids for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    return model.generate(
        torch.tensor(padded, dtype=torch.long, device=model.device),
        attention_mask=torch.tensor(mask, dtype=torch.long, device=model.device),
        generation_config=config,
        **more,
    )


class _Watches:
    """A stopping criterion of transformers that watches each row by itself."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, _scores: Any, **_kwargs: Any) -> Any:
        """Note each row's newest token; true for the rows that have ended."""
        import torch

        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if not row.done:
                row.done = row.broken or row.watch.note(int(token))
        ended = [row.done for row in self._rows]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)


class _NanGuard:
    """A logits processor that takes a row out whose logits hold NaN; the others go on."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, _input_ids: Any, scores: Any) -> Any:
        """The scores as they are, NaN replaced by 0 in rows that do not count any more."""
        broken = scores.isnan().any(dim=-1).tolist()
        for row, holds_nan in zip(self._rows, broken, strict=True):
            row.broken = row.broken or (holds_nan and not row.done)
        return scores.nan_to_num(nan=0.0) if any(broken) else scores
