"""Conversions of the embedded model: sound ones pass, and every planted defect is caught."""

from __future__ import annotations

import json
import os
import signal
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.conversion import try_conversion
from pytest_aprqa.checks.conversion_bench import ConversionBench
from pytest_aprqa.checks.conversion_rungs import Rung
from pytest_aprqa.conversion.portable import PortableModel
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.conversion.writing import write_apr_file, write_directory, write_gguf_file
from pytest_aprqa.domain.conversions import ConversionCase, ConversionKind
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.tolerance import WEIGHT_NMSE
from pytest_aprqa.engines.engine import Engine, InvalidRequest, LoadFailed
from pytest_aprqa.engines.llamacpp_engine import LlamaCppEngine
from pytest_aprqa.formats.encodings import encoding_of
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import Tensor, tensors_of

MODEL = Path(str(resources.files("pytest_aprqa"))) / "models" / "aprqa-tiny"
PROMPTS = ("What is 2 + 2?", "The capital of France is", "What is 15-7?")
S, A, G = Format.SAFETENSORS, Format.APR, Format.GGUF
MATRIX = "model.layers.0.self_attn.q_proj.weight"
Values = np.ndarray[Any, Any]
Damage = Callable[[Path], Path]
"""Makes a damaged copy of a file beside it."""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APRQA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def asked() -> ConversionBench:
    """A bench on which the original has been asked."""
    bench = ConversionBench(MODEL, PROMPTS, threads=1)
    bench.texts()
    return bench


@pytest.fixture
def bench(asked: ConversionBench) -> ConversionBench:
    """A bench with the original's answers and no logits yet."""
    return replace(asked, _logits=OrderedDict())


@dataclass(frozen=True)
class Saboteur:
    """Damages what chosen steps of the bench make."""

    patch: pytest.MonkeyPatch

    def damage(self, step: int, how: Damage) -> None:
        """Damage what the step of this number makes, counted from 1."""
        honest, made = ConversionBench.step, [0]

        def dishonest(bench: ConversionBench, *arguments: Any) -> Path:
            path = honest(bench, *arguments)
            made[0] += 1
            return how(path) if made[0] == step else path

        self.patch.setattr(ConversionBench, "step", dishonest)

    def engines(self, change: Callable[[Engine], None]) -> None:
        """Change every llama.cpp engine that the bench loads."""
        honest = ConversionBench.load

        def dishonest(bench: ConversionBench, path: Path, format_: Format) -> Engine:
            engine = honest(bench, path, format_)
            if format_ is G:
                change(engine)
            return engine

        self.patch.setattr(ConversionBench, "load", dishonest)


@pytest.fixture
def saboteur(monkeypatch: pytest.MonkeyPatch) -> Saboteur:
    return Saboteur(monkeypatch)


def case(
    kind: ConversionKind, *path: Format, quantization: Quantization | None = None
) -> ConversionCase:
    return ConversionCase(kind, path, quantization)


def tried(bench: ConversionBench, wanted: ConversionCase) -> Evidence:
    return try_conversion(wanted, bench, f"q.playbook.yaml::conversion::{wanted.item_name}")


def rewritten(change: Callable[[PortableModel], PortableModel]) -> Damage:
    """A copy of a file, in its format, of a model that was changed."""

    def damage(path: Path) -> Path:
        model = change(read_portable(path))
        other = path.with_name(f"damaged-{path.name}")
        if path.is_dir():
            other.mkdir()
            write_directory(model, other, None, None)
        elif path.suffix == ".gguf":
            write_gguf_file(model, other, None, None)
        else:
            write_apr_file(model, other, None, None)
        return other

    return damage


def values_changed(change: Callable[[str, Values], Values]) -> Damage:
    """A copy of a file with other values in its matrices, decoded where they were blocks."""

    def one(tensor: Tensor) -> Tensor:
        if len(tensor.shape) < 2:
            return tensor
        kept = tensor.encoding if encoding_of(tensor.encoding).plain else "F32"
        return tensor.derived(
            tensor.shape, lambda values: change(tensor.name, values), encoding=kept
        )

    return rewritten(lambda model: replace(model, tensors=tuple(map(one, model.tensors))))


def renamed(names: dict[str, str]) -> Damage:
    """A copy of a file with tensors under each other's names."""
    return rewritten(
        lambda model: replace(
            model, tensors=tuple(t.named(names.get(t.name, t.name)) for t in model.tensors)
        )
    )


def _one_value(name: str, values: Values) -> Values:
    changed = values.copy()
    if name == MATRIX:
        changed[3, 5] += 0.25
    return changed


