"""Try a conversion: make the files of its path and hold them against each other, rung by rung."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_aprqa.checks.conversion_bench import ask
from pytest_aprqa.checks.conversion_evidence import blank_conversion
from pytest_aprqa.checks.conversion_rungs import (
    Rung,
    compare_answers,
    compare_companions,
    compare_label,
    compare_logits,
    compare_tensors,
    compare_tokens,
)
from pytest_aprqa.checks.scenario import ending_of
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.provenance import content_of
from pytest_aprqa.domain.conversions import ConversionCase, ConversionKind
from pytest_aprqa.domain.evidence import Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.tolerance import (
    APR_LOGITS,
    LOGITS,
    OTHER_ENGINE,
    SAME_BLOCKS,
    SAME_VALUES,
    LogitTolerance,
)
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed
from pytest_aprqa.formats.atomic import UnwritableError
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.scratch import scratch

if TYPE_CHECKING:
    from pytest_aprqa.checks.conversion_bench import ConversionBench


def try_conversion(case: ConversionCase, bench: ConversionBench, item_id: str) -> Evidence:
    """Make the conversion's files and compare them; the first rung that is not reached decides.

    Raises:
        UnwritableError: there is no room for the files.
    """
    blank = blank_conversion(case, item_id, Outcome.FALSIFIED, "")
    with scratch() as space:
        try:
            a = bench.start(case.path[0], case.quantization)
            trial = _Trial(case, bench, space, a)
            b = trial.first_step()
        except UnwritableError:
            raise
        except (CheckpointError, ConversionError) as error:
            return blank.model_copy(update={"reason": f"cannot be converted: {one_line(error)}"})
        try:
            rungs = _until_one_fails(trial, b)
        except UnwritableError:
            raise
        except (CheckpointError, ConversionError, LoadFailed, InvalidRequest) as error:
            return blank.model_copy(
                update={"reason": f"what was converted is broken: {one_line(error)}"}
            )
        except EngineCrashed as crash:
            where = crash.traceback_tail.strip("\n")
            return blank.model_copy(update={**ending_of(crash), "diagnosis": where})
        engines = trial.engines
    passed = all(rung.passed for rung in rungs)
    measured = {name: value for rung in rungs for name, value in rung.measurements.items()}
    return blank.model_copy(
        update={
            "outcome": Outcome.CORROBORATED if passed else Outcome.FALSIFIED,
            "reason": f"{rungs[-1].verdict.oracle}: {rungs[-1].verdict.reason}",
            "verdicts": tuple(rung.verdict for rung in rungs),
            "measurements": measured,
            "engine": engines,
        }
    )


def _until_one_fails(trial: _Trial, b: Path) -> list[Rung]:
    """The rungs up to the first that is not reached: it explains the rest."""
    claims = {
        ConversionKind.DIRECT: trial.direct,
        ConversionKind.ROUND_TRIP: trial.round_trip,
        ConversionKind.CHAIN: trial.chain,
        ConversionKind.IDEMPOTENT: trial.idempotent,
        ConversionKind.COMMUTES: trial.commutes,
        ConversionKind.GOLDEN: trial.golden,
    }
    rungs: list[Rung] = []
    for rung in claims[trial.case.kind](b):
        rungs.append(rung)
        if not rung.passed:
            break
    return rungs


class _Trial:
    """One case on its bench, with a directory for what it makes."""

    def __init__(self, case: ConversionCase, bench: ConversionBench, space: Path, a: Path) -> None:
        self.case, self.bench, self.space, self.a = case, bench, space, a
        self.engines: dict[str, str] = {}

    def first_step(self) -> Path:
        """From A to B, quantizing where A is the ground truth."""
        kind = self.case.quantization if self.case.quantizes else None
        return self.bench.step(self.a, self.case.path[1], self.space, kind)

    def direct(self, b: Path) -> Iterator[Rung]:
        """B holds and says what A does, and its tokenizer cuts texts alike."""
        first, second = self.case.path
        kind = self.case.quantization if self.case.quantizes else None
        yield self._tensors(self.a, b, kind)
        yield compare_companions(self.a, b)
        if kind is not None:
            yield compare_label(b, second, kind)
        with self.bench.running(self.a, first) as one, self.bench.running(b, second) as two:
            self.engines = {first: one.describe()["engine"], second: two.describe()["engine"]}
            yield compare_tokens(one, two, self.bench.prompts)
        yield self._logits(self.a, first, b, second, self._limit(first, second))

    def round_trip(self, b: Path) -> Iterator[Rung]:
        """Back in A's format all is as it was in A, or within the quantization; again, too."""
        first, second = self.case.path
        kind = self.case.quantization if self.case.quantizes else None
        back = self.bench.step(b, first, self.space)
        yield self._tensors(self.a, back, kind)
        yield compare_companions(self.a, back)
        yield self._logits(self.a, first, back, first, self._limit(first, first))
        there = self.bench.step(back, second, self.space, kind)
        again = self.bench.step(there, first, self.space)
        yield _named("second trip", self._tensors(self.a, again, kind))
        yield _named("no drift", self._tensors(back, again, kind))

    def chain(self, b: Path) -> Iterator[Rung]:
        """Over B and C and back to A's format, all is as it was."""
        first, _, third = self.case.path
        kind = self.case.quantization if self.case.quantizes else None
        c = self.bench.step(b, third, self.space)
        yield _named("on the way", compare_tensors(b, c, None))
        end = self.bench.step(c, first, self.space)
        yield self._tensors(self.a, end, kind)
        yield compare_companions(self.a, end)
        yield self._logits(self.a, first, end, first, self._limit(first, first))

    def idempotent(self, b: Path) -> Iterator[Rung]:
        """Made a second time, every byte is the same; so the model is."""
        again = self.first_step()
        one, two = (tuple(content_of(path).values()) for path in (b, again))
        equal = "every byte equal" if one == two else f"SHA-256 {two[:1]} after {one[:1]}"
        ruling = Ruling.CORROBORATED if one == two else Ruling.FALSIFIED
        yield Rung(VerdictRecord(oracle="bytes", ruling=ruling, reason=f"made twice: {equal}"))
        second = self.case.path[1]
        yield self._logits(b, second, again, second, SAME_VALUES)

    def commutes(self, b: Path) -> Iterator[Rung]:
        """C made over B is C made from A."""
        third = self.case.path[2]
        direct = self.bench.step(self.a, third, self.space)
        over = self.bench.step(b, third, self.space)
        yield compare_tensors(direct, over, None)
        yield compare_companions(direct, over)
        yield self._logits(direct, third, over, third, self._limit(third, third))

    def golden(self, b: Path) -> Iterator[Rung]:
        """The converted model answers as the original does, and never with nothing."""
        first, second = self.case.path
        with self.bench.running(self.a, first) as one, self.bench.running(b, second) as two:
            self.engines = {first: one.describe()["engine"], second: two.describe()["engine"]}
            ours = self.bench.answers()  # which leaves out prompts that are too long
            theirs = ask(two, self.bench.prompts)
            limit = self._limit(first, second)
            yield compare_answers(ours, one, theirs, two, limit)
        yield self._logits(self.a, first, b, second, limit)

    def _tensors(self, a: Path, b: Path, kind: Quantization | None) -> Rung:
        return compare_tensors(a, b, kind, by_apr=self.case.path[1] is Format.APR)

    def _limit(self, first: Format, second: Format) -> LogitTolerance:
        kind = self.case.quantization
        if kind is not None and self.case.quantizes:
            if self.case.path[1] is Format.APR:
                return APR_LOGITS.get(kind, LOGITS[kind])
            # Where llama.cpp runs the blocks, they cost no less than its arithmetic does.
            plain = kind in (Quantization.F32, Quantization.F16, Quantization.BF16)
            by_llama = second is Format.GGUF and not plain
            return LOGITS[kind].widened_by(SAME_BLOCKS) if by_llama else LOGITS[kind]
        if first is second or Format.GGUF not in (first, second):
            return SAME_VALUES if kind is None or first is not Format.GGUF else SAME_BLOCKS
        return OTHER_ENGINE if kind is None else SAME_BLOCKS

    def _logits(
        self, a: Path, first: Format, b: Path, second: Format, limit: LogitTolerance
    ) -> Rung:
        """Logits through the formats' engines; a failure in GGUF has torch's word on the file."""
        reference = self.bench.logits(a, first)
        rung = compare_logits(reference, self.bench.logits(b, second), limit)
        if rung.passed or second is not Format.GGUF:
            return rung
        opinion = compare_logits(reference, self.bench.second_opinion(b, second), limit)
        told = (
            "torch over the same file agrees: the engine is wrong, not the file"
            if opinion.passed
            else "torch over the same file does not agree either: the file is wrong"
        )
        reason = f"{rung.verdict.reason}; {told}"
        return Rung(rung.verdict.model_copy(update={"reason": reason}), rung.measurements)


def _named(name: str, rung: Rung) -> Rung:
    verdict = rung.verdict.model_copy(update={"oracle": f"{rung.verdict.oracle}, {name}"})
    return Rung(verdict, {f"{key}, {name}": value for key, value in rung.measurements.items()})
