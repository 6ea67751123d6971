"""What a playbook says of an oracle: its type and its settings, one frozen type for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag

Language = Literal[
    "python", "javascript", "typescript", "rust", "go", "java", "c", "cpp", "sql", "bash"
]
"""Languages with a real parser behind `code_syntax`."""

PLUGIN = "a name with a dot"
"""The tag of oracles of other packages; no built-in oracle is called so."""
PLUGIN_NAME = r"^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+$"
"""The names that oracles of other packages have, such as `acme.polite`."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ArithmeticSpec(_Spec):
    """The answer holds the value of the question's expression, as a number of its own."""

    type: Literal["arithmetic"] = "arithmetic"
    expected: float | None = None
    """The value; None computes it from the question."""
    tolerance: float = Field(default=1e-9, ge=0)
    """Largest accepted absolute difference between the number found and the value."""


class GarbageSpec(_Spec):
    """The answer is text a person or a program could have meant."""

    type: Literal["garbage"] = "garbage"
    max_repetition_ratio: float = Field(default=0.3, gt=0, le=1)
    """Largest share of a long answer that copies of one repeated unit may fill beyond the first."""
    min_unique_chars: int = Field(default=10, ge=0)
    """Fewest distinct characters in an answer long enough to need them."""


class CodeSyntaxSpec(_Spec):
    """The answer holds code that a real parser of the language accepts."""

    type: Literal["code_syntax"] = "code_syntax"
    language: Language | None = None
    languages: tuple[Language, ...] = ()
    """Accepted languages when `language` is not given; empty means every language known."""


class ResponseSpec(_Spec):
    """The answer is about the question and keeps its stated form."""

    type: Literal["response"] = "response"
    min_relevance: float | None = Field(default=None, ge=0, le=1)
    """Smallest share of the question's content words (or their kin) met in the answer."""
    keywords: tuple[str, ...] = ()
    """Words of which at least one must appear."""
    sentences: int | None = Field(default=None, ge=1)
    items: int | None = Field(default=None, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    json_schema: dict[str, Any] | None = None
    """The answer is (or fences) JSON that fits this schema."""


class ExactSpec(_Spec):
    """The answer, stripped, is this text."""

    type: Literal["exact"] = "exact"
    expected: str
    ignore_case: bool = False


class RegexSpec(_Spec):
    """A regular expression is found in the answer (Python's `re.search`)."""

    type: Literal["regex"] = "regex"
    pattern: str


class ContainsSpec(_Spec):
    """The answer holds every one of these texts."""

    type: Literal["contains"] = "contains"
    expected: str | tuple[str, ...]
    ignore_case: bool = True


class OneOfSpec(_Spec):
    """The answer, stripped of space and end punctuation, is one of these texts."""

    type: Literal["one_of"] = "one_of"
    expected: tuple[str, ...] = Field(min_length=1)
    ignore_case: bool = True


class CompositeSpec(_Spec):
    """Several oracles together: every one of `all`, one of `any`, not one of `none`."""

    type: Literal["composite"] = "composite"
    all: tuple[OracleSpec, ...] = ()
    any: tuple[OracleSpec, ...] = ()
    none: tuple[OracleSpec, ...] = ()


class PluginSpec(_Spec):
    """An oracle of another package, by its own name, which has a dot in it."""

    type: str = Field(pattern=PLUGIN_NAME)
    settings: Mapping[str, JsonValue] = Field(default_factory=dict)
    """What the package's factory is called with, by keyword."""


def is_plugin_name(name: str) -> bool:
    """Whether an oracle's name is one that other packages may use."""
    return re.fullmatch(PLUGIN_NAME, name) is not None


def _kind_of(value: Any) -> str | None:
    """Which type a mapping or a spec is meant to be, by its `type`."""
    name = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if not isinstance(name, str):
        return None
    return PLUGIN if is_plugin_name(name) else name


OracleSpec = Annotated[
    Annotated[ArithmeticSpec, Tag("arithmetic")]
    | Annotated[GarbageSpec, Tag("garbage")]
    | Annotated[CodeSyntaxSpec, Tag("code_syntax")]
    | Annotated[ResponseSpec, Tag("response")]
    | Annotated[ExactSpec, Tag("exact")]
    | Annotated[RegexSpec, Tag("regex")]
    | Annotated[ContainsSpec, Tag("contains")]
    | Annotated[OneOfSpec, Tag("one_of")]
    | Annotated[CompositeSpec, Tag("composite")]
    | Annotated[PluginSpec, Tag(PLUGIN)],
    Discriminator(_kind_of),
]

BUILT_IN: Mapping[str, type[OracleSpec]] = MappingProxyType(
    {
        spec.model_fields["type"].default: spec
        for spec in (
            ArithmeticSpec,
            GarbageSpec,
            CodeSyntaxSpec,
            ResponseSpec,
            ExactSpec,
            RegexSpec,
            ContainsSpec,
            OneOfSpec,
            CompositeSpec,
        )
    }
)
"""The oracles of this package, by name."""

CompositeSpec.model_rebuild()
