"""A user's contract: claims about a model's tensors, config and files, as data."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_OPERATIONS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv)
_LONGEST = 200


class ExpressionError(ValueError):
    """A size expression cannot be worked out; the message says why."""


def _checked(expression: int | str) -> int | str:
    if isinstance(expression, str):
        _tree(expression)
    return expression


Size = Annotated[int | str, AfterValidator(_checked)]
"""A whole number, or an expression over keys of config.json: `num_attention_heads * head_dim`."""


def _tree(expression: str) -> ast.expr:
    """The expression's tree, of numbers, names, + - * // and parentheses alone."""
    if len(expression) > _LONGEST:
        raise ExpressionError(f"an expression has at most {_LONGEST} characters")
    try:
        body = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"{expression!r} is no expression; write a * b") from error
    for node in ast.walk(body):
        number = isinstance(node, ast.Constant) and type(node.value) is int
        operation = isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATIONS)
        if not (number or operation or isinstance(node, (ast.Name, ast.Load, *_OPERATIONS))):
            raise ExpressionError(
                f"{expression!r}: only whole numbers, keys of config.json, + - * // and "
                "parentheses are read"
            )
    return body


def evaluated(size: int | str, config: Mapping[str, object]) -> int:
    """The size as a number, with the config's keys in it.

    A key is looked for in `text_config` too, where the config has one; `head_dim` that is not
    stated is hidden_size // num_attention_heads.

    Raises:
        ExpressionError: the config has no such whole number, or a division by zero.
    """
    return size if isinstance(size, int) else _value(_tree(size), config)


def _value(node: ast.expr, config: Mapping[str, object]) -> int:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int)
        return node.value
    if isinstance(node, ast.Name):
        return _key(node.id, config)
    assert isinstance(node, ast.BinOp)
    left, right = _value(node.left, config), _value(node.right, config)
    if isinstance(node.op, ast.FloorDiv):
        if right == 0:
            raise ExpressionError("a division by zero")
        return left // right
    if isinstance(node.op, ast.Mult):
        return left * right
    return left + right if isinstance(node.op, ast.Add) else left - right


def _key(name: str, config: Mapping[str, object]) -> int:
    inner = config.get("text_config")
    for place in (config, inner if isinstance(inner, Mapping) else {}):
        value = place.get(name)
        if type(value) is int:
            return value
    if name == "head_dim":
        return _key("hidden_size", config) // max(_key("num_attention_heads", config), 1)
    raise ExpressionError(f"config.json has no whole number {name!r}")


class _Part(BaseModel):
    """Immutable, and closed: a key it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Bounds(_Part):
    """The least and the largest that a number may be; either may be left open."""

    least: _Number | None = None
    """Nothing below it."""
    most: _Number | None = None
    """Nothing above it."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("give least, most or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least is above most")
        return self

    def hold(self, number: float) -> bool:
        """Whether the number is within; NaN never is."""
        above = self.least is None or number >= self.least
        return above and (self.most is None or number <= self.most) and number == number


class TensorClaim(_Part):
    """What is claimed of the tensors whose names fit a pattern."""

    names: _Text
    """A name, in which `*` stands for any characters."""
    count: Size | None = None
    """How many there are; at least one when absent."""
    shape: tuple[Size, ...] | None = None
    """The shape of each, outermost dimension first."""
    dtypes: tuple[_Text, ...] = ()
    """The encodings that are allowed, such as BF16; empty allows all."""
    mean: Bounds | None = None
    """Of each tensor's values."""
    std: Bounds | None = None
    """Of each tensor's values."""
    min: Bounds | None = None
    """Of each tensor's values."""
    max: Bounds | None = None
    """Of each tensor's values."""

    @property
    def bounds(self) -> Mapping[Literal["mean", "std", "min", "max"], Bounds]:
        """The statistics that are bounded."""
        named = {"mean": self.mean, "std": self.std, "min": self.min, "max": self.max}
        return {name: given for name, given in named.items() if given is not None}  # type: ignore[misc]


class MetadataClaim(_Part):
    """What is claimed of the keys of config.json."""

    required: tuple[_Text, ...] = ()
    """Keys that are there; dots lead into objects."""
    forbidden: tuple[_Text, ...] = ()
    """Keys that are not."""
    equal: Mapping[_Text, str | bool | int | float | None] = Field(default_factory=dict)
    """Keys that have exactly this value."""


class FileClaim(_Part):
    """What is claimed of one file beside the weights."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """Its name in the model's directory, no path."""
    present: bool = True
    """Whether it is there."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Its digest, in hexadecimal."""


class Contract(_Part):
    """A file of claims."""

    contract: _Text
    """Its name in findings."""
    tensors: tuple[TensorClaim, ...] = ()
    """Claims about tensors."""
    metadata: MetadataClaim = MetadataClaim()
    """Claims about config.json."""
    files: tuple[FileClaim, ...] = ()
    """Claims about files."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        claims = self.metadata.required or self.metadata.forbidden or self.metadata.equal
        if not (self.tensors or self.files or claims):
            raise ValueError("a contract without claims; give tensors, metadata or files")
        return self
