"""Gates over the settings of a generation: seeds, temperature, limits, stop strings, end tokens."""

from __future__ import annotations

from pytest_aprqa.checks.finding import (
    Finding,
    NothingToJudge,
    held,
    refuted,
    undecided,
    without_meaning,
)
from pytest_aprqa.checks.gates.answers.asking import (
    CHAT,
    FEW,
    MORE,
    chat,
    differ,
    first_prompt,
    greedy,
    noise_of,
    parting,
    plain,
    prompt_ids,
)
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.completion import Completion, FinishReason
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.engines.engine import ContextOverflow, NoChatTemplate, StreamingEngine

SETTINGS: Family[TargetLab] = Family(
    domain="invariants",
    place=Place.TARGET,
    cost=Cost.ANSWERS,
    rung=Rung.TEXT,
    category=Category.STAB,
)
RANDOM = "List of random words:"
WARM = 1.5
WARM_TOKENS = 24
CHANCE = 0.01
"""How probable it may be that seeds agree by chance, for their agreement to be a finding."""
SEEDS = (11, 12, 13, 14)
CHAT_TOKENS = 48


def sampled(lab: TargetLab) -> tuple[Completion, ...]:
    """What leaves all open, under each seed, and under the first seed once more.

    Raises:
        NothingToJudge: all are blank, and show nothing of their seeds.
    """
    found = tuple(
        lab.engine.generate(plain(RANDOM, max_tokens=WARM_TOKENS, temperature=WARM, seed=seed))
        for seed in (*SEEDS, SEEDS[0])
    )
    if not any(completion.text.strip() for completion in found):
        raise NothingToJudge(f"all {len(found)} sampled answers are blank")
    return found


@SETTINGS.gate("F-RUN-005", "One seed gives one answer.")
def seeds_repeat(lab: TargetLab) -> Finding:
    """At a temperature above 1, where chance decides many tokens."""
    first, *_, again = lab.once(sampled)
    if differ(first, again):
        return refuted(f"seed {SEEDS[0]} gave {first.text!r:.60}, then {again.text!r:.60}")
    if not first.text.strip():
        return undecided(f"seed {SEEDS[0]} gave a blank answer twice")
    return held(f"seed {SEEDS[0]} gave the same {len(first.token_ids)} tokens twice")


@SETTINGS.gate("F-INV-SEEDS-001", "Seeds give more than one answer.")
def seeds_differ(lab: TargetLab) -> Finding:
    """Four seeds; a model that is sure of every token may give one."""
    found = lab.once(sampled)[: len(SEEDS)]
    answers = {completion.token_ids for completion in found}
    if len(answers) > 1:
        return held(f"{len(SEEDS)} seeds gave {len(answers)} answers")
    sure = _probability(lab, found[0])
    if sure ** (len(SEEDS) - 1) > CHANCE:
        return undecided(f"this answer has a probability of {sure:.0%}: seeds need not differ")
    return refuted(f"{len(SEEDS)} seeds at temperature {WARM:g} all gave {found[0].text!r:.60}")


def _probability(lab: TargetLab, completion: Completion) -> float:
    """Of a sampled answer, by teacher-forced logits at the temperature that it was drawn with."""
    import numpy as np

    prompt = prompt_ids(lab, completion)
    rows = lab.engine.logits((*prompt, *completion.token_ids))[len(prompt) - 1 : -1] / WARM
    rows = rows.astype(np.float64)
    logs = rows - np.logaddexp.reduce(rows, axis=-1, keepdims=True)
    picked = logs[np.arange(len(completion.token_ids)), list(completion.token_ids)]
    return float(np.exp(picked.sum()))


@SETTINGS.gate("F-INV-ARGMAX-001", "At temperature 0 each token is the most probable one.")
def greedy_is_argmax(lab: TargetLab) -> Finding:
    """Against teacher-forced logits, which use no cache; near ties may go either way."""
    noise, checked = noise_of(lab.engine), 0
    for completion in lab.once(greedy):
        prompt = prompt_ids(lab, completion)
        rows = lab.engine.logits((*prompt, *completion.token_ids))[len(prompt) - 1 : -1]
        for place, (row, token) in enumerate(zip(rows, completion.token_ids, strict=True)):
            checked += 1
            if float(row.max()) - float(row[token]) > noise:
                return refuted(
                    f"token {place} of {completion.text!r:.40} is {token}, whose logit is "
                    f"{row.max() - row[token]:.3g} below the largest; expected at most {noise:g}"
                )
    return held(f"{checked} tokens, each the most probable") if checked else undecided("no tokens")