def _transposed(name: str, values: Values) -> Values:
    return np.ascontiguousarray(values.T) if name == MATRIX else values


def _weaker(name: str, values: Values) -> Values:
    return values * np.float32(0.75) if name.endswith("down_proj.weight") else values


def _half_of_the_keys(path: Path) -> Path:
    """The same GGUF file with half of the merges gone from its keys, but not from its files."""
    file = GgufFile.open(path)
    fields = dict(file.fields)
    merges = fields["tokenizer.ggml.merges"]
    half = merges.value[: len(merges.value) // 2]
    fields["tokenizer.ggml.merges"] = replace(merges, value=half)
    other = path.with_name("half-of-the-keys.gguf")
    write_gguf(other, fields=fields, tensors=tensors_of(file))
    return other


def tokenizer_changed(change: Callable[[dict[str, Any]], None]) -> Damage:
    """A copy of a file with another tokenizer's model, wherever it is kept."""

    def one(model: PortableModel) -> PortableModel:
        tokenizer = json.loads(model.files["tokenizer.json"])
        change(tokenizer["model"])
        files = {**model.files, "tokenizer.json": json.dumps(tokenizer).encode()}
        return replace(model, files=files)

    return rewritten(one)


def _half_of_the_merges(tokenizer: dict[str, Any]) -> None:
    tokenizer["merges"] = tokenizer["merges"][: len(tokenizer["merges"]) // 2]


def _two_words_exchanged(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["vocab"]
    words["2"], words["3"] = words["3"], words["2"]


def without_file(name: str) -> Damage:
    """A copy of a model's file in which one of the files beside the weights was left out."""

    def one(model: PortableModel) -> PortableModel:
        assert name in model.files
        files = {file: data for file, data in model.files.items() if file != name}
        return replace(model, files=files)

    return rewritten(one)


def _another_template(model: PortableModel) -> PortableModel:
    settings = json.loads(model.files["tokenizer_config.json"])
    settings["chat_template"] += "\n"
    files = {**model.files, "tokenizer_config.json": json.dumps(settings).encode()}
    return replace(model, files=files)


def _cut_short(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-4096])
    return path


ONE_VALUE = values_changed(_one_value)
ONE_LOST = rewritten(
    lambda model: replace(model, tensors=tuple(t for t in model.tensors if t.name != MATRIX))
)
NO_DEFAULTS = without_file("generation_config.json")
HEALTHY = [
    case(ConversionKind.DIRECT, S, G),
    case(ConversionKind.DIRECT, G, A),
    case(ConversionKind.ROUND_TRIP, S, G),
    case(ConversionKind.CHAIN, S, A, G),
    case(ConversionKind.IDEMPOTENT, G, A),
    case(ConversionKind.COMMUTES, S, G, A),
    case(ConversionKind.GOLDEN, S, G),
    case(ConversionKind.DIRECT, S, G, quantization=Quantization.Q8_0),
    case(ConversionKind.DIRECT, S, A, quantization=Quantization.Q8_0),
    case(ConversionKind.ROUND_TRIP, S, G, quantization=Quantization.Q8_0),
    case(ConversionKind.CHAIN, G, A, S, quantization=Quantization.Q8_0),
    case(ConversionKind.COMMUTES, A, G, S, quantization=Quantization.Q8_0),
    case(ConversionKind.GOLDEN, S, G, quantization=Quantization.Q8_0),
]


@pytest.mark.parametrize("wanted", HEALTHY, ids=lambda wanted: wanted.item_name)
def test_sound_conversions_pass_with_their_numbers(
    bench: ConversionBench, wanted: ConversionCase
) -> None:
    evidence = tried(bench, wanted)
    assert evidence.outcome is Outcome.CORROBORATED, evidence.reason
    assert {verdict.ruling for verdict in evidence.verdicts} == {"corroborated"}
    assert evidence.measurements
    assert (evidence.check, evidence.format) == (Check.CONVERSION, wanted.path[-1])
    assert (evidence.quantization, evidence.target) == (wanted.quantization, "conversion")


def test_a_direct_conversion_is_held_against_the_original_on_every_rung(
    bench: ConversionBench,
) -> None:
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G, quantization=Quantization.Q8_0))
    oracles = [verdict.oracle for verdict in evidence.verdicts]
    assert oracles == ["tensors", "companions", "encoding", "tokens", "logits"]
    assert evidence.reason.startswith("logits: ")
    assert evidence.engine["safetensors"].startswith("transformers ")
    assert evidence.engine["gguf"].startswith("llama.cpp ")
    assert 0 < evidence.measurements["nmse_worst_tensor"] <= WEIGHT_NMSE[Quantization.Q8_0]
    assert evidence.measurements["logits_kld"] > 0


