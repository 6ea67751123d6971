"""Gates: answers stop where they must, and are drawn from what the model says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.answers.asking import (
    CHAT,
    FEW,
    MORE,
    chat,
    first_prompt,
    greedy,
    noise_of,
    parting,
    plain,
    prompt_ids,
)
from pytest_aprqa.checks.gates.answers.sampling import CHAT_TOKENS, SEEDS, WARM, sampled
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
from pytest_aprqa.domain.completion import Completion, FinishReason
from pytest_aprqa.domain.gate import Cost, Place, Rung

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

EXACT: Family[TargetLab] = Family(
    domain="exact answers", place=Place.TARGET, cost=Cost.ANSWERS, rung=Rung.TEXT
)
OTHER_SEED = 12345
STOP_LENGTH = 4
NEVER = "\u2603\u2603"
"""A stop string that no answer holds."""
HURRY_S = 0.002
LONG = 512
"""Tokens that no machine generates in HURRY_S."""
ALPHA = 1e-6
"""How often an engine in order may be refuted by chance."""
RELATIVE = (0.1, 0.5, 2.0, 8.0)
"""Temperatures that an engine may have drawn at, over the one that was asked for."""


def endings(lab: TargetLab) -> tuple[Completion, ...]:
    """Greedy answers that may end by themselves: `greedy`'s, and a chat if there is a template."""
    if not lab.engine.has_chat_template:
        return lab.once(greedy)
    return (*lab.once(greedy), lab.engine.generate(chat(CHAT, max_tokens=CHAT_TOKENS)))


def end_ids(lab: ModelLab) -> frozenset[int]:
    """The end tokens that the ground truth declares: generation config, config and tokenizer."""
    from pytest_aprqa.checks.gates.text.chats import source_specials
    from pytest_aprqa.checks.gates.text.sources import source_files, source_text
    from pytest_aprqa.conversion.tokenizers.source import json_file

    settings = json_file(lab.once(source_files).files, "generation_config.json")
    declared = settings.get("eos_token_id", lab.config.get("eos_token_id"))
    found = set(declared if isinstance(declared, list) else [declared])
    source, name = lab.once(source_text), source_specials(lab).get("eos_token")
    if source is not None and name is not None:
        found.add(source.tokenizer.token_to_id(name))
    return frozenset(i for i in found if isinstance(i, int))


@EXACT.gate("F-INV-GREEDY-001", "At temperature 0 the seed changes nothing.")
def seed_rests(lab: TargetLab) -> Finding:
    """One seed against another's greedy answer."""
    first = lab.once(greedy)[0]
    other = lab.engine.generate(plain(first_prompt(lab), max_tokens=MORE, seed=OTHER_SEED))
    part = parting(lab.engine, prompt_ids(lab, first), other.token_ids, first.token_ids)
    if part is not None and part.real:
        return refuted(f"seed 0 gives {first.text!r:.60}, seed {OTHER_SEED} {other.text!r:.60}")
    if part is None and len(other.token_ids) != len(first.token_ids):
        return refuted(
            f"seed 0 gives {len(first.token_ids)} tokens, seed {OTHER_SEED} "
            f"{len(other.token_ids)} of them: {other.text!r:.60}"
        )
    return held(f"{len(other.token_ids)} tokens, the same with another seed")


