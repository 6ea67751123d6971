"""The ground truth's logits over some texts, kept on disk so that it need not be loaded again.

Raw float32 logits: all of them for vocabularies up to FULL, else the TOP largest of each position
and the logarithm of the sum over all. An entry's name is the digest of the model's files, the
texts and the libraries' versions; an entry that cannot be read, or is not whole, is made again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.checks.gates.lab import TargetLab
    from pytest_aprqa.engines.engine import Engine

    Array = np.ndarray[Any, Any]

FULL = 4096
"""Largest vocabulary of which all logits are kept."""
TOP = 256
"""Logits of a position that are kept of a larger one: the rest has little of the probability, and
its whole is known."""
LONGEST = 256
"""Tokens of a text at most."""
READABLE = 4.0
"""Nats a token that the ground truth may find a text to cost, in the mean, for its positions to
count. Where it cannot read a text its logits are chaos, of which rounding makes another: bfloat16
costs the embedded model 0.009 nats on English prose, at 12 nats a token, and 0.0005 on its own
answers. Models of language read prose at 1.5 to 3.5 nats."""
_SCHEME = "aprqa-reference-1"


@dataclass(frozen=True, slots=True)
class Led:
    """One text and what the ground truth gives at each of its positions."""

    ids: tuple[int, ...]
    prompt: int
    """How many of the ids are the prompt; the rest is the ground truth's greedy answer."""
    values: Array
    """Logits: [positions, vocabulary], or [positions, TOP] with the tokens in `tokens`."""
    tokens: Array | None
    logsum: Array
    """Logarithm of the sum of exponentials over the whole vocabulary, by position."""
    vocabulary: int
    judged: Array
    """Positions that count: whether the ground truth itself can read what follows (READABLE)."""

    @property
    def best(self) -> Array:
        """The most probable token of each position."""
        best: Array = self.values.argmax(axis=1)
        return best if self.tokens is None else self.tokens[range(len(best)), best]

    def top(self, position: int, count: int) -> set[int]:
        """The most probable tokens of a position."""
        order = self.values[position].argsort()[-count:]
        return {int(i) for i in (order if self.tokens is None else self.tokens[position][order])}

    def margins(self) -> Array:
        """How far the first token's logit is above the second's, by position."""
        import numpy as np

        two = np.partition(self.values, -2, axis=1)[:, -2:]
        margins: Array = two[:, 1] - two[:, 0]
        return margins


@dataclass(frozen=True, slots=True)
class Course:
    """What the ground truth is led through."""

    prompts: tuple[str, ...]
    answer: int
    """Tokens of its own greedy answer to each prompt."""
    texts: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    """Prompts that are taken too, one by one, while there are fewer than `positions`."""
    positions: int = 0
    """How many positions that count are wanted."""


def led(lab: TargetLab, course: Course) -> list[Led]:
    """The ground truth led through a course: the prompts first, in their order.

    Raises:
        LoadFailed, EngineCrashed: it does not load, or breaks.
        UnwritableError: there is no room for what is kept.
    """
    path = _entry(lab.model.directory, course)
    found = None if path is None else _read(path)
    if found is None:
        engine = lab.ground_truth()
        found = [_answered(engine, prompt, course.answer) for prompt in course.prompts]
        found += [_along(engine, _cut(engine, text), None) for text in course.texts]
        for prompt in course.reserve:
            if sum(int(one.judged.sum()) for one in found) >= course.positions:
                break
            found.append(_answered(engine, prompt, course.answer))
        if path is not None:
            _write(path, found)
    return found


def _cut(engine: Engine, text: str) -> tuple[int, ...]:
    longest = min(LONGEST, engine.context_length or LONGEST)
    return tuple(engine.tokenize(text, special=True))[:longest]


