"""Gates over what an engine keeps between requests, and what it tells of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.answers.asking import (
    FEW,
    asked,
    control,
    differ,
    first_prompt,
    greedy,
    noise_of,
    plain,
    prompt_ids,
)
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Backend, Format, Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest

if TYPE_CHECKING:
    from pytest_aprqa.domain.completion import Completion

STATE: Family[TargetLab] = Family(
    domain="bug patterns",
    place=Place.TARGET,
    cost=Cost.ANSWERS,
    rung=Rung.TEXT,
    category=Category.STAB,
    source="cross-project bug patterns",
)
TOLD: Family[TargetLab] = Family(
    domain="invariants", place=Place.TARGET, cost=Cost.ANSWERS, rung=Rung.TEXT
)
SMALL_BYTES = 64 << 20
"""Files up to this size are loaded a second time to compare."""


@STATE.gate("F-STATE-CORRUPT-001", "A request leaves no trace in the next one.")
def no_trace_is_left(lab: TargetLab) -> Finding:
    """A, B, A: the second A is the first."""
    before = lab.once(control)
    lab.engine.generate(plain("Completely different words, and some more of them: 9 8 7 6"))
    after = lab.engine.generate(plain(first_prompt(lab)))
    if differ(before, after):
        return refuted(f"{before.text!r:.50} before another request, {after.text!r:.50} after it")
    return held(f"the same {len(after.token_ids)} tokens before and after another request")


@STATE.gate("F-STATE-TIMING-001", "The first token follows the whole prompt.")
def first_token_in_time(lab: TargetLab) -> Finding:
    """State that is advanced too early or too late makes it follow one token more or less."""
    noise, judged = noise_of(lab.engine), 0
    for completion in lab.once(greedy):
        if not completion.token_ids:
            continue
        judged += 1
        row = lab.engine.logits(prompt_ids(lab, completion))[-1]
        first = completion.token_ids[0]
        if float(row.max()) - float(row[first]) > noise:
            return refuted(
                f"after {completion.rendered_prompt!r:.40} the engine begins with token {first}; "
                f"the prompt's own logits ask for {int(row.argmax())}"
            )
    if not judged:
        return undecided(f"{lab.engine.name} tells no tokens of its answers")
    return held(f"{judged} first tokens are those that the whole prompts ask for")


@STATE.gate("F-PATH-ALGO-001", "The engine cuts prompts as its own tokenizer does.")
def one_way_to_tokens(lab: TargetLab) -> Finding:
    """The tokens that a generation had, against those of `tokenize`."""
    told = [completion for completion in lab.once(greedy) if completion.prompt_token_ids]
    if not told:
        return without_meaning(f"{lab.engine.name} does not tell from which tokens it generates")
    for completion in told:
        ids = lab.engine.tokenize(completion.rendered_prompt, special=True)
        if ids != completion.prompt_token_ids:
            return refuted(
                f"{completion.rendered_prompt!r:.40} was generated from "
                f"{list(completion.prompt_token_ids)[:8]}, tokenized it is {list(ids)[:8]}"
            )
    return held(f"{len(told)} prompts are cut alike on both ways")


@STATE.gate(
    "F-PATH-ALT-001",
    "What the ground truth offers, a file in another format offers too.",
    formats=frozenset({Format.APR, Format.GGUF}),
)
def same_offers(lab: TargetLab) -> Finding:
    """A chat template; `F-CONV-CONTEXT-001` looks at the length of the context."""
    import json

    files = lab.model.portable.files
    settings = json.loads(files.get("tokenizer_config.json", b"{}"))
    offered = bool(settings.get("chat_template")) or "chat_template.jinja" in files
    if offered and not lab.engine.has_chat_template:
        return refuted(
            f"the ground truth has a chat template, {lab.target.name} has none",
            culprit=lab.file.name,
        )
    return held("the chat template is there" if offered else "neither has a chat template")


@STATE.gate("F-ERR-UNWRAP-001", "What makes no sense is refused, and is no crash.")
def nonsense_is_refused(lab: TargetLab) -> Finding:
    """A token beyond the vocabulary, and no tokens at all."""
    for what, ids in (("token 2000000000", (2_000_000_000,)), ("no tokens", ())):
        try:
            lab.engine.logits(ids)
        except InvalidRequest:
            continue
        except EngineCrashed as crash:
            return refuted(f"{what} crashed the engine: {crash.error}")
        return refuted(f"{what} was taken for a text")
    return held("a token beyond the vocabulary and an empty text are refused")


@STATE.gate("F-ERR-PROP-001", "An error of a request is raised, not answered.")
def errors_are_raised(lab: TargetLab) -> Finding:
    """A limit that makes no sense."""
    try:
        found = lab.engine.generate(plain(first_prompt(lab), max_tokens=0))
    except (InvalidRequest, ValueError) as told:
        return held(f"max_tokens 0 is refused: {told}")
    if found.completion_tokens == 0:
        return refuted("max_tokens 0 is answered with an empty text, as if all were well")
    return refuted(f"max_tokens 0 is answered with {found.completion_tokens} tokens")


@STATE.gate("F-STATE-FALLBACK-001", "A second load of the file answers alike.",
            applies="files up to 64 MB")  # fmt: skip
def reload_answers_alike(lab: TargetLab) -> Finding:
    """An engine that falls back on something else, a cache say, need not answer so again."""
    if sum(info.nbytes for info in lab.checkpoint.tensors.values()) > SMALL_BYTES:
        return without_meaning("the file is too large to be loaded a second time for this")
    before = lab.once(control)
    other = lab.another_engine()
    try:
        again = other.generate(plain(first_prompt(lab)))
    finally:
        other.close()
    if differ(before, again):
        return refuted(f"{before.text!r:.50} first, {again.text!r:.50} from a second load")
    return held(f"the same {len(again.token_ids)} tokens from a second load")


@STATE.gate("F-INV-CONCURRENT-001", "Requests at once are answered as one after another.")
def concurrent_as_serial(lab: TargetLab) -> Finding:
    """From two threads; engines may let one wait."""
    expected = lab.once(control)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(lab.engine.generate, plain(first_prompt(lab))) for _ in range(4)]
        found = [future.result() for future in asked]
    wrong = [c for c in found if differ(c, expected)]
    if wrong:
        return refuted(f"{wrong[0].text!r:.50} among others, {expected.text!r:.50} alone")
    return held(f"{len(found)} answers from two threads, all as alone")


@TOLD.gate("F-INV-COUNT-001", "The prompt's token count is the number of its tokens.")
def prompt_is_counted(lab: TargetLab) -> Finding:
    """As the completion tells both."""
    for completion in lab.once(greedy):
        count = len(prompt_ids(lab, completion))
        if completion.prompt_tokens != count:
            return refuted(f"{completion.prompt_tokens} prompt tokens are told, there are {count}")
    return held(f"{len(lab.once(greedy))} prompts counted")


@TOLD.gate("F-INV-TEXT-001", "An answer's text is that of its tokens.")
def text_is_of_its_tokens(lab: TargetLab) -> Finding:
    """Decoded by the ground truth's tokenizer, the end token and marks of special tokens apart."""
    from tokenizers import Tokenizer

    data = lab.model.portable.files.get("tokenizer.json")
    if data is None:
        return without_meaning("the ground truth has no tokenizer.json")
    tokenizer = Tokenizer.from_buffer(data)
    judged = 0
    for _, completion in lab.once(asked):
        told = tokenizer.decode(list(completion.token_ids), skip_special_tokens=True)
        judged += bool(told.strip() or completion.text.strip())
        # The last token may be half of a character, which an engine may leave out.
        if told.rstrip("\ufffd").strip() != completion.text.rstrip("\ufffd").strip():
            return refuted(f"the tokens say {told!r:.60}, the text {completion.text!r:.60}")
    if not judged:
        return undecided("every answer is blank, and so are its tokens")
    return held(f"{judged} texts are their tokens'")


