"""What gates look at: one model or one target, with all that was measured of it, measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pytest_aprqa.checks.integrity_finding import Expectations
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.domain.sections import Sections

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.gateways import ProbeAnswer
    from pytest_aprqa.checks.serve.client import KnownAnswers
    from pytest_aprqa.checks.serve.prompts import ServePrompts
    from pytest_aprqa.conversion.portable import PortableModel
    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.engines.serving.served import Served
    from pytest_aprqa.formats.checkpoint import Checkpoint

T = TypeVar("T")


class Lab:
    """A bench with a memory: what one gate measured, the next one finds."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}
        self._failed: dict[object, Exception] = {}

    def once(self, measure: Callable[[Any], T]) -> T:
        """What `measure(self)` gives, measured when first asked for; so is what it raises."""
        if measure in self._failed:
            raise self._failed[measure]
        if measure not in self._known:
            try:
                self._known[measure] = measure(self)
            except Exception as error:
                self._failed[measure] = error
                raise
        return cast("T", self._known[measure])

    def plant(self, measure: Callable[[Any], T], value: T) -> None:
        """Let `once(measure)` give this: for a defect that no file or engine can bring about."""
        self._known[measure] = value

    def forget(self) -> None:
        """Give the memory of all measurements back."""
        self._known.clear()
        self._failed.clear()


class ModelLab(Lab):
    """The ground truth's files: a Hugging Face directory, and what a playbook says of it."""

    def __init__(
        self,
        directory: Path,
        *,
        sections: Sections | None = None,
        expectations: Expectations | None = None,
        home: Path | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.sections = sections or Sections()
        self.expectations = expectations or Expectations()
        self.home = home
        """The playbook's directory, beside which the files lie that its sections name."""
        self.threads = threads

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """config.json as an object.

        Raises:
            CheckpointError: it is missing, or no JSON object.
        """
        from pytest_aprqa.formats.checkpoint import read_json_object

        return read_json_object(self.directory / "config.json")

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights, all shards as one.

        Raises:
            CheckpointError: a shard or its header cannot be read.
        """
        from pytest_aprqa.formats.huggingface import open_huggingface

        return open_huggingface(self.directory)

    @cached_property
    def portable(self) -> PortableModel:
        """Config, tokenizer files and tensors, each tensor made when it is read.

        Raises:
            ConversionError, CheckpointError: they do not make a model.
        """
        from pytest_aprqa.conversion.reading import read_portable

        return read_portable(self.directory)

    def beside(self, named: str) -> Path:
        """The path of a file that a section names, from the playbook's directory."""
        return (self.home or self.directory) / named


class TargetLab(Lab):
    """One loaded target: its file, its engine, and the ground truth that it was made from."""

    def __init__(
        self,
        target: Target,
        *,
        file: Path,
        engine: Engine,
        model: ModelLab,
        prompts: tuple[str, ...],
        answers: tuple[ProbeAnswer, ...] = (),
        load: Callable[[], Engine] | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        self.file = file
        """What the engine has loaded: the ground truth's directory, or a `.apr` or `.gguf` file."""
        self.engine = engine
        self.model = model
        self.prompts = prompts
        """Plain prompts of the playbook, the first few; at least one."""
        self.answers = answers
        """What the gateways' probes were answered."""
        self._load = load
        self._ground_truth: Engine | None = None

    @property
    def sections(self) -> Sections:
        """What the playbook says of the gates."""
        return self.model.sections

    @property
    def format(self) -> Format:
        """The target's format; no lab is made for an endpoint's."""
        assert self.target.format is not None
        return self.target.format

    @property
    def quantization(self) -> Quantization | None:
        """The target's quantization; None as published."""
        return self.target.quantization

    @property
    def backend(self) -> Backend:
        """The target's backend."""
        assert self.target.backend is not None
        return self.target.backend

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The target's own file, opened."""
        from pytest_aprqa.formats.opening import open_checkpoint

        return open_checkpoint(self.file)

    @cached_property
    def portable(self) -> PortableModel:
        """The target's file as Hugging Face would have it: names, layout, decoded tensors."""
        from pytest_aprqa.conversion.reading import read_portable

        return self.model.portable if self.is_ground_truth else read_portable(self.file)

    @property
    def is_ground_truth(self) -> bool:
        """Whether the target is the SafeTensors model itself."""
        return self.format is Format.SAFETENSORS

    def ground_truth(self) -> Engine:
        """The SafeTensors model in transformers, in float32 on the CPU, loaded when first asked.

        For one use of it whose result lasts, see `once`: loading takes seconds.

        Raises:
            LoadFailed: the ground truth does not load.
        """
        if self._ground_truth is None:
            from pytest_aprqa.engines.choice import load_exact

            self._ground_truth = load_exact(
                self.model.directory, Format.SAFETENSORS, threads=self.model.threads
            )
        return self._ground_truth

    def another_engine(self) -> Engine:
        """The same file loaded a second time, as the target's own engine was; close it after use.

        Raises:
            LoadFailed: it does not load again.
        """
        from pytest_aprqa.engines.choice import load_engine

        if self._load is not None:
            return self._load()
        return load_engine(self.target, self.file, threads=self.model.threads)

    def close(self) -> None:
        """Give back the ground truth's memory; the target's own engine is not ours to close."""
        self.forget()
        if self._ground_truth is not None:
            self._ground_truth.close()
            self._ground_truth = None


class ServerLab(Lab):
    """One target's server, and the target behind it."""

    def __init__(
        self,
        served: Served,
        prompts: ServePrompts,
        *,
        target: TargetLab | None = None,
        known: KnownAnswers | None = None,
    ) -> None:
        super().__init__()
        self.served = served
        self.prompts = prompts
        """What servers are asked: texts and limits."""
        self.target = target
        """The target that is served, loaded here too; None for an endpoint that is not ours."""
        self.known: KnownAnswers = {} if known is None else known
