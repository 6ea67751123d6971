"""The bench that conversions are tried on: files made, engines loaded, logits kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.cache import converted, known_content
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.completion import Completion, GenerationRequest
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.choice import load_exact, load_file
from pytest_aprqa.engines.engine import ContextOverflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.model import Quantization
    from pytest_aprqa.engines.engine import Engine

SUFFIXES = {Format.GGUF: ".gguf", Format.APR: ".apr", Format.SAFETENSORS: ""}
ANSWER_TOKENS = 24
"""Tokens of the ground truth's greedy answer that are teacher-forced after each prompt."""
_KEPT = 4
"""Logits kept at a time; those of 500 positions of a vocabulary of 150 000 take 300 MB."""
_TIMEOUT_S = 120.0


@dataclass(slots=True)
class ConversionBench:
    """One model's conversions in one process: what was made and measured is used again."""

    source: Path
    prompts: tuple[str, ...]
    """What the engines are asked; at least one. Those that are too long for the ground truth are
    left out once it has been asked."""
    threads: int | None
    _texts: tuple[tuple[int, ...], ...] | None = None
    _answers: tuple[Completion, ...] | None = None
    _logits: OrderedDict[tuple[str, ...], np.ndarray[Any, Any]] = field(default_factory=OrderedDict)

    def start(self, format_: Format, quantization: Quantization | None) -> Path:
        """The model as the playbook's targets have it: the ground truth, or converted from it."""
        if format_ is Format.SAFETENSORS:
            return self.source
        return converted(self.source, format_, quantization).destination

    def step(
        self,
        path: Path,
        format_: Format,
        space: Path,
        quantization: Quantization | None = None,
    ) -> Path:
        """The model at `path` in another format, newly made in `space`."""
        made = space / f"step-{len(list(space.iterdir()))}{SUFFIXES[format_]}"
        return convert(path, made, quantization=quantization).destination

    def load(self, path: Path, format_: Format) -> Engine:
        """The engine that runs this format, computing in float32."""
        return load_exact(path, format_, threads=self.threads)

    def texts(self) -> tuple[tuple[int, ...], ...]:
        """Token ids that are teacher-forced: each prompt with the ground truth's answer to it."""
        self._ask_ground_truth()
        assert self._texts is not None
        return self._texts

    def answers(self) -> tuple[Completion, ...]:
        """The ground truth's greedy answers to the prompts."""
        self._ask_ground_truth()
        assert self._answers is not None
        return self._answers

    def logits(self, path: Path, format_: Format) -> np.ndarray[Any, Any]:
        """Logits of all texts: float32 [positions, vocabulary]; files of equal bytes run once."""
        key = (format_, *known_content(path).values())
        if key not in self._logits:
            with self.running(path, format_) as engine:
                self._logits[key] = self._measure(engine)
            while len(self._logits) > _KEPT:
                self._logits.popitem(last=False)
        self._logits.move_to_end(key)
        return self._logits[key]

    def second_opinion(self, path: Path, format_: Format) -> np.ndarray[Any, Any]:
        """The logits that torch computes over the same file's decoded weights."""
        engine = load_file(
            path, format_, backend=Backend.CPU, threads=self.threads, dtype="float32"
        )
        try:
            return self._measure(engine)
        finally:
            engine.close()

    @contextmanager
    def running(self, path: Path, format_: Format) -> Iterator[Engine]:
        """A loaded engine that is closed at the end."""
        engine = self.load(path, format_)
        try:
            yield engine
        finally:
            engine.close()

    def _measure(self, engine: Engine) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.concatenate([engine.logits(ids) for ids in self.texts()])

    def _ask_ground_truth(self) -> None:
        if self._answers is not None:
            return
        answers: dict[str, Completion] = {}
        with self.running(self.source, Format.SAFETENSORS) as engine:
            for prompt in self.prompts:
                try:
                    answers[prompt] = ask(engine, (prompt,))[0]
                except ContextOverflow as error:  # no scenario asks this of the model either
                    refusal = error
        if not answers:
            raise AprqaError(f"{self.source}: no prompt fits to compare conversions by: {refusal}")
        self.prompts, self._answers = tuple(answers), tuple(answers.values())
        self._texts = tuple(
            (*answer.prompt_token_ids, *answer.token_ids) for answer in self._answers
        )


def ask(engine: Engine, prompts: Sequence[str]) -> tuple[Completion, ...]:
    """Greedy answers to plain prompts."""
    return tuple(
        engine.generate(
            GenerationRequest(
                prompt=prompt,
                messages=(),
                max_tokens=ANSWER_TOKENS,
                temperature=0.0,
                seed=0,
                timeout_s=_TIMEOUT_S,
            )
        )
        for prompt in prompts
    )