DIRECT_FAULTS: dict[str, tuple[Damage, str]] = {
    "one value": (ONE_VALUE, f"tensors: 1 of 38 tensors differ, first {MATRIX}"),
    "two tensors swapped": (
        renamed({MATRIX: MATRIX.replace("0", "1"), MATRIX.replace("0", "1"): MATRIX}),
        "tensors: 2 of 38 tensors differ, first model.layers.",
    ),
    "transposed": (values_changed(_transposed), "tensors: 1 of 38 tensors differ, first"),
    "half of the merges": (
        tokenizer_changed(_half_of_the_merges),
        "companions: tokenizer.json: not as in the original",
    ),
    "two words exchanged": (
        tokenizer_changed(_two_words_exchanged),
        "companions: tokenizer.json: not as in the original",
    ),
    "no generation config": (
        without_file("generation_config.json"),
        "companions: generation_config.json: not as in the original",
    ),
    "another chat template": (
        rewritten(_another_template),
        "companions: tokenizer_config.json: not as in the original",
    ),
    "another setting": (
        rewritten(lambda model: replace(model, config={**model.config, "attention_dropout": 0.5})),
        "companions: config.json: not as in the original",
    ),
    "half of the merges in one place": (_half_of_the_keys, "what was converted is broken: "),
    "cut short": (_cut_short, "what was converted is broken: "),
}


@pytest.mark.parametrize("fault", DIRECT_FAULTS)
def test_a_damaged_file_is_falsified(
    bench: ConversionBench, saboteur: Saboteur, fault: str
) -> None:
    damage, told = DIRECT_FAULTS[fault]
    saboteur.damage(1, damage)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(told), evidence.reason


@pytest.mark.parametrize(
    ("made", "claimed", "told"),
    [
        (Quantization.Q4_0, Quantization.Q8_0, "tensors: "),
        (Quantization.F16, Quantization.Q4_K_M, "encoding: most of the matrices are F16; q4_k_m"),
        (Quantization.Q8_0, Quantization.Q6_K, "encoding: most of the matrices are Q8_0; q6_k is"),
    ],
)
def test_a_file_of_another_quantization_is_falsified(
    bench: ConversionBench,
    monkeypatch: pytest.MonkeyPatch,
    made: Quantization,
    claimed: Quantization,
    told: str,
) -> None:
    honest = ConversionBench.step
    monkeypatch.setattr(
        ConversionBench,
        "step",
        lambda bench, path, format_, space, kind=None: honest(
            bench, path, format_, space, kind and made
        ),
    )
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G, quantization=claimed))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(told), evidence.reason


@pytest.mark.parametrize("format_", [G, A])
@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_a_scaled_matrix_is_no_quantization_however_coarse(
    bench: ConversionBench, saboteur: Saboteur, format_: Format, gain: float
) -> None:
    """Four bits may cost more error than a scale off by a tenth does."""

    def scaled(name: str, values: Values) -> Values:
        return values * np.float32(gain) if name == MATRIX else values

    saboteur.damage(1, values_changed(scaled))
    evidence = tried(bench, case(ConversionKind.DIRECT, S, format_, quantization=Quantization.Q4_0))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(f"tensors: 1 of 38 tensors differ, first {MATRIX}")
    _, told = evidence.reason.split("; limit NMSE 0.035, gain ")
    assert float(told.split()[0]) == pytest.approx(gain, abs=0.01)
    assert evidence.measurements["nmse_worst_tensor"] < WEIGHT_NMSE[Quantization.Q4_0]


@pytest.mark.parametrize("format_", [G, A])
def test_a_nan_among_quantized_values_is_within_no_tolerance(
    bench: ConversionBench, saboteur: Saboteur, format_: Format
) -> None:
    def poisoned(name: str, values: Values) -> Values:
        changed = values.copy()
        if name == MATRIX:
            changed[3, 5] = np.nan
        return changed

    saboteur.damage(1, values_changed(poisoned))
    evidence = tried(bench, case(ConversionKind.DIRECT, S, format_, quantization=Quantization.Q8_0))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(f"tensors: 1 of 38 tensors differ, first {MATRIX}")


