"""A golden corpus: prompts with a model's own greedy answers and all logits, kept in files.

`manifest.json` holds the scheme, the vocabulary's size and, for each prompt, its text, the token
ids of prompt and answer, where the answer begins, a file and that file's SHA-256. Each file is a
NumPy array, float32 [tokens, vocabulary].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.numbers.reference import LONGEST
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.formats.digest import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.engines.engine import Engine

    Array = np.ndarray[Any, Any]

SCHEME = "aprqa-golden-1"
"""The name of the layout above; another layout gets another name."""
MANIFEST = "manifest.json"


class GoldenError(ValueError):
    """A corpus that cannot be read; the message is one line and names the file."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt of a corpus."""

    prompt: str
    ids: tuple[int, ...]
    answer_from: int
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a corpus holds."""

    vocabulary: int
    prompts: tuple[Golden, ...]


def write_corpus(
    engine: Engine, model: str, prompts: Sequence[str], tokens: int, draft: Path
) -> Manifest:
    """Ask the engine and write manifest and logits into the directory `draft`.

    Raises:
        EngineCrashed: the engine broke.
        InvalidRequest: a prompt is no text for it.
    """
    import numpy as np

    found, vocabulary = [], 0
    for number, prompt in enumerate(prompts):
        longest = min(LONGEST, (engine.context_length or LONGEST) - tokens)
        ids = engine.tokenize(prompt, special=True)[: max(1, longest)]
        answer = engine.generate(GenerationRequest(prompt_token_ids=ids, max_tokens=tokens))
        whole = (*ids, *answer.token_ids)
        logits = engine.logits(whole).astype("<f4")
        vocabulary = logits.shape[1]
        file = f"{number:04}.npy"
        np.save(draft / file, logits, allow_pickle=False)
        found.append(Golden(prompt, whole, len(ids), file, sha256_of(draft / file)))
    content = {
        "scheme": SCHEME,
        "model": model,
        "engine": dict(engine.describe()),
        "vocabulary": vocabulary,
        "prompts": [asdict(golden) for golden in found],
    }
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    (draft / MANIFEST).write_text(text, encoding="utf-8")
    return Manifest(vocabulary, tuple(found))


def manifest_text(corpus: Path) -> str:
    """The manifest as it is written.

    Raises:
        GoldenError: there is none that can be read as UTF-8.
    """
    path = corpus / MANIFEST
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GoldenError(f"{path}: cannot be read: {error}") from error


def parsed(text: str) -> Manifest:
    """A manifest.

    Raises:
        GoldenError: it is none, or names no prompts.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise GoldenError(f"{MANIFEST}: no JSON: {error}") from error
    if not isinstance(content, Mapping) or content.get("scheme") != SCHEME:
        raise GoldenError(f"{MANIFEST}: expected an object with the scheme {SCHEME}")
    try:
        prompts = tuple(
            Golden(
                str(one["prompt"]),
                tuple(int(i) for i in one["ids"]),
                int(one["answer_from"]),
                str(one["file"]),
                str(one["sha256"]),
            )
            for one in content["prompts"]
        )
        vocabulary = int(content["vocabulary"])
    except (KeyError, TypeError, ValueError) as error:
        raise GoldenError(
            f"{MANIFEST}: a prompt or the vocabulary is missing: {error!r}"
        ) from error
    if not prompts or vocabulary < 1:
        raise GoldenError(f"{MANIFEST}: expected at least one prompt and a vocabulary")
    return Manifest(vocabulary, prompts)


def logits_of(corpus: Path, golden: Golden, vocabulary: int) -> Array:
    """One prompt's golden logits, checked against the manifest.

    Raises:
        GoldenError: the file is missing, is another one, or holds something else.
    """
    import numpy as np

    path = corpus / golden.file
    if path.parent != corpus:
        raise GoldenError(f"{golden.file!r}: expected the name of a file in the corpus")
    try:
        if (found := sha256_of(path)) != golden.sha256:
            told = f"SHA-256 {found[:12]}; expected {golden.sha256[:12]}"
            raise GoldenError(f"{golden.file}: {told}, for the prompt {golden.prompt!r:.60}")
        values: Array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, GoldenError):
            raise
        raise GoldenError(f"{golden.file}: cannot be read: {error}") from error
    if values.shape != (len(golden.ids), vocabulary):
        expected = [len(golden.ids), vocabulary]
        raise GoldenError(f"{golden.file}: shape {list(values.shape)}; expected {expected}")
    if not np.isfinite(values).all():
        raise GoldenError(f"{golden.file}: holds NaN or infinities")
    if not 0 < golden.answer_from <= len(golden.ids):
        raise GoldenError(f"{golden.file}: the answer begins outside of its tokens")
    return values
