"""The rungs on which two files of one model are compared: tensors, tokens, logits, answers.

Each gives a verdict and the numbers it rests on. All limits are `domain.tolerance`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.tensor_diff import Outcome, TensorResult, diff_tensors
from pytest_aprqa.conversion.families import offsets_norms
from pytest_aprqa.conversion.reading import DTYPE_KEYS, read_portable
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.domain.evidence import VerdictRecord
from pytest_aprqa.domain.tolerance import (
    APR_STEPS,
    EXACT,
    FOREIGN_TOKENS,
    GAIN,
    KLD_CAP,
    OFFSET_NORM,
    WEIGHT_NMSE,
    LogitTolerance,
)
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.formats.encodings import decoded_chunks
from pytest_aprqa.formats.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.completion import Completion
    from pytest_aprqa.domain.model import Format, Quantization
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.formats.tensor import Tensor

TOP = 5
"""At the first different token each side's must be among the other's most probable five (vLLM's
check_logprobs_close)."""
ENCODINGS: Mapping[str, Mapping[str, str]] = {
    "gguf": {"q4_k_m": "Q4_K", "q5_k_m": "Q5_K", "q3_k_m": "Q3_K"},
    "apr": {"q4_k_m": "Q4_K", "q8_0": "APR_Q8", "q4_0": "APR_Q4"},
}
"""What most matrices of a quantization are encoded in, where its name does not say."""


# A scale rounded to half a float is off by 2**-11 of itself.
_ROUNDING = 1 + 2**-10
# Embedding and head, which quantizers encode by rules of their own.
_EMBEDDING = ("embd", "embed", "lm_head", "output.weight")


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung's verdict and its measurements."""

    verdict: VerdictRecord
    measurements: Mapping[str, float] = field(default_factory=dict)
    culprit: str = ""
    """The first tensor that is to blame."""

    @property
    def passed(self) -> bool:
        """Whether the rung was reached."""
        return self.verdict.ruling is Ruling.CORROBORATED


def compare_tensors(
    a: Path, b: Path, quantization: Quantization | None, *, by_apr: bool = False
) -> Rung:
    """Every tensor of `b` against `a`'s of that name: equal, or as far off as `quantization` may.

    Without a quantization the values are equal; norms that a format keeps as 1 + weight may lose
    OFFSET_NORM. With one, vectors are equal and matrices within WEIGHT_NMSE, or within half a step
    where APR's own encoding made them (`by_apr`).
    """
    original, other = read_portable(a), read_portable(b)
    offset = offsets_norms(original.config)
    diff = diff_tensors(original.tensors, other.tensors, tolerance=EXACT)
    limit = 0.0 if quantization is None else WEIGHT_NMSE[quantization]
    steps = APR_STEPS.get(quantization) if by_apr and quantization is not None else None
    largest = _largest(original.tensors) if steps is not None else {}
    wrong = [
        r
        for r in diff.results
        if not (_close(r, limit, offset) or (steps and _half_a_step(r, largest, steps)))
    ]
    worst = max((r.sizes.nmse for r in diff.results if r.sizes is not None), default=0.0)
    measured = {
        "tensors": float(len(diff.results)),
        "tensors_equal": float(sum(r.passed for r in diff.results)),
        "nmse_worst_tensor": worst,
    }
    if wrong:
        told = f"{len(wrong)} of {len(diff.results)} tensors differ, first {wrong[0].told()}"
        if limit and (sizes := wrong[0].sizes) is not None:
            told += f"; limit NMSE {limit:g}, gain {sizes.gain:.4f} of 1 ± {GAIN:g}"
        return replace(_rung("tensors", False, told, measured), culprit=wrong[0].name)
    if not diff.results:
        return _rung("tensors", False, "there are no tensors to compare", measured)
    equal = f"{measured['tensors_equal']:.0f} of {len(diff.results)} tensors equal"
    bound = "half a step" if steps else f"{limit:g}"
    more = f", worst NMSE {worst:.3g} of at most {bound}" if limit else ""
    return _rung("tensors", True, equal + more, measured)