def _answered(engine: Engine, prompt: str, answer: int) -> Led:
    ids = _cut(engine, prompt)[: max(1, (engine.context_length or LONGEST) - answer)]
    said = engine.generate(GenerationRequest(prompt_token_ids=ids, max_tokens=answer))
    return _along(engine, (*ids, *said.token_ids), len(ids))


def _along(engine: Engine, ids: tuple[int, ...], prompt: int | None) -> Led:
    import numpy as np

    return placed(ids, prompt, engine.logits(ids).astype(np.float32))


def placed(ids: tuple[int, ...], prompt: int | None, whole: Array) -> Led:
    """A text with its logits, float32 [positions, vocabulary]: what is kept of them, and counts."""
    import numpy as np

    tokens, values = None, whole
    if whole.shape[1] > FULL:
        tokens = np.argpartition(whole, -TOP, axis=1)[:, -TOP:].astype(np.int32)
        values = np.take_along_axis(whole, tokens, axis=1)
    sums = logsum(whole)
    end = len(ids) if prompt is None else prompt
    cost = sums[:-1] - whole[range(len(ids) - 1), ids[1:]]
    judged = np.zeros(len(ids), dtype=bool)
    for part in (slice(0, end - 1), slice(end - 1, len(ids) - 1)):
        judged[part] = bool(cost[part].size) and bool(cost[part].mean() <= READABLE)
    return Led(ids, end, values, tokens, sums, whole.shape[1], judged)


def logsum(logits: Array) -> Array:
    """Logarithm of the sum of exponentials of each row, in float64."""
    import numpy as np

    found = []
    for row in logits:  # one float64 copy of a row at a time
        wide = row.astype(np.float64)
        top = wide.max()
        found.append(top + np.log(np.exp(wide - top).sum()))
    return np.array(found)


def _entry(directory: Path, course: Course) -> Path | None:
    """Where the entry is kept; None where the files cannot even be read."""
    from pytest_aprqa.conversion.cache import cache_directory, known_content

    try:
        content = known_content(directory)
    except (AprqaError, AssertionError, OSError):
        return None  # the engine says what is wrong with them
    facts = {
        "scheme": _SCHEME,
        "model": content,
        "course": asdict(course),
        "kept": [FULL, TOP, LONGEST, READABLE],
        "versions": {name: version(name) for name in ("torch", "transformers")},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return cache_directory() / "logits" / f"{key}.npz"


def _write(path: Path, found: Sequence[Led]) -> None:
    import numpy as np

    from pytest_aprqa.conversion.cache import DIRECTORY_VARIABLE
    from pytest_aprqa.formats.atomic import UnwritableError, atomic_file

    arrays: dict[str, Any] = {}
    for i, one in enumerate(found):
        arrays |= {f"ids{i}": np.array(one.ids), f"values{i}": one.values}
        arrays |= {f"logsum{i}": one.logsum, f"sizes{i}": np.array([one.prompt, one.vocabulary])}
        arrays[f"judged{i}"] = one.judged
        if one.tokens is not None:
            arrays[f"tokens{i}"] = one.tokens
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"{error.strerror}; {DIRECTORY_VARIABLE} names another place"
        raise UnwritableError(path.parent, told) from error
    with atomic_file(path) as draft, draft.open("wb") as file:
        np.savez(file, texts=np.array(len(found)), **arrays)


def _read(path: Path) -> list[Led] | None:
    """The entry; None where there is none, or it is damaged (ZIP keeps a checksum of each part)."""
    import numpy as np

    try:
        # NumPy leaves a damaged file open that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return [_one(kept, i) for i in range(int(kept["texts"]))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _one(kept: Any, i: int) -> Led:
    prompt, vocabulary = (int(n) for n in kept[f"sizes{i}"])
    tokens = kept.get(f"tokens{i}")
    ids = tuple(int(n) for n in kept[f"ids{i}"])
    values, sums, judged = (kept[f"{name}{i}"] for name in ("values", "logsum", "judged"))
    return Led(ids, prompt, values, tokens, sums, vocabulary, judged)
