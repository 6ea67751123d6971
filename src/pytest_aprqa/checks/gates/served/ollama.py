"""The same model in an Ollama server: its texts, its speed, and what it says that the model is."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.served.same_model import parting
from pytest_aprqa.domain.completion import Completion, GenerationRequest
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Tier
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.tolerance import BATCH_NOISE
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable
from pytest_aprqa.engines.ollama import OllamaClient, OllamaError

if TYPE_CHECKING:
    from pytest_aprqa.domain.sections import OllamaParity
    from pytest_aprqa.engines.ollama import OllamaAnswer, OllamaDetails

OLLAMA: Family[TargetLab] = Family(
    "ollama",
    Place.TARGET,
    Cost.ANSWERS,
    Rung.TEXT,
    tier=Tier.MVP,
    source="Ollama's API reference",
    section="ollama_parity",
    formats=frozenset({Format.GGUF}),
)
FAMILIES = (OLLAMA,)

MAX_TOKENS = 32
RUNS = 3
"""Measured answers of each; one more is asked for before, in which Ollama loads the model."""
MOST_TTFT_RATIO = 3.0
"""Most that our time to the first token may be of Ollama's."""
OTHER_KERNELS = BATCH_NOISE["bfloat16"]
"""Ollama runs a llama.cpp of its own, maybe on a GPU: two of its builds round activations as
differently as one engine's batches in the coarsest type that it computes in do."""
_SIZE = re.compile(r"([0-9]+(?:\.([0-9]+))?)\s*([KMBT]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
SIZE_SHARE = 0.01
"""Parameters that are counted by one and not by the other: rope factors, tied heads' scales."""

Judge = Callable[[float, float], tuple[bool, bool]]
"""From the least and the largest ratio: whether the claim holds for both, whether for neither."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An Ollama server, or why there is none."""

    version: str = ""
    tags: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Speeds:
    """Repeated answers of both to one prompt."""

    ours: tuple[Completion, ...]
    theirs: tuple[OllamaAnswer, ...]


def reached(lab: TargetLab) -> Reached:
    """Ask an Ollama server for its version and its models."""
    client = _client(lab)
    try:
        return Reached(client.version(), client.tags())
    except (OllamaError, Unreachable, Silent) as error:
        return Reached(problem=f"{client.url}: {one_line(error)}")
    finally:
        client.close()


def speeds(lab: TargetLab) -> Speeds:
    """Let both answer the first prompt RUNS times, warmed up, one after the other."""
    settings = _settings(lab)
    request = _request(settings, settings.prompts[0])
    client = _client(lab)
    try:
        client.generate(_tag(lab), request, stream=True)
        lab.engine.generate(request)
        pairs = [
            (lab.engine.generate(request), client.generate(_tag(lab), request, stream=True))
            for _ in range(RUNS)
        ]
    finally:
        client.close()
    return Speeds(tuple(ours for ours, _ in pairs), tuple(theirs for _, theirs in pairs))


def _settings(lab: TargetLab) -> OllamaParity:
    return lab.sections.ollama_parity


def _tag(lab: TargetLab) -> str:
    """What Ollama calls the model; a name without a tag is `:latest`."""
    name = _settings(lab).model_tag or lab.target.model_id.rsplit("/", 1)[-1].lower()
    return name if ":" in name else f"{name}:latest"


def _client(lab: TargetLab) -> OllamaClient:
    return OllamaClient(_settings(lab).url)


def _request(settings: OllamaParity, prompt: str) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, max_tokens=MAX_TOKENS, temperature=settings.temperature)


def _not_asked(lab: TargetLab) -> Finding | None:
    """Why Ollama is not asked about this target; None where it is."""
    settings = _settings(lab)
    if not settings.enabled:
        return without_meaning("ollama_parity is not enabled: Ollama is not asked")
    if (
        lab.target.format is not Format.GGUF
        or lab.target.quantization not in settings.quantizations
    ):
        return without_meaning(f"ollama_parity does not name {lab.target.name}")
    return None


