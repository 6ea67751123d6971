"""Put one gate to its lab: every way in which that can end is a finding, or a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_aprqa.checks.finding import Finding, NothingToJudge, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.errors import Falsified
from pytest_aprqa.engines.engine import EngineClosed, InvalidRequest
from pytest_aprqa.formats.atomic import UnwritableError
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.family import GateCheck

L = TypeVar("L", bound=Lab)


def examine(check: GateCheck[L], lab: L) -> Finding:
    """The gate's finding.

    What does not load, and files that cannot be read, refute the claim about them; a question that
    the engine refuses (too long, no template, a setting that it has not) has no meaning for it.
    Where there is nothing to judge, nothing holds.

    Raises:
        EngineCrashed: the engine broke.
        AprqaError: the set-up is wrong.
    """
    try:
        return check.check(lab)
    except UnwritableError:
        raise
    except (CheckpointError, ConversionError) as error:
        return refuted(f"the files cannot be read: {error}")
    except Falsified as error:
        return refuted(str(error))
    except NothingToJudge as nothing:
        return undecided(str(nothing))
    except EngineClosed:
        raise
    except InvalidRequest as error:
        return without_meaning(f"the engine cannot be asked this: {error}")