@EXACT.gate("F-INV-STOP-003", "Of several stop strings the one that comes first ends the answer.")
def first_stop_acts(lab: TargetLab) -> Finding:
    """The later one is named first, and one that never comes is named last."""
    text = lab.once(greedy)[0].text.rstrip("\ufffd")
    early = text[len(text) // 3 :][:STOP_LENGTH]
    late = text[2 * len(text) // 3 :][:STOP_LENGTH]
    if not early or not 0 < text.index(early) < text.index(late):
        return without_meaning(f"the answer {text!r:.60} is too short for two stop strings")
    expected = text[: text.index(early)]
    request = plain(first_prompt(lab), max_tokens=MORE, stop=(late, early, NEVER))
    found = lab.engine.generate(request)
    if found.text != expected:
        told = f"with stop {list(request.stop)} the answer is {found.text!r:.60}; expected "
        return refuted(f"{told}{expected!r:.60}")
    return held(f"{early!r} ended the answer before {late!r} came")


@EXACT.gate("F-INV-EOS-001", "An answer goes to the model's end token and no further.")
def nothing_follows_the_end(lab: TargetLab) -> Finding:
    """Every token of answers that may end, against the end tokens that the files declare."""
    ends, found = end_ids(lab.model), lab.once(endings)
    if not ends:
        return without_meaning("the model declares no end token")
    ended = 0
    for completion in found:
        ids = completion.token_ids
        at = next((place for place, token in enumerate(ids) if token in ends), None)
        if at is None:
            continue
        ended += 1
        if at < len(ids) - 1 or completion.finish_reason is not FinishReason.STOP:
            return refuted(
                f"after the end token {ids[at]} at {at} come {len(ids) - 1 - at} tokens more, and "
                f"the reason is {completion.finish_reason}: {completion.text!r:.60}"
            )
    if not ended:
        return without_meaning(f"none of {len(found)} short answers came to an end token")
    return held(f"{ended} of {len(found)} answers came to an end token, and ended")


@EXACT.gate("F-INV-TIMEOUT-001", "An answer whose time is over is cut, and says so.")
def time_is_kept(lab: TargetLab) -> Finding:
    """Far more tokens are asked for than the time allows."""
    room = (lab.engine.context_length or 2 * LONG) // 2
    request = plain(first_prompt(lab), max_tokens=min(LONG, room), timeout_s=HURRY_S)
    found = lab.engine.generate(replace(request, ignore_eos=True))
    if found.finish_reason is not FinishReason.TIMEOUT:
        return refuted(
            f"with {HURRY_S:g} s for it, {found.completion_tokens} tokens took "
            f"{found.total_s:.2f} s and end with {found.finish_reason}; expected a timeout"
        )
    return held(f"cut after {found.completion_tokens} tokens and {found.total_s:.3f} s")


@EXACT.gate("F-RUN-002", "Answers hold no control characters, NaN floods or pieces of a tokenizer.")
def text_is_clean(lab: TargetLab) -> Finding:
    """Characters and leaks alone: short greedy answers of a base model may well loop."""
    from pytest_aprqa.oracles.garbage import characters, leaks
    from pytest_aprqa.oracles.text import readable

    read = 0
    for completion in lab.once(endings):
        text, prompt = completion.text, completion.rendered_prompt
        if not text.strip():
            continue
        read += 1
        problem = next(characters.problems(text), None)
        problem = problem or next(leaks.problems(readable(text), prompt), None)
        if problem:
            return refuted(f"the answer to {prompt!r:.60}: {problem}")
    return held(f"{read} answers are text and nothing else") if read else undecided("no text")


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural logarithms of the probability of all that `sampled` drew, by the model's logits."""

    tokens: int
    asked: float
    """At the temperature that was asked for."""
    others: tuple[float, ...]
    """At RELATIVE times that."""
    surest: float
    """Of the most probable token at each place instead, at the temperature that was asked for."""


def likelihood(lab: TargetLab) -> Likelihood:
    """One pass over the prompt with each sampled answer."""
    import numpy as np

    tokens, asked, surest = 0, 0.0, 0.0
    others = np.zeros(len(RELATIVE))
    for completion in lab.once(sampled)[: len(SEEDS)]:
        prompt, ids = prompt_ids(lab, completion), completion.token_ids
        if not ids:
            continue
        rows = lab.engine.logits((*prompt, *ids))[len(prompt) - 1 : -1].astype(np.float64) / WARM
        logs, places = _log_softmax(rows), np.arange(len(ids))
        tokens += len(ids)
        asked += float(logs[places, list(ids)].sum())
        surest += float(logs.max(axis=-1).sum())
        others += [float(_log_softmax(rows / t)[places, list(ids)].sum()) for t in RELATIVE]
    return Likelihood(tokens, asked, tuple(float(v) for v in others), surest)


def _log_softmax(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    found: np.ndarray[Any, Any] = rows - np.logaddexp.reduce(rows, axis=-1, keepdims=True)
    return found


def _log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of what these are the logarithms of."""
    most = max(logs)
    return most + math.log(sum(math.exp(v - most) for v in logs) / len(logs))


@EXACT.gate(
    "F-INV-DRAW-001",
    "Sampled tokens are drawn from the model's own distribution at the temperature asked for.",
    source="Ville's inequality: a likelihood ratio reaches 1 / alpha with a probability of alpha",
)
def draws_are_the_models(lab: TargetLab) -> Finding:
    """All that the seeds drew, against the same model at other temperatures."""
    found, limit = lab.once(likelihood), -math.log(ALPHA)
    ratio = _log_mean(found.others) - found.asked
    measured = {"log_likelihood_ratio": ratio}
    if not ratio <= limit:
        best = WARM * RELATIVE[found.others.index(max(found.others))]
        told = f"{found.tokens} tokens drawn at {WARM:g} are exp({ratio:.1f}) times as probable "
        told += f"at other temperatures, most at {best:g}"
        return refuted(told, measured=measured)
    if -found.surest < limit + math.log(len(RELATIVE)):
        return without_meaning(f"the model is sure of {found.tokens} tokens: nothing is drawn")
    told = f"no other temperature explains {found.tokens} drawn tokens better (log ratio "
    return held(f"{told}{ratio:.1f}, refuted above {limit:.1f})", measured=measured)


@EXACT.gate(
    "F-INV-LOGPROBS-002",
    "The log probabilities told with an answer are those of the logits.",
    applies="engines that tell them",
    rung=Rung.LOGITS,
)
def logprobs_are_the_logits(lab: TargetLab) -> Finding:
    """One pass over the answer; the engine's noise may lie between."""
    found = lab.engine.generate(plain(first_prompt(lab), max_tokens=FEW, top_logprobs=4))
    if not found.logprobs:
        return without_meaning(f"{lab.engine.name} tells no log probabilities here")
    prompt, noise, worst = prompt_ids(lab, found), noise_of(lab.engine), 0.0
    rows = _log_softmax(lab.engine.logits((*prompt, *found.token_ids))[len(prompt) - 1 : -1])
    if len(found.logprobs) != len(rows):
        return refuted(f"{len(found.logprobs)} places are told of {len(rows)} tokens")
    for place, (choice, row) in enumerate(zip(found.logprobs, rows, strict=True)):
        for token in (choice.chosen, *choice.top):
            if token.token_id is None:
                return without_meaning("log probabilities are told by the tokens' texts alone")
            expected = float(row[token.token_id])
            worst = max(worst, abs(token.logprob - expected))
            if not worst <= noise:
                return refuted(
                    f"place {place}: {token.logprob:.4g} is told of token {token.token_id}; "
                    f"expected {expected:.4g}, within {noise:g}"
                )
    return held(f"{len(rows)} places of 4 tokens, within {worst:.2g}", measured={"gap": worst})


FAMILIES = (EXACT,)

ALIASES = {
    "F-QUAL-002": "F-RUN-002",
}
