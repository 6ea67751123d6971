"""Gates over what a chat template could do to the program that renders it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.conversion.portable import TOKENIZER_FILES
from pytest_aprqa.conversion.tokenizers.source import chat_templates
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.engines.llamacpp_template import chat_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATES: Family[ModelLab] = Family(
    domain="template-safety",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.TEMPLATE,
    source="Jinja2, The Sandbox: templates of others are untrusted code",
)
_P0 = Severity.P0
STEPS = 100_000
"""Rounds of counted loops that one rendering may take: Jinja's sandbox allows one loop as many
(MAX_RANGE), whatever stands inside of it."""
CHARACTERS = 1_000_000
"""Length that a rendering may have, or one text within it."""
_HIDDEN = re.compile(r"__[a-z]+__")
_WIDTH = re.compile(r"%[-+ #0]*(\d{6,}|\*)|:[^{}]*\d{6,}")
_CONVERSATION = (
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "How are you?"},
)


@dataclass(frozen=True, slots=True)
class Templates:
    """The chat templates by name: their sources, and their trees where Jinja reads them."""

    sources: dict[str, str]
    trees: dict[str, Any]


def templates(lab: ModelLab) -> Templates:
    """Every chat template beside the weights."""
    import jinja2

    found = {
        name: path.read_bytes()
        for name in TOKENIZER_FILES
        if "chat_template" in name or name == "tokenizer_config.json"
        if (path := lab.directory / name).is_file()
    }
    sources, trees = chat_templates(found), {}
    for name, source in sources.items():
        try:
            trees[name] = chat_environment().parse(source)
        except jinja2.TemplateSyntaxError:
            continue  # no engine renders it, and another gate says so
    return Templates(sources, trees)


class Unbounded(Exception):
    """A rendering takes more than it may."""


def _judged(lab: ModelLab, wrong: Any, healthy: str) -> Finding:
    """Refuted by the first template of which `wrong(name, tree)` says something."""
    found = lab.once(templates)
    if not found.trees:
        return without_meaning("there is no chat template that Jinja reads")
    for name in found.trees:
        if told := wrong(name, found):
            return refuted(f"chat template {name!r}: {told}", culprit=f"chat template {name}")
    return held(f"{len(found.trees)} chat templates {healthy}")


@TEMPLATES.gate(
    "F-SEC-TEMPLATE-001", "No chat template reaches for Python's own attributes.", severity=_P0
)
def no_hidden_attribute(lab: ModelLab) -> Finding:
    """`__class__` and its like are the way out of a template; none is ever of use in one."""

    def wrong(name: str, found: Templates) -> str:
        return next((f"reaches for {text!r}" for text in _reached(found.trees[name])), "")

    return _judged(lab, wrong, "without hidden attributes")


def _reached(tree: Any) -> Iterator[str]:
    from jinja2 import nodes

    for node in tree.find_all((nodes.Getattr, nodes.Const)):
        text = node.attr if isinstance(node, nodes.Getattr) else node.value
        if isinstance(text, str) and _HIDDEN.fullmatch(text):
            yield text


@TEMPLATES.gate("F-SEC-TEMPLATE-002", "No chat template loads other files.", severity=_P0)
def no_other_files(lab: ModelLab) -> Finding:
    """A template is one text: import, include and extends read from the machine's disk."""
    from jinja2 import nodes

    kinds = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)

    def wrong(name: str, found: Templates) -> str:
        first = next(iter(found.trees[name].find_all(kinds)), None)
        return "" if first is None else f"{type(first).__name__.lower()} in line {first.lineno}"

    return _judged(lab, wrong, "that stand alone")


@TEMPLATES.gate("F-SEC-TEMPLATE-003", "Rendering a short chat takes bounded time and memory.")
def rendering_is_bounded(lab: ModelLab) -> Finding:
    """Loops, repeated texts and the whole are counted, and stopped at a limit."""
    unrendered: list[str] = []

    def wrong(name: str, found: Templates) -> str:
        try:
            _render(found.sources[name])
        except Unbounded as error:
            return str(error)
        except Exception as error:  # the template's own refusal: in whatever words
            unrendered.append(f"{name}: {error}")
        return ""

    finding = _judged(lab, wrong, "within bounds")
    if unrendered and len(unrendered) == len(lab.once(templates).trees):
        return undecided(f"no chat template renders a short chat: {unrendered[0]}")
    return finding


def _render(source: str) -> None:
    """Render a short chat piece by piece.

    Raises:
        Unbounded: at the limit of steps or characters.
    """
    length = 0
    for piece in (
        _bounded_environment()
        .from_string(source)
        .generate(
            messages=[dict(message) for message in _CONVERSATION],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
        )
    ):
        length += len(piece)
        if length > CHARACTERS:
            raise Unbounded(f"renders more than {CHARACTERS} characters for a short chat")


def _bounded_environment() -> Any:
    """The environment of chat templates, in which whatever may grow is counted."""
    environment = chat_environment()
    taken = 0

    def counted(*bounds: int) -> range:
        nonlocal taken
        steps = range(*bounds)
        taken += max(0, (steps.stop - steps.start) // (steps.step or 1))
        if taken > STEPS:
            raise Unbounded(f"counts through more than {STEPS} steps")
        return steps

    environment.globals["range"] = counted
    environment.intercepted_binops = frozenset(("*", "**", "%"))
    environment.call_binop = _operate
    call = environment.call
    center, written = environment.filters["center"], environment.filters["format"]

    def small(context: Any, function: Any, *given: Any, **named: Any) -> Any:
        # Jinja wraps `str.format`; the text that it formats is the wrapped method's own.
        _refuse_width(getattr(getattr(function, "__wrapped__", None), "__self__", None))
        _refuse_huge((*given, *named.values()) if function is not counted else ())
        return call(context, function, *given, **named)

    def formatted(text: Any, *given: Any, **named: Any) -> Any:
        _refuse_width(text)
        return written(text, *given, **named)

    def centered(text: str, width: int = 80) -> Any:
        _refuse_huge((width,))
        return center(text, width)

    environment.call = small
    environment.filters |= {"center": centered, "format": formatted}
    return environment


def _refuse_huge(given: tuple[Any, ...]) -> None:
    """A width or a count beyond any that a text for a model needs (`ljust(10**9)`)."""
    for value in given:
        if isinstance(value, int) and value > CHARACTERS:
            raise Unbounded(f"calls a function for {value} characters")


def _refuse_width(text: Any) -> None:
    """A format that pads by more than any text for a model needs."""
    if isinstance(text, str) and _WIDTH.search(text):
        raise Unbounded(f"pads a text by {text!r:.40}")


def _operate(context: Any, operator: str, left: Any, right: Any) -> Any:
    """What the operator gives, unless it would be huge."""
    if operator == "%":
        _refuse_width(left)
        return left % right
    if operator == "**":
        if abs(left) > 1 and abs(right) > 64:
            raise Unbounded(f"raises {left} to the power of {right}")
        return left**right
    sized = [v for v in (left, right) if isinstance(v, str | list | tuple)]
    times = [v for v in (left, right) if isinstance(v, int)]
    if sized and times and len(sized[0]) * times[0] > CHARACTERS:
        raise Unbounded(f"repeats {len(sized[0])} characters {times[0]} times")
    return left * right


FAMILIES = (TEMPLATES,)
