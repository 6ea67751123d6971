"""The gates of a golden corpus are seen to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.numbers.golden import MANIFEST, write_corpus
from pytest_aprqa.checks.gates.numbers.logits_proofs import noisy
from pytest_aprqa.checks.gates.numbers.texts import QUESTIONS
from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, ProofBench, Tampered, shared
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.sections import HfParity, Sections

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import Lab


def _corpus(bench: ProofBench, prompts: tuple[str, ...] = QUESTIONS[:2]) -> Path:
    """A corpus of the embedded model by its own engine."""
    directory = bench.place("golden")
    directory.mkdir()
    write_corpus(bench.engine(), str(EMBEDDED), prompts, 24, directory)
    return directory


def _files(damage: Callable[[ProofBench, Path], object] | None) -> Callable[[ProofBench], Lab]:
    def make(bench: ProofBench) -> Lab:
        corpus = _corpus(bench)
        if damage is not None:
            damage(bench, corpus)
        return bench.model_lab(sections=Sections(hf_parity=HfParity(corpus=str(corpus))))

    return make


def _target(engine: Callable[[ProofBench], Any]) -> Callable[[ProofBench], Lab]:
    """A target with this engine beside a float32 corpus of the embedded model."""

    def make(bench: ProofBench) -> Lab:
        from pytest_aprqa.engines.choice import load_exact

        directory = bench.place("golden")
        directory.mkdir()
        exact = load_exact(EMBEDDED, Format.SAFETENSORS, threads=1)
        try:
            write_corpus(exact, str(EMBEDDED), QUESTIONS[:12], 24, directory)
        finally:
            exact.close()
        sections = Sections(hf_parity=HfParity(corpus=str(directory)))
        return bench.target_lab(engine=engine(bench), sections=sections)

    return make


def _other_vocabulary(bench: ProofBench, corpus: Path) -> None:
    bench.edit_json(corpus / MANIFEST, lambda content: content.update(vocabulary=512))


def _cut(bench: ProofBench, corpus: Path) -> None:
    path = corpus / "0001.npy"
    path.write_bytes(path.read_bytes()[:-4])


def _noisy(bench: ProofBench) -> Any:
    def logits(engine: Any, ids: Any) -> Any:
        return noisy(engine, ids, engine.logits(ids))

    return Tampered(bench.engine(), logits=logits)


def _damaged(bench: ProofBench) -> Any:
    directory = bench.copy(model__layers__1__mlp__down_proj__weight=lambda w: w * 0)
    return bench.engine(directory)


_FILES = shared("golden corpus", _files(None))
_TARGET = shared("embedded model and golden corpus", _target(lambda bench: bench.engine()))

PROOFS = (
    Proof(
        "F-HF-PARITY-002",
        "a corpus without its manifest",
        _files(lambda bench, corpus: (corpus / MANIFEST).unlink()),
        _FILES,
    ),
    Proof(
        "F-HF-PARITY-003",
        "a corpus for half of the vocabulary",
        _files(_other_vocabulary),
        _FILES,
        also=("F-HF-PARITY-004",),
    ),
    Proof("F-HF-PARITY-004", "a file of logits that was cut", _files(_cut), _FILES),
    Proof(
        "F-HF-PARITY-001",
        "layer 1's down projection is zero",
        _target(_damaged),
        _TARGET,
        also=("F-HFP-001",),
    ),
    Proof("F-HFP-001", "noise of a fifth of the logits' spread", _target(_noisy), _TARGET),
)
