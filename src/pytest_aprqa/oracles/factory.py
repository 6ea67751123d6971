"""Which oracle a spec or a name stands for, and whether it can judge a question."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.oracle_spec import (
    BUILT_IN,
    ArithmeticSpec,
    CodeSyntaxSpec,
    CompositeSpec,
    ContainsSpec,
    ExactSpec,
    GarbageSpec,
    OneOfSpec,
    OracleSpec,
    PluginSpec,
    RegexSpec,
    ResponseSpec,
    is_plugin_name,
)
from pytest_aprqa.oracles.verdicts import Oracle

EMPTY_COMPOSITE = (
    "composite: `all`, `any` and `none` are empty, so nothing is judged; name at least one oracle"
)


def oracle_names() -> tuple[str, ...]:
    """Return the names of the built-in oracles."""
    return tuple(BUILT_IN)


def parse_oracle(oracle: str | OracleSpec, **settings: Any) -> OracleSpec:
    """Return the spec of a name and its settings; raises AprqaError in one line."""
    if not isinstance(oracle, str):
        if settings:
            names = ", ".join(sorted(settings))
            raise AprqaError(f"{oracle.type}: a spec takes no settings beside it ({names})")
        return oracle
    if is_plugin_name(oracle):
        return PluginSpec(type=oracle, settings=settings)
    if oracle not in BUILT_IN:
        close = get_close_matches(oracle, BUILT_IN, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(BUILT_IN)}"
        raise AprqaError(f"unknown oracle {oracle!r}: {hint}")
    try:
        return BUILT_IN[oracle].model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise AprqaError(f"{oracle}: {' '.join(problems.split())}") from error


def build_oracle(spec: OracleSpec) -> Oracle:
    """Return the oracle of a spec.

    Raises:
        AprqaError: an empty composite, or an oracle of another package that cannot be had.
    """
    match spec:
        case PluginSpec():
            from pytest_aprqa.oracles.plugins import build_plugin_oracle

            return build_plugin_oracle(spec)
        case ArithmeticSpec():
            from pytest_aprqa.oracles.arithmetic.oracle import ArithmeticOracle

            return ArithmeticOracle(spec)
        case GarbageSpec():
            from pytest_aprqa.oracles.garbage.oracle import GarbageOracle

            return GarbageOracle(spec)
        case CodeSyntaxSpec():
            from pytest_aprqa.oracles.code_syntax.oracle import CodeSyntaxOracle

            return CodeSyntaxOracle(spec)
        case ResponseSpec():
            from pytest_aprqa.oracles.response.oracle import ResponseOracle

            return ResponseOracle(spec)
        case RegexSpec():
            from pytest_aprqa.oracles.pattern import RegexOracle

            return RegexOracle(spec)
        case CompositeSpec():
            return _composite(spec)
        case ExactSpec() | ContainsSpec() | OneOfSpec():
            return _literal(spec)


def _literal(spec: ExactSpec | ContainsSpec | OneOfSpec) -> Oracle:
    from pytest_aprqa.oracles.literal import ContainsOracle, ExactOracle, OneOfOracle

    match spec:
        case ExactSpec():
            return ExactOracle(spec)
        case ContainsSpec():
            return ContainsOracle(spec)
        case OneOfSpec():
            return OneOfOracle(spec)


def _composite(spec: CompositeSpec) -> Oracle:
    from pytest_aprqa.oracles.composite import CompositeOracle

    if not (spec.all or spec.any or spec.none):
        raise AprqaError(EMPTY_COMPOSITE)
    every, some, none = (
        tuple(build_oracle(member) for member in members)
        for members in (spec.all, spec.any, spec.none)
    )
    return CompositeOracle(every, some, none)


def applicable(specs: Iterable[OracleSpec]) -> Oracle:
    """Return the oracle of a playbook's list: those that can judge must agree, at least one."""
    from pytest_aprqa.oracles.composite import ApplicableOracle

    members = tuple(build_oracle(spec) for spec in specs)
    if not members:
        raise AprqaError("`oracles` is empty, so nothing is judged; name at least one oracle")
    return ApplicableOracle(members)


def why_inapplicable(spec: OracleSpec, question: str) -> str | None:
    """Return why the oracle can judge no answer to the question, and what to do; None if it can."""
    match spec:
        case PluginSpec():
            from pytest_aprqa.oracles.plugins import why_plugin_inapplicable

            return why_plugin_inapplicable(spec, question)
        case ArithmeticSpec():
            from pytest_aprqa.oracles.arithmetic.oracle import why_inapplicable as arithmetic

            return arithmetic(spec, question)
        case CodeSyntaxSpec():
            from pytest_aprqa.oracles.code_syntax.oracle import why_inapplicable as code

            return code(spec, question)
        case ResponseSpec():
            from pytest_aprqa.oracles.response.oracle import why_inapplicable as response

            return response(spec, question)
        case RegexSpec():
            from pytest_aprqa.oracles.pattern import why_inapplicable as pattern

            return pattern(spec)
        case ContainsSpec():
            from pytest_aprqa.oracles.literal import why_contains_inapplicable

            return why_contains_inapplicable(spec)
        case CompositeSpec():
            return _why_composite(spec, question)
        case _:
            return None


def _why_composite(spec: CompositeSpec, question: str) -> str | None:
    if not (spec.all or spec.any or spec.none):
        return EMPTY_COMPOSITE
    for member in spec.all:
        if problem := why_inapplicable(member, question):
            return f"all: {member.type}: {problem}"
    for name, members in (("any", spec.any), ("none", spec.none)):
        problems = [(member.type, why_inapplicable(member, question)) for member in members]
        if problems and all(problem for _, problem in problems):
            return "; ".join(f"{name}: {type_}: {problem}" for type_, problem in problems)
    return None