@pytest.mark.parametrize(
    ("text", "special", "format_", "told"),
    [
        ("What is 15-7?", True, G, "tokens: 'What is 15-7?' becomes (7,); expected ("),
        (ADVERSARIAL_TEXTS[3], False, A, "tokens: 3 prompts and 250 of 251 adversarial texts"),
    ],
    ids=["of a prompt", "within one library"],
)
def test_other_ids_are_falsified(
    bench: ConversionBench,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    special: bool,
    format_: Format,
    told: str,
) -> None:
    """The files say the same, the engine that reads them cuts one text otherwise."""
    honest_load = ConversionBench.load

    def load(bench: ConversionBench, path: Path, wanted: Format) -> Any:
        engine: Any = honest_load(bench, path, wanted)
        honest = engine.tokenize

        def tokenize(asked: str, *, special: bool) -> tuple[int, ...]:
            ids: tuple[int, ...] = honest(asked, special=special)
            return (7,) if (asked, special) == faulty else ids

        if wanted is format_:
            engine.tokenize = tokenize
        return engine

    faulty = (text, special)
    monkeypatch.setattr(ConversionBench, "load", load)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, format_))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(told), evidence.reason


LATER_FAULTS: list[tuple[ConversionCase, int, Damage, str]] = [
    (case(ConversionKind.DIRECT, G, S), 1, ONE_LOST, "tensors: 1 of 38"),
    (case(ConversionKind.ROUND_TRIP, S, G), 1, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.ROUND_TRIP, S, G), 2, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.ROUND_TRIP, G, S), 4, ONE_VALUE, "tensors, second trip: 1 of 38"),
    (case(ConversionKind.CHAIN, S, A, G), 2, ONE_VALUE, "tensors, on the way: 1 of 38"),
    (case(ConversionKind.CHAIN, S, G, A), 3, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.IDEMPOTENT, S, G), 2, ONE_VALUE, "bytes: made twice: SHA-256 ("),
    (case(ConversionKind.IDEMPOTENT, S, A), 2, ONE_VALUE, "bytes: made twice: SHA-256 ("),
    (case(ConversionKind.COMMUTES, S, G, A), 2, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.COMMUTES, S, G, A), 3, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.COMMUTES, S, A, G), 1, ONE_VALUE, "tensors: 1 of 38"),
    (case(ConversionKind.ROUND_TRIP, S, G), 2, NO_DEFAULTS, "companions: generation_config.json"),
    (case(ConversionKind.CHAIN, S, G, A), 3, NO_DEFAULTS, "companions: generation_config.json"),
    (case(ConversionKind.COMMUTES, S, A, G), 2, NO_DEFAULTS, "companions: generation_config.json"),
]


@pytest.mark.parametrize(
    ("wanted", "step", "damage", "told"),
    LATER_FAULTS,
    ids=[f"{wanted.item_name}, step {step}" for wanted, step, _, _ in LATER_FAULTS],
)
def test_damage_on_any_step_of_the_way_is_falsified(
    bench: ConversionBench,
    saboteur: Saboteur,
    wanted: ConversionCase,
    step: int,
    damage: Damage,
    told: str,
) -> None:
    saboteur.damage(step, damage)
    evidence = tried(bench, wanted)
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith(told), evidence.reason


def test_a_second_trip_that_moves_on_is_drift(bench: ConversionBench, saboteur: Saboteur) -> None:
    """Each trip alone is within the quantization's error; the second is not where the first was."""
    random = np.random.default_rng(0)
    original = {tensor.name: tensor for tensor in read_portable(MODEL).tensors}

    def elsewhere(name: str, _values: Values) -> Values:
        values = original[name].values()
        scale = np.sqrt(0.97 * WEIGHT_NMSE[Quantization.Q8_0] * np.square(values).mean())
        moved: Values = values + (scale * random.standard_normal(values.shape)).astype(np.float32)
        return moved

    saboteur.damage(4, values_changed(elsewhere))
    wanted = case(ConversionKind.ROUND_TRIP, S, G, quantization=Quantization.Q8_0)
    evidence = tried(bench, wanted)
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith("tensors, no drift: "), evidence.reason


def test_a_file_that_answers_otherwise_is_wrong_and_torch_says_so(
    bench: ConversionBench, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch
) -> None:
    saboteur.damage(1, values_changed(_weaker))
    wanted = case(ConversionKind.GOLDEN, S, G)
    assert tried(bench, wanted).outcome is Outcome.FALSIFIED

    sound = tried(replace(bench, _logits=OrderedDict()), replace(wanted, path=(S, A))).verdicts[0]
    rung = Rung(sound)
    monkeypatch.setattr("pytest_aprqa.checks.conversion.compare_answers", lambda *_arguments: rung)
    saboteur.damage(1, values_changed(_weaker))
    evidence = tried(bench, wanted)
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith("logits: ")
    told = "torch over the same file does not agree either: the file is wrong"
    assert evidence.reason.endswith(told), evidence.reason


