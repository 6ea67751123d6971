"""Evaluate conditions on a run's evidence, in three values: true, false, and not measured."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_aprqa.domain.conditions.facts import (
    ANSWER_NAMES,
    FUNCTIONS,
    RUN_NAMES,
    Situation,
    Value,
    answers,
    known_names,
)
from pytest_aprqa.domain.conditions.syntax import (
    Call,
    ConditionError,
    Constant,
    Name,
    Node,
    Operation,
    parse,
)
from pytest_aprqa.domain.evidence import RunRecord
from pytest_aprqa.domain.verdict import Ruling

_NAMES = frozenset((*ANSWER_NAMES, *RUN_NAMES))
NEAR = 0.05
"""How far apart, as a share of the larger, numbers may be that are `≈`."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a condition came to on a run's evidence."""

    ruling: Ruling
    reason: str


def mistakes_in(condition: str) -> Iterator[str]:
    """What is wrong with a condition before any evidence is there: syntax, unknown names."""
    try:
        tree = parse(condition)
    except ConditionError as error:
        yield str(error)
        return
    for node in _nodes(tree):
        if isinstance(node, Name) and node.name not in _NAMES:
            yield _unknown(node.name)
        elif isinstance(node, Call) and node.name not in FUNCTIONS:
            yield _unknown(f"{node.name}()")
        elif isinstance(node, Call) and len(node.arguments) != FUNCTIONS[node.name].takes:
            takes = FUNCTIONS[node.name].takes
            yield f"{node.name}() takes {takes} values, got {len(node.arguments)}"


def conclude(condition: str, record: RunRecord) -> Conclusion:
    """Whether the condition holds of the run, and of each of its answers if it speaks of one.

    It is refuted by the first answer of which it is false. Where nothing that it speaks of was
    measured, it is inapplicable.

    Raises:
        ConditionError: it cannot be read.
    """
    tree = parse(condition)
    about_answers = any(_is_of_answer(node) for node in _nodes(tree))
    situations = (
        [Situation(record, item) for item in answers(record)]
        if about_answers
        else [Situation(record)]
    )
    found = [(situation, _truth(_value(tree, situation))) for situation in situations]
    false = [situation for situation, value in found if value is False]
    true = [situation for situation, value in found if value is True]
    if false:
        where = f"{len(false)} of {len(found)} answers, first " if about_answers else ""
        told = f"{condition} is false of {where}{false[0].told}{_values(tree, false[0])}"
        return Conclusion(Ruling.FALSIFIED, told)
    if true:
        where = f"all {len(true)} answers that say it" if about_answers else "the run"
        return Conclusion(
            Ruling.CORROBORATED, f"{condition} holds of {where}{_values(tree, true[0])}"
        )
    lacking = ", ".join(dict.fromkeys(_lacking(tree, situations)))
    return Conclusion(Ruling.INAPPLICABLE, f"{condition}: nothing measured {lacking or 'it'}")


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, list(known_names()), n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(known_names())}"
    return f"nothing measures {name!r}; {hint}"


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    children = (
        node.operands
        if isinstance(node, Operation)
        else node.arguments
        if isinstance(node, Call)
        else ()
    )
    for child in children:
        yield from _nodes(child)


def _is_of_answer(node: Node) -> bool:
    if isinstance(node, Name):
        return node.name in ANSWER_NAMES
    return isinstance(node, Call) and FUNCTIONS[node.name].of_answer


def _values(tree: Node, situation: Situation) -> str:
    """The numbers that the condition's names had, in words."""
    names = dict.fromkeys(node.name for node in _nodes(tree) if isinstance(node, Name))
    told = [
        f"{name} {value:.6g}"
        for name in names
        if isinstance(value := _named(name, situation), float)
    ]
    return f" ({', '.join(told)})" if told else ""


def _lacking(tree: Node, situations: list[Situation]) -> Iterator[str]:
    for node in _nodes(tree):
        if isinstance(node, Name | Call) and all(_value(node, s) is None for s in situations):
            yield node.name


def _named(name: str, situation: Situation) -> Value:
    if name in RUN_NAMES:
        return RUN_NAMES[name](situation.record)
    return None if situation.answer is None else ANSWER_NAMES[name](situation.answer)


def _value(node: Node, situation: Situation) -> Value:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Name):
        return _named(node.name, situation)
    if isinstance(node, Call):
        given = [_value(argument, situation) for argument in node.arguments]
        function = FUNCTIONS[node.name]
        return None if None in given else function.apply(situation, given)
    if node.sign in ("&&", "||", "!", "=>", "?"):
        return _logic(node, situation)
    left, right = (_value(operand, situation) for operand in node.operands)
    return None if left is None or right is None else _operate(node.sign, left, right)


def _logic(node: Operation, situation: Situation) -> Value:
    """Kleene's logic: what is not measured decides nothing, and nothing that others decide."""
    values = [_truth(_value(operand, situation)) for operand in node.operands]
    if node.sign == "!":
        return None if values[0] is None else not values[0]
    if node.sign == "?":
        return None if values[0] is None else values[1] if values[0] else values[2]
    first, second = values
    if node.sign == "=>":
        first = None if first is None else not first
    wanted = node.sign != "&&"
    if first is wanted or second is wanted:
        return wanted
    return None if first is None or second is None else not wanted


def _truth(value: Value) -> bool | None:
    return None if value is None else bool(value)


def _operate(sign: str, left: Value, right: Value) -> Value:
    if sign == "==":
        return left == right
    if sign == "!=":
        return left != right
    if not isinstance(left, float | bool) or not isinstance(right, float | bool):
        return None
    a, b = float(left), float(right)
    if sign == "/":
        return a / b if b else None
    results: dict[str, Value] = {
        "<": a < b,
        "<=": a <= b,
        ">": a > b,
        ">=": a >= b,
        "≈": math.isclose(a, b, rel_tol=NEAR),
        "+": a + b,
        "-": a - b,
        "*": a * b,
    }
    return results[sign]