@TOLD.gate("F-INV-LOGPROBS-001", "Log probabilities are those of a distribution.",
           applies="engines that tell them")  # fmt: skip
def logprobs_make_sense(lab: TargetLab) -> Finding:
    """None above 0, best first, the chosen among them, together at most 1."""
    import math

    found = lab.engine.generate(plain(first_prompt(lab), top_logprobs=4))
    if not found.logprobs:
        return without_meaning(f"{lab.engine.name} tells no log probabilities here")
    for place, choice in enumerate(found.logprobs):
        values = [token.logprob for token in choice.top]
        total = sum(map(math.exp, values))
        ordered = values == sorted(values, reverse=True)
        if max(values) > 1e-6 or not ordered or total > 1 + 1e-4:
            return refuted(f"token {place}: {[round(v, 3) for v in values]}, together {total:.4f}")
        if choice.chosen.logprob < values[0] - noise_of(lab.engine):
            return refuted(
                f"token {place}: chosen at {choice.chosen.logprob:.3f}, best {values[0]:.3f}"
            )
    return held(f"{len(found.logprobs)} places of 4 tokens each")


@TOLD.gate("F-GPU-001", "The weights lie on the backend's device.", severity=Severity.P0)
def on_its_device(lab: TargetLab) -> Finding:
    """As the engine finds them, not as it was asked to put them."""
    device = lab.engine.device
    on_gpu = device.startswith(("cuda", "mps", "gpu", "hip"))
    if on_gpu is not (lab.backend is Backend.GPU):
        return refuted(f"the target is {lab.backend}, its weights lie on {device}")
    return held(f"the weights lie on {device}")