def _not_there(lab: TargetLab) -> Finding | None:
    """As `_not_asked`, and why nothing can be compared; two gates of their own say it is wrong."""
    if (finding := _not_asked(lab)) is not None:
        return finding
    found = lab.once(reached)
    if found.problem:
        return undecided(f"no Ollama answers: {found.problem}")
    if _tag(lab) not in found.tags:
        return undecided(f"Ollama has no {_tag(lab)}")
    return None


@OLLAMA.gate("F-OLLAMA-004", "the Ollama server tells its version and its models")
def reachable(lab: TargetLab) -> Finding:
    """/api/version and /api/tags answer as the API's reference says."""
    if (finding := _not_asked(lab)) is not None:
        return finding
    found = lab.once(reached)
    if found.problem:
        return refuted(f"{found.problem}; expected an Ollama server", culprit=_settings(lab).url)
    return held(f"Ollama {found.version} has {len(found.tags)} models")


@OLLAMA.gate("F-OLLAMA-PULL-001", "Ollama has the model under the playbook's tag")
def has_tag(lab: TargetLab) -> Finding:
    """The tag is among those of /api/tags."""
    if (finding := _not_asked(lab)) is not None:
        return finding
    found = lab.once(reached)
    if found.problem:
        return undecided(f"no Ollama answers: {found.problem}")
    if _tag(lab) not in found.tags:
        told = ", ".join(found.tags[:5]) or "nothing"
        return refuted(f"Ollama has {told}; expected {_tag(lab)} (`ollama pull {_tag(lab)}`)")
    return held(f"Ollama has {_tag(lab)}")


@OLLAMA.gate("F-OLLAMA-005", "Ollama's model has our file's quantization, family and size")
def same_details(lab: TargetLab) -> Finding:
    """What /api/show tells is what our GGUF file holds."""
    if (finding := _not_there(lab)) is not None:
        return finding
    client = _client(lab)
    try:
        told = client.show(_tag(lab))
    except (OllamaError, Unreachable, Silent) as error:
        return refuted(f"/api/show {_tag(lab)}: {one_line(error)}")
    finally:
        client.close()
    if (wrong := _wrong_details(lab, told)) is not None:
        return refuted(f"{_tag(lab)}: {wrong}", culprit=lab.file.name)
    return held(f"{_tag(lab)} is {told.family}, {told.parameter_size}, {told.quantization}")


def _wrong_details(lab: TargetLab, told: OllamaDetails) -> str | None:
    checkpoint = lab.checkpoint
    family = str(checkpoint.metadata.get("general.architecture", ""))
    quantization = str(lab.target.quantization or "").upper()
    parameters = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    if told.quantization.upper() != quantization:
        return f"the quantization is {told.quantization}; expected {quantization}"
    if told.family != family:
        return f"the family is {told.family}; expected {family}"
    size = _SIZE.fullmatch(told.parameter_size.strip().upper())
    if size is None:
        return f"the size is {told.parameter_size!r}; expected such as 3.2B"
    unit = _UNITS[size.group(3)]
    off = abs(float(size.group(1)) * unit - parameters)
    rounding = 0.5 * unit * 10.0 ** -len(size.group(2) or "")
    if off > rounding + SIZE_SHARE * parameters:
        return f"the size is {told.parameter_size}; expected {parameters} parameters"
    return None