@SETTINGS.gate("F-INV-PREFIX-001", "A shorter limit gives the beginning of the longer answer.")
def prefixes_hold(lab: TargetLab) -> Finding:
    """Greedy, so that the limit alone differs."""
    longer = lab.once(greedy)[0]
    shorter = lab.engine.generate(plain(first_prompt(lab), max_tokens=MORE // 2))
    part = parting(lab.engine, prompt_ids(lab, longer), shorter.token_ids, longer.token_ids)
    if part is not None and part.real:
        return refuted(f"{shorter.text!r:.50} does not begin {longer.text!r:.50}")
    expected = min(MORE // 2, len(longer.token_ids))
    if part is None and len(shorter.token_ids) != expected:
        return refuted(
            f"max_tokens {MORE // 2} gave {len(shorter.token_ids)} tokens; expected the first "
            f"{expected} of the {len(longer.token_ids)} tokens of {longer.text!r:.50}"
        )
    return held(f"{len(shorter.token_ids)} tokens begin the answer of {len(longer.token_ids)}")


@SETTINGS.gate("F-EDGE-004", "max_tokens bounds the answer exactly, and its reason says so.")
def limits_hold(lab: TargetLab) -> Finding:
    """For one token, and for a few."""
    for limit in (1, FEW):
        found = lab.engine.generate(plain(first_prompt(lab), max_tokens=limit))
        count, reason = found.completion_tokens, found.finish_reason
        if count > limit or (reason is FinishReason.LENGTH and count != limit):
            return refuted(f"max_tokens {limit} gave {count} tokens and the reason {reason}")
        if count == limit and reason is FinishReason.TIMEOUT:
            return refuted(f"{limit} tokens were there, but the reason is {reason}")
    return held(f"1 and {FEW} tokens, as asked")


def _stopped(lab: TargetLab, text: str, stop: str) -> Finding:
    found = lab.engine.generate(plain(first_prompt(lab), max_tokens=MORE, stop=(stop,)))
    expected = text[: text.index(stop)]
    if stop in found.text or found.text != expected or found.finish_reason is not FinishReason.STOP:
        return refuted(
            f"stop {stop!r} in {text!r:.60} gave {found.text!r:.60} ({found.finish_reason}); "
            f"expected {expected!r:.60}"
        )
    return held(f"stop {stop!r} ended the answer before it")


@SETTINGS.gate("F-INV-STOP-001", "A stop string of one character ends the answer before it.")
def stops_at_a_character(lab: TargetLab) -> Finding:
    """The last character of the answer that is not in its beginning."""
    text = lab.once(greedy)[0].text
    found = next((c for c in reversed(text) if not c.isspace() and text.index(c) > 0), None)
    return (
        without_meaning(f"no stop in {text!r:.40}") if found is None else _stopped(lab, text, found)
    )


@SETTINGS.gate("F-INV-STOP-002", "A stop string that spans tokens ends the answer before it.")
def stops_across_tokens(lab: TargetLab) -> Finding:
    """From the middle of the answer to near its end."""
    text = lab.once(greedy)[0].text
    stop = text[len(text) // 3 : len(text) // 3 + 6]
    if len(stop) < 4 or text.index(stop) == 0:
        return without_meaning(f"the answer {text!r:.40} is too short for it")
    return _stopped(lab, text, stop)


def ended(lab: TargetLab) -> Completion | None:
    """A chat that the model ends by itself; None where it does not."""
    try:
        found = lab.engine.generate(chat(CHAT, max_tokens=CHAT_TOKENS))
    except NoChatTemplate:
        return None
    return found if found.completion_tokens < CHAT_TOKENS else None


@SETTINGS.gate("F-CHAT-004", "An end token ends the answer, and is no part of its text.")
def end_tokens_act(lab: TargetLab) -> Finding:
    """A chat shorter than its limit ended by itself: its reason is stop."""
    found = lab.once(ended)
    if found is None:
        return without_meaning("the model does not end a short chat by itself, or has no template")
    if found.finish_reason is not FinishReason.STOP:
        return refuted(
            f"{found.completion_tokens} tokens of {CHAT_TOKENS}, but {found.finish_reason}"
        )
    marks = [mark for mark in ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>", "<end_of_turn>")
             if mark in found.text]  # fmt: skip
    if marks:
        return refuted(f"the answer {found.text!r:.60} holds {marks[0]}")
    if not found.text.strip():
        return undecided("the chat ended without a word")
    return held(f"ended after {found.completion_tokens} tokens")


@SETTINGS.gate("F-INV-OVERFLOW-001", "More than the context holds is refused, with both numbers.")
def overflow_is_told(lab: TargetLab) -> Finding:
    """And the engine answers on."""
    length = lab.engine.context_length
    if length is None or length > 1_000_000:
        return without_meaning("the model names no context length that can be filled")
    try:
        lab.engine.generate(plain(first_prompt(lab), max_tokens=length + 1))
    except ContextOverflow as told:
        if str(length) not in str(told):
            return refuted(f"the refusal names no context of {length}: {told}")
        after = lab.engine.generate(plain(first_prompt(lab), max_tokens=1))
        if not after.completion_tokens:
            return refuted("after the refusal the engine answers nothing")
        return held(f"refused ({told}); then {after.completion_tokens} token as usual")
    return refuted(f"{length + 1} tokens beside the prompt were taken by a context of {length}")


@SETTINGS.gate(
    "F-INV-STREAM-001", "A streamed answer is the whole one.", applies="engines that stream"
)
def streams_are_whole(lab: TargetLab) -> Finding:
    """All pieces joined, in order."""
    engine = lab.engine
    if not isinstance(engine, StreamingEngine):
        return without_meaning(f"{engine.name} streams through a server only")
    pieces: list[str] = []

    def tell(piece: str) -> bool:
        pieces.append(piece)
        return True

    found = engine.stream(plain(first_prompt(lab), max_tokens=MORE), tell)
    whole = lab.once(greedy)[0].text
    if "".join(pieces) != found.text or found.text != whole:
        return refuted(f"streamed {''.join(pieces)!r:.60}, whole {whole!r:.60}")
    return held(f"{len(pieces)} pieces, joined the whole answer")


FAMILIES = (SETTINGS,)
ALIASES = {
    "F-INT-005": "F-RUN-005",
    "F-STAB-001": "F-RUN-005",
    "F-CPU-002": "F-RUN-005",
    "F-QUAL-001": "F-RUN-001",
    "F-INTEG-004": "F-GPU-001",
    "F-INTEG-005": "F-GPU-001",
}
