"""Engines that keep what they should not, and tell what is not so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.answers.asking import FEW, MORE
from pytest_aprqa.checks.gates.answers.sampling_proofs import HEALTHY, broken
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, ProofBench, Tampered
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.completion import TokenChoice, TokenLogprob
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def _other(found: Any) -> Any:
    """The same answer with another first token."""
    first = (found.token_ids[0] + 7) % 1000 if found.token_ids else 1
    return replace(found, token_ids=(first, *found.token_ids[1:]))


def _leaky(bench: ProofBench) -> Lab:
    """What was asked before decides the answer."""
    seen: list[str] = []

    def generate(engine: Any, request: Any) -> Any:
        found = engine.generate(request)
        spoilt = bool(seen) and seen[-1].startswith("Completely") and request.max_tokens == FEW
        seen.append(request.prompt or "")
        return _other(found) if spoilt else found

    return bench.target_lab(engine=Tampered(bench.engine(), generate=generate))


def _early(engine: Any, request: Any) -> Any:
    """The answer to a prompt without its last token, told as if it were the whole one's."""
    whole = engine.generate(request)
    if request.max_tokens != MORE or request.prompt is None:
        return whole
    ids = whole.prompt_token_ids[:-1]
    short = engine.generate(replace(request, prompt=None, prompt_token_ids=ids))
    return replace(whole, token_ids=short.token_ids)


def _cut_otherwise(engine: Any, text: str, *, special: bool) -> Any:
    return engine.tokenize(text + " ", special=special)


def _without_template(bench: ProofBench) -> Lab:
    engine: Any = Tampered(bench.engine())
    engine.__dict__["has_chat_template"] = False
    return bench.target_lab(engine=engine)


def _crashes(engine: Any, token_ids: Any) -> Any:
    try:
        return engine.logits(token_ids)
    except InvalidRequest as error:
        raise EngineCrashed(f"IndexError: {error}") from error


def _swallows(engine: Any, request: Any) -> Any:
    if request.max_tokens == 0:
        found = engine.generate(replace(request, max_tokens=1))
        return replace(found, text="", token_ids=())
    return engine.generate(request)


def _other_load(bench: ProofBench) -> Lab:
    """A second load answers otherwise."""
    return TargetLab(
        Target("embedded/aprqa-tiny", Format.SAFETENSORS, None, Backend.CPU),
        file=EMBEDDED,
        engine=bench.engine(),
        model=bench.model_lab(),
        prompts=bench.target_lab().prompts,
        load=lambda: _kept(bench, _spoilt),
    )


def _same_load(bench: ProofBench) -> Lab:
    return TargetLab(
        Target("embedded/aprqa-tiny", Format.SAFETENSORS, None, Backend.CPU),
        file=EMBEDDED,
        engine=bench.engine(),
        model=bench.model_lab(),
        prompts=bench.target_lab().prompts,
        load=lambda: _kept(bench, lambda engine, request: engine.generate(request)),
    )


def _kept(bench: ProofBench, generate: Callable[[Any, Any], Any]) -> Any:
    """The bench's engine under another way to answer, which closing leaves open."""
    return Tampered(bench.engine(), generate=generate, close=lambda engine: None)


def _spoilt(engine: Any, request: Any) -> Any:
    return _other(engine.generate(request))


def _mixed_up(bench: ProofBench) -> Lab:
    """Requests from another thread than the main one get another answer."""

    def generate(engine: Any, request: Any) -> Any:
        found = engine.generate(request)
        alone = threading.current_thread() is threading.main_thread()
        return found if alone else _other(found)

    return bench.target_lab(engine=Tampered(bench.engine(), generate=generate))


def _miscounts(engine: Any, request: Any) -> Any:
    found = engine.generate(request)
    return replace(found, prompt_tokens=found.prompt_tokens + 1)


def _trims(engine: Any, request: Any) -> Any:
    found = engine.generate(request)
    return replace(found, text=found.text[3:]) if request.max_tokens == MORE else found


def _with_logprobs(choices: Callable[[Any], tuple[TokenChoice, ...]]) -> Callable[[Any, Any], Any]:
    def generate(engine: Any, request: Any) -> Any:
        found = engine.generate(request)
        return replace(found, logprobs=choices(found)) if request.top_logprobs else found

    return generate


def _choices(best: float) -> tuple[TokenChoice, ...]:
    top = tuple(TokenLogprob(str(i), best - i, i) for i in range(4))
    return (TokenChoice(top[0], top),)


def _on_gpu(bench: ProofBench) -> Lab:
    engine: Any = Tampered(bench.engine())
    engine.__dict__["device"] = "cuda:0"
    return bench.target_lab(engine=engine)


def _says(text: Callable[[str], str]) -> Callable[[Any, Any], Any]:
    """The same tokens, told as another text."""

    def generate(engine: Any, request: Any) -> Any:
        found = engine.generate(request)
        return replace(found, text=text(found.text)) if request.max_tokens == MORE else found

    return generate


def _slow(engine: Any, request: Any) -> Any:
    return replace(engine.generate(request), total_s=75.0)


PROOFS = (
    Proof("F-STATE-CORRUPT-001", "an engine that remembers what was asked before", _leaky, HEALTHY),
    Proof("F-STATE-TIMING-001", "an engine that answers the prompt without its last token",
          broken(_early), HEALTHY),
    Proof("F-PATH-ALGO-001", "an engine whose tokenizer adds a blank",
          lambda bench: bench.target_lab(engine=Tampered(bench.engine(), tokenize=_cut_otherwise)),
          HEALTHY),
    Proof("F-PATH-ALT-001", "an engine that finds no chat template", _without_template, HEALTHY),
    Proof("F-ERR-UNWRAP-001", "an engine that crashes on a token beyond its vocabulary",
          lambda bench: bench.target_lab(engine=Tampered(bench.engine(), logits=_crashes)),
          HEALTHY),
    Proof("F-ERR-PROP-001", "an engine that answers nonsense with an empty text", broken(_swallows),
          HEALTHY),
    Proof("F-STATE-FALLBACK-001", "a second load that answers otherwise", _other_load, _same_load),
    Proof("F-INV-CONCURRENT-001", "an engine that mixes up requests of two threads", _mixed_up,
          HEALTHY),
    Proof("F-INV-COUNT-001", "an engine that counts a prompt token more", broken(_miscounts),
          HEALTHY),
    Proof("F-INV-TEXT-001", "an engine that loses the beginning of its text", broken(_trims),
          HEALTHY),
    Proof("F-INV-LOGPROBS-001", "log probabilities above zero",
          broken(_with_logprobs(lambda found: _choices(1.0))),
          broken(_with_logprobs(lambda found: _choices(-0.5)))),
    Proof("F-GPU-001", "an engine that says its weights lie on another device", _on_gpu, HEALTHY),
    Proof("F-RUN-001", "an engine whose texts are blank", broken(_says(lambda text: " ")), HEALTHY,
          also=("F-INV-TEXT-001",)),
    Proof("F-INV-UTF8-001", "an engine that breaks a character",
          broken(_says(lambda text: "\ufffd" + text[1:])), HEALTHY, also=("F-INV-TEXT-001",)),
    Proof("F-RUN-003", "an engine that takes 75 s for 16 tokens", broken(_slow), HEALTHY),
    Proof("F-SEC-LEAK-001", "an engine that leaves the end token in its text",
          broken(_says(lambda text: text + "<|im_end|>")), HEALTHY, also=("F-INV-TEXT-001",)),
)  # fmt: skip