def test_an_engine_that_computes_otherwise_is_told_from_a_wrong_file(
    bench: ConversionBench, saboteur: Saboteur
) -> None:
    def disturb(engine: Any) -> None:
        honest = engine.logits
        engine.logits = lambda ids: honest(ids) * np.float32(0.5)

    saboteur.engines(disturb)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G))
    assert evidence.outcome is Outcome.FALSIFIED
    told = "torch over the same file agrees: the engine is wrong, not the file"
    assert evidence.reason.endswith(told), evidence.reason


def test_a_converted_model_that_says_nothing_is_falsified(
    bench: ConversionBench, saboteur: Saboteur
) -> None:
    def silence(engine: Any) -> None:
        honest = engine.generate
        engine.generate = lambda request: replace(honest(request), text=" ", token_ids=())

    saboteur.engines(silence)
    evidence = tried(bench, case(ConversionKind.GOLDEN, S, G))
    assert evidence.outcome is Outcome.FALSIFIED
    assert evidence.reason.startswith("answers: 3 answers are empty, the first to 'What is 2 + 2?'")


def test_a_child_that_dies_is_a_crash(
    bench: ConversionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = LlamaCppEngine.logits

    def dying(engine: LlamaCppEngine, token_ids: Any) -> Values:
        os.kill(engine.child_pid, signal.SIGSTOP)  # it must not answer before it is killed
        send = engine._child.send

        def last_words(message: dict[str, Any]) -> None:
            send(message)
            os.kill(engine.child_pid, signal.SIGKILL)

        monkeypatch.setattr(engine._child, "send", last_words, raising=False)
        return honest(engine, token_ids)

    monkeypatch.setattr(LlamaCppEngine, "logits", dying)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G))
    assert evidence.outcome is Outcome.CRASHED
    assert evidence.reason.startswith("the engine crashed: llama.cpp "), evidence.reason
    assert evidence.verdicts == ()


def test_a_file_that_the_engine_does_not_load_is_falsified(
    bench: ConversionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ConversionBench.load

    def refuse(bench: ConversionBench, path: Path, format_: Format) -> Engine:
        if format_ is G:
            raise LoadFailed(f"{path.name}: llama.cpp lacks a tensor")
        return honest(bench, path, format_)

    monkeypatch.setattr(ConversionBench, "load", refuse)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G))
    assert evidence.outcome is Outcome.FALSIFIED
    told = "what was converted is broken: step-0.gguf: llama.cpp lacks a tensor"
    assert evidence.reason == told


@pytest.mark.parametrize("kind", [ConversionKind.DIRECT, ConversionKind.GOLDEN])
def test_a_prompt_that_is_too_long_for_the_original_is_left_out(kind: ConversionKind) -> None:
    bench = ConversionBench(MODEL, ("a very long one " * 2000, *PROMPTS[:2]), threads=1)
    evidence = tried(bench, case(kind, S, G))
    assert evidence.outcome is Outcome.CORROBORATED, evidence.reason
    assert bench.prompts == PROMPTS[:2]
    assert len(bench.answers()) == len(bench.texts()) == 2


def test_where_no_prompt_fits_nothing_can_be_compared() -> None:
    bench = ConversionBench(MODEL, ("a very long one " * 2000,), threads=1)
    with pytest.raises(AprqaError, match=r"no prompt fits to compare conversions by: .* context"):
        bench.texts()


def test_what_the_original_can_be_asked_its_conversion_can(
    bench: ConversionBench, saboteur: Saboteur
) -> None:
    """A conversion that tells another vocabulary or context refuses what was asked."""

    def refuse(engine: Any) -> None:
        def logits(token_ids: Any) -> Values:
            raise InvalidRequest("token 900 is none of the vocabulary's 512")

        engine.logits = logits

    saboteur.engines(refuse)
    evidence = tried(bench, case(ConversionKind.DIRECT, S, G))
    assert evidence.outcome is Outcome.FALSIFIED
    told = "what was converted is broken: token 900 is none of the vocabulary's 512"
    assert evidence.reason == told


def test_nothing_is_left_behind(bench: ConversionBench, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = []
    honest = ConversionBench.step

    def seen(bench: ConversionBench, path: Path, format_: Format, space: Path, kind: Any) -> Path:
        spaces.append(space)
        return honest(bench, path, format_, space, kind)

    monkeypatch.setattr(ConversionBench, "step", seen)
    tried(bench, case(ConversionKind.IDEMPOTENT, S, A))
    assert len(spaces) == 2
    assert not spaces[0].exists()
