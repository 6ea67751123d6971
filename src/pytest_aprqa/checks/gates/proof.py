"""The proof that a gate can fail: a planted defect that it catches, a healthy case that it passes.

Proofs run in the project's tests, and for anyone by `aprqa gates prove`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_aprqa.checks.gates.lab import Lab, ModelLab, TargetLab
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.domain.sections import Sections

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.engines.engine import Engine

EMBEDDED = Path(__file__).resolve().parents[2] / "models" / "aprqa-tiny"
"""The model that the package carries, in which defects are planted."""
PROMPTS = ("What is 2 + 2?", "The capital of France is", "Write a Python function to add two")
"""What the planted labs ask."""

Edit = Callable[["np.ndarray[Any, Any]"], "np.ndarray[Any, Any]"]
"""From a tensor's values, float32 in its own shape, to others."""


class Closable(Protocol):
    """What holds something that must be given back."""

    def close(self) -> object:
        """Give it back; a second time does nothing."""


C = TypeVar("C", bound=Closable)


@dataclass(frozen=True, slots=True)
class Proof:
    """That one gate can fail, and can pass.

    Attributes:
        gate: The gate's id.
        defect: What is planted, in words that its documentation shows.
        planted: Makes a lab with the defect in it; the gate must be Falsified there.
        healthy: Makes a lab without it; the gate must be Corroborated there.
        also: Gates of the family that cannot but see the same defect; no others may.
    """

    gate: str
    defect: str
    planted: Callable[[ProofBench], Lab]
    healthy: Callable[[ProofBench], Lab]
    also: tuple[str, ...] = ()


class ProofBench:
    """Where defects are planted: copies of the embedded model, and engines that are kept loaded."""

    def __init__(self, space: Path) -> None:
        """`space` is an empty directory, whose owner removes it."""
        self.space = space
        self._engines: dict[tuple[str, Format], Engine] = {}
        self._labs: dict[str, Lab] = {}
        self._made = 0
        self._owned: list[Closable] = []

    def place(self, name: str) -> Path:
        """A new path in the bench's space."""
        self._made += 1
        directory = self.space / f"{self._made:04}"
        directory.mkdir()
        return directory / name

    def copy(self, **tensors: Edit) -> Path:
        """A new copy of the embedded model's directory, with these tensors edited.

        Tensor names are given with `__` for each dot: `model__norm__weight=lambda w: w * 0`.
        """
        directory = self.place("model")
        shutil.copytree(EMBEDDED, directory)
        if tensors:
            edits = {name.replace("__", "."): edit for name, edit in tensors.items()}
            self.edit_tensors(directory, edits)
        return directory

    def edit_tensors(self, directory: Path, edits: Mapping[str, Edit]) -> None:
        """Edit tensors of a model directory in place; each keeps its dtype, not its shape."""
        import torch
        from safetensors.torch import load_file, save_file

        path = directory / "model.safetensors"
        found = load_file(path)
        for name, edit in edits.items():
            old = found[name]
            new = torch.from_numpy(edit(old.float().numpy().copy()).copy())
            found[name] = new.to(old.dtype).contiguous()
        path.unlink()
        save_file(found, path, metadata={"format": "pt"})

    def edit_json(self, path: Path, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file in place: `change` edits the object that it holds."""
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")

    def model_lab(
        self, directory: Path | None = None, *, sections: Sections | None = None, **other: Any
    ) -> ModelLab:
        """A lab over a model directory: the embedded model's own unless one is given."""
        where = EMBEDDED if directory is None else directory
        return ModelLab(where, sections=sections, threads=1, **other)

    def converted(
        self,
        format_: Format,
        quantization: Quantization | None = None,
        directory: Path | None = None,
    ) -> Path:
        """A file in another format, made of a directory (the embedded model's) by the converter.

        The embedded model's is shared by all who ask: copy it before you change it.
        """
        from pytest_aprqa.conversion.cache import converted

        source = EMBEDDED if directory is None else directory
        return converted(source, format_, quantization).destination

    def engine(self, file: Path | None = None, format_: Format = Format.SAFETENSORS) -> Engine:
        """An engine for a file, loaded once and kept; without a file the embedded model's."""
        from pytest_aprqa.engines.choice import load_engine

        path = EMBEDDED if file is None else file
        key = (str(path), format_)
        if key not in self._engines:
            target = Target("embedded/aprqa-tiny", format_, None, Backend.CPU)
            self._engines[key] = load_engine(target, path, threads=1)
        return self._engines[key]

    def target_lab(
        self,
        format_: Format = Format.SAFETENSORS,
        quantization: Quantization | None = None,
        *,
        file: Path | None = None,
        engine: Engine | None = None,
        model: ModelLab | None = None,
        sections: Sections | None = None,
        prompts: tuple[str, ...] = PROMPTS,
    ) -> TargetLab:
        """A lab over a target; what is not given is the embedded model's, as the plugin has it."""
        truth = model or self.model_lab(sections=sections)
        if file is None and format_ is Format.SAFETENSORS:
            file = truth.directory
        elif file is None:
            file = self.converted(format_, quantization, truth.directory)
        return TargetLab(
            Target("embedded/aprqa-tiny", format_, quantization, Backend.CPU),
            file=file,
            engine=engine or self.engine(file, format_),
            model=truth,
            prompts=prompts,
        )

    def owned(self, thing: C) -> C:
        """The thing itself, such as a server, which is closed with the bench."""
        self._owned.append(thing)
        return thing

    def kept(self, name: str, make: Callable[[ProofBench], Lab]) -> Lab:
        """The lab of this name, made when first asked for."""
        if name not in self._labs:
            self._labs[name] = make(self)
        return self._labs[name]

    def close(self) -> None:
        """Close the servers, engines and labs."""
        for thing in reversed(self._owned):
            thing.close()
        self._owned.clear()
        for lab in self._labs.values():
            if isinstance(lab, TargetLab):
                lab.close()
        for engine in self._engines.values():
            with suppress(OSError):
                engine.close()
        self._engines.clear()
        self._labs.clear()


def shared(name: str, make: Callable[[ProofBench], Lab]) -> Callable[[ProofBench], Lab]:
    """A maker of one lab for all proofs that use the name: healthy cases are measured once."""
    return partial(_shared, name, make)


def _shared(name: str, make: Callable[[ProofBench], Lab], bench: ProofBench) -> Lab:
    return bench.kept(name, make)


class Tampered:
    """An engine of which some ways are replaced: what a broken engine would do."""

    def __init__(self, engine: Engine, **replaced: Callable[..., Any]) -> None:
        """`replaced` functions get the engine first: `generate=lambda engine, request: …`."""
        self._engine = engine
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        replaced = self.__dict__["_replaced"].get(name)
        engine = self.__dict__["_engine"]
        return getattr(engine, name) if replaced is None else partial(replaced, engine)