@TOLD.gate("F-RUN-001", "Plain prompts get an answer that is not blank.", severity=Severity.P0)
def something_is_answered(lab: TargetLab) -> Finding:
    """At least one of the first prompts: a base model may end at once after a whole question."""
    found = [answer for _, answer in lab.once(asked)]
    spoken = [c for c in found if c.text.strip()]
    if not spoken:
        return refuted(f"{len(found)} of {len(found)} answers are blank")
    return held(f"{len(spoken)} of {len(found)} answers hold text")


@TOLD.gate("F-INV-UTF8-001", "Greedy answers to plain prompts hold no broken characters.")
def characters_are_whole(lab: TargetLab) -> Finding:
    """U+FFFD stands where bytes make no character; the last one may be cut by the limit."""
    for completion in lab.once(greedy):
        if "\ufffd" in completion.text[:-1]:
            return refuted(f"U+FFFD in {completion.text!r:.60}")
    return held(f"{len(lab.once(greedy))} answers of whole characters")


def _late(completions: tuple[Completion, ...]) -> list[Completion]:
    return [c for c in completions if c.total_s > 60.0]


@TOLD.gate("F-RUN-003", "Short answers end within their time limit.", rung=Rung.SPEED)
def in_time(lab: TargetLab) -> Finding:
    """60 s for 16 tokens."""
    found = lab.once(greedy)
    late = _late(found)
    if late:
        return refuted(f"{late[0].completion_tokens} tokens took {late[0].total_s:.1f} s of 60 s")
    return held(f"the slowest of {len(found)} took {max(c.total_s for c in found):.2f} s")


@TOLD.gate("F-SEC-LEAK-001", "No control token stands in an answer's text.")
def nothing_leaks(lab: TargetLab) -> Finding:
    """The ground truth's own special tokens, in plain answers and a chat."""
    from tokenizers import Tokenizer

    from pytest_aprqa.checks.gates.answers.asking import CHAT, chat
    from pytest_aprqa.engines.engine import NoChatTemplate

    data = lab.model.portable.files.get("tokenizer.json")
    if data is None:
        return without_meaning("the ground truth has no tokenizer.json")
    added = Tokenizer.from_buffer(data).get_added_tokens_decoder().values()
    names = [token.content for token in added if token.special and len(token.content) > 2]
    texts = [completion.text for completion in lab.once(greedy)]
    try:
        texts.append(lab.engine.generate(chat(CHAT, max_tokens=FEW)).text)
    except NoChatTemplate:
        names = list(names)
    for text in texts:
        leaked = next((name for name in names if name in text), None)
        if leaked is not None:
            return refuted(f"{leaked} stands in {text!r:.60}")
    return held(f"{len(texts)} answers without any of {len(names)} control tokens")


FAMILIES = (STATE, TOLD)
ALIASES = {
    "F-INV-RELOAD-001": "F-STATE-FALLBACK-001",
    "F-STAB-003": "F-INV-CONCURRENT-001",
}