def compare_companions(a: Path, b: Path) -> Rung:
    """What travels beside the tensors: config.json, tokenizer, chat template, generation config.

    Files are equal byte for byte, the config key by key but for the dtype that decoding changes.
    """
    original, other = read_portable(a), read_portable(b)
    configs = [
        {key: value for key, value in model.config.items() if key not in DTYPE_KEYS}
        for model in (original, other)
    ]
    changed = [
        name
        for name in sorted({*original.files, *other.files})
        if original.files.get(name) != other.files.get(name)
    ]
    changed += ["config.json"] if configs[0] != configs[1] else []
    if changed:
        return _rung("companions", False, f"{', '.join(changed)}: not as in the original")
    files = ", ".join(sorted(original.files))
    return _rung("companions", True, f"config.json and {files or 'no other file'} are the same")


def compare_label(path: Path, format_: Format, quantization: Quantization) -> Rung:
    """Most values of the file's matrices are in the blocks that its quantization names."""
    values: dict[str, int] = {}
    for info in open_checkpoint(path).tensors.values():
        if len(info.shape) > 1 and not any(part in info.name for part in _EMBEDDING):
            size = 1
            for dim in info.shape:
                size *= dim
            values[info.dtype] = values.get(info.dtype, 0) + size
    most = max(values, key=lambda name: values[name], default="none")
    wanted = ENCODINGS.get(format_, {}).get(quantization, quantization.upper())
    reason = f"most of the matrices are {most}"
    return _rung("encoding", most == wanted, f"{reason}; {quantization} is {wanted}")


def compare_tokens(reference: Engine, other: Engine, prompts: Sequence[str]) -> Rung:
    """The same ids for every prompt, and for every adversarial text.

    Between two libraries FOREIGN_TOKENS of the adversarial texts may have other ids.
    """
    for text in prompts:
        one, two = (engine.tokenize(text, special=True) for engine in (reference, other))
        if one != two:
            return _rung("tokens", False, f"{text!r:.80} becomes {two}; expected {one}"[:400])
    different = [
        text
        for text in ADVERSARIAL_TEXTS
        if reference.tokenize(text, special=False) != other.tokenize(text, special=False)
    ]
    share = len(different) / len(ADVERSARIAL_TEXTS)
    told = f"{len(prompts)} prompts and {len(ADVERSARIAL_TEXTS) - len(different)} of "
    told += f"{len(ADVERSARIAL_TEXTS)} adversarial texts have the same ids"
    if different:
        told += f"; the first other one is {different[0]!r:.60}"
    allowed = 0.0 if reference.name == other.name else FOREIGN_TOKENS
    return _rung("tokens", share <= allowed, told, {"adversarial_texts_different": share})


def compare_logits(
    reference: np.ndarray[Any, Any], other: np.ndarray[Any, Any], limit: LogitTolerance
) -> Rung:
    """Teacher-forced logits [positions, vocabulary] against the reference's."""
    import numpy as np

    if reference.shape != other.shape:
        told = f"logits of the shape {other.shape}; expected {reference.shape}"
        return _rung("logits", False, told)
    if not np.isfinite(other).all():
        return _rung("logits", False, "logits hold NaN or infinities")
    kld = float(np.minimum(kl_divergence(reference, other), KLD_CAP).mean())
    top1 = float((reference.argmax(axis=1) == other.argmax(axis=1)).mean())
    nmse = float(np.square(reference - other).mean() / reference.var())
    measured = {"logits_kld": kld, "logits_top1": top1, "logits_nmse": nmse}
    close = kld <= limit.mean_kld and top1 >= limit.top1
    near = limit.nmse is None or nmse <= limit.nmse
    told = f"{len(reference)} positions: KL {kld:.3g} (at most {limit.mean_kld:g}), "
    told += f"same top token {top1:.1%} (at least {limit.top1:.1%})"
    if limit.nmse is not None:
        told += f", NMSE {nmse:.3g} (at most {limit.nmse:g})"
    return _rung("logits", close and near, told, measured)