@OLLAMA.gate("F-OLLAMA-001", "Ollama's greedy texts are ours, but where the model is unsure")
def same_texts(lab: TargetLab) -> Finding:
    """Each text is equal, or parts where our two best tokens are nearly as probable."""
    if (finding := _not_there(lab)) is not None:
        return finding
    settings = _settings(lab)
    if not _request(settings, settings.prompts[0]).greedy:
        return without_meaning("sampled texts of two engines need not agree: temperature is not 0")
    client = _client(lab)
    equal = near = 0
    try:
        for prompt in settings.prompts:
            request = _request(settings, prompt)
            theirs = client.generate(_tag(lab), request, stream=False)
            ours = lab.engine.generate(request)
            found = parting(lab.engine, ours, theirs.text)
            if found is None:
                equal += bool(ours.text.strip())
                continue
            if found.margin is None or found.margin > OTHER_KERNELS:
                return refuted(
                    f"to {prompt!r:.60} Ollama says {one_line(theirs.text, limit=100)!r}, we say "
                    f"{one_line(ours.text, limit=100)!r}; expected the same, or two best logits "
                    f"within {OTHER_KERNELS:g} where they part"
                )
            near += 1
    except (OllamaError, Unreachable, Silent) as error:
        return refuted(f"Ollama does not answer: {one_line(error)}")
    finally:
        client.close()
    measured = {"equal": float(equal), "near_ties": float(near)}
    if not equal + near:
        return undecided("every answer is empty: nothing could be compared", measured=measured)
    return held(f"{equal} of {len(settings.prompts)} texts are equal", measured=measured)


@OLLAMA.gate(
    "F-OLLAMA-002",
    "we are at least min_perf_ratio as fast as Ollama",
    rung=Rung.SPEED,
    cost=Cost.TIMING,
)
def throughput(lab: TargetLab) -> Finding:
    """Tokens a second after the first, ours over theirs; undecided where the runs differ more."""
    if (finding := _not_there(lab)) is not None:
        return finding
    try:
        found = lab.once(speeds)
    except (OllamaError, Unreachable, Silent) as error:
        return undecided(f"Ollama does not answer: {one_line(error)}")
    ours = [rate for answer in found.ours if (rate := _decode_rate(answer)) is not None]
    theirs = [rate for answer in found.theirs if (rate := answer.tokens_per_second) is not None]
    least = _settings(lab).min_perf_ratio
    return _ratio("tokens a second", ours, theirs, lambda low, high: (low >= least, high < least))


@OLLAMA.gate(
    "F-OLLAMA-003",
    "our first token comes in at most three times Ollama's time",
    rung=Rung.SPEED,
    cost=Cost.TIMING,
)
def first_token(lab: TargetLab) -> Finding:
    """Time to the first token, ours over theirs; undecided where the runs differ more."""
    if (finding := _not_there(lab)) is not None:
        return finding
    try:
        found = lab.once(speeds)
    except (OllamaError, Unreachable, Silent) as error:
        return undecided(f"Ollama does not answer: {one_line(error)}")
    ours = [answer.ttft_s for answer in found.ours if answer.ttft_s]
    theirs = [answer.ttft_s for answer in found.theirs if answer.ttft_s]
    most = MOST_TTFT_RATIO
    return _ratio(
        "seconds to the first token", ours, theirs, lambda low, high: (high <= most, low > most)
    )


def _decode_rate(answer: Completion) -> float | None:
    """Tokens a second after the first one; None of an answer of one token."""
    seconds = answer.total_s - (answer.ttft_s or 0.0)
    tokens = answer.completion_tokens - 1
    return tokens / seconds if tokens > 0 and seconds > 0 else None


def _ratio(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    judge: Judge,
) -> Finding:
    """A verdict on the least and the largest ratio that the repeated runs allow."""
    if not ours or not theirs:
        return undecided(f"no {what} could be measured")
    low, high = min(ours) / max(theirs), max(ours) / min(theirs)
    median = statistics.median(ours) / statistics.median(theirs)
    told = f"ratio of {what}: {median:.3g}, by the runs between {low:.3g} and {high:.3g}"
    measured = {"ratio": median, "ratio_low": low, "ratio_high": high}
    within, beyond = judge(low, high)
    if beyond:
        return refuted(f"{told}; expected another", measured=measured)
    return held(told, measured=measured) if within else undecided(told, measured=measured)