def kl_divergence(
    reference: np.ndarray[Any, Any], other: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """KL(reference || other) of the softmax of each row, in nats, computed in float64."""
    import numpy as np

    pieces = []
    for start in range(0, len(reference), 64):  # float64 copies stay small
        p, q = (_log_softmax(x[start : start + 64]) for x in (reference, other))
        pieces.append((np.exp(p) * (p - q)).sum(axis=1))
    return np.concatenate(pieces)


def compare_answers(
    reference: Sequence[Completion],
    reference_engine: Engine,
    other: Sequence[Completion],
    other_engine: Engine,
    limit: LogitTolerance,
) -> Rung:
    """Greedy answers to the same prompts: equal, or close where they part; never empty instead.

    The share of close answers is held against the limit's share of equal top tokens.
    """
    silent = [
        a for a, b in zip(reference, other, strict=True) if a.text.strip() and not b.text.strip()
    ]
    if silent:
        told = f"{len(silent)} answers are empty, the first to {silent[0].rendered_prompt!r:.60}"
        return _rung("answers", False, f"{told}; the original's is {silent[0].text!r:.60}")
    close = [
        _part_closely(a, reference_engine, b, other_engine)
        for a, b in zip(reference, other, strict=True)
    ]
    same = sum(a.token_ids == b.token_ids for a, b in zip(reference, other, strict=True))
    share = sum(close) / len(close) if close else 0.0
    told = f"{same} of {len(close)} greedy answers equal, {sum(close)} equal or close"
    measured = {"answers_equal": same / len(close) if close else 0.0, "answers_close": share}
    return _rung("answers", share >= limit.top1, f"{told} (at least {limit.top1:.1%})", measured)


def _part_closely(a: Completion, engine_a: Engine, b: Completion, engine_b: Engine) -> bool:
    one, two = a.token_ids, b.token_ids
    if one == two:
        return True
    common = next(
        (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y),
        min(len(one), len(two)),
    )
    if common >= len(one) or common >= len(two):
        return False  # one of them ended: whether that was close is not in its tokens
    prefix = (*a.prompt_token_ids, *one[:common])
    return two[common] in _top(engine_a, prefix) and one[common] in _top(engine_b, prefix)


def _top(engine: Engine, token_ids: Sequence[int]) -> set[int]:
    import numpy as np

    return {int(i) for i in np.argsort(engine.logits(token_ids)[-1])[-TOP:]}


def _log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _close(result: TensorResult, limit: float, offset: bool) -> bool:
    if result.passed:
        return True
    if result.sizes is None or result.outcome is not Outcome.DIFFERS or result.sizes.unlike:
        return False  # the sizes speak of finite values only
    vector = len(result.shape_a or ()) < 2
    if vector:
        return offset and "norm" in result.name and result.sizes.max_abs <= OFFSET_NORM.atol
    return result.sizes.nmse <= limit and abs(result.sizes.gain - 1) <= GAIN


def _half_a_step(result: TensorResult, largest: Mapping[str, float], steps: int) -> bool:
    """Whether a matrix is off by no more than rounding to APR's steps makes it."""
    if result.sizes is None or len(result.shape_a or ()) < 2:
        return False
    if result.sizes.unlike or abs(result.sizes.gain - 1) > GAIN:
        return False
    return result.sizes.max_abs <= largest[result.name] / steps / 2 * _ROUNDING


def _largest(tensors: Sequence[Tensor]) -> dict[str, float]:
    """The largest absolute value of each tensor."""
    import numpy as np

    found = {}
    for tensor in tensors:
        pieces = decoded_chunks(tensor.encoding, tensor.read(), tensor.shape)
        found[tensor.name] = max((float(np.abs(piece).max()) for piece in pieces), default=0.0)
        tensor.done()
    return found


def _rung(
    name: str, passed: bool, reason: str, measured: Mapping[str, float] | None = None
) -> Rung:
    ruling = Ruling.CORROBORATED if passed else Ruling.FALSIFIED
    return Rung(VerdictRecord(oracle=name, ruling=ruling, reason=reason), measured or {})
