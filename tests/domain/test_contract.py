from __future__ import annotations

import pytest

from pytest_aprqa.domain.contract import Bounds, ExpressionError, TensorClaim, evaluated

CONFIG = {"hidden_size": 256, "num_attention_heads": 8, "tied": True, "rate": 0.5}


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        (7, 7),
        ("hidden_size", 256),
        ("num_attention_heads * head_dim", 256),
        ("(hidden_size + 6) // 4 - 1", 64),
    ],
)
def test_a_size_is_a_number_or_an_expression(expression: int | str, size: int) -> None:
    assert evaluated(expression, CONFIG) == size


def test_keys_are_looked_for_in_the_text_model_too() -> None:
    assert evaluated("width", {"text_config": {"width": 5}}) == 5


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "hidden_size ** 9",
        "hidden_size.real",
        "[1][0]",
        "1 if 2 else 3",
        "1.5",
        "'a'",
        "-1",
        "lambda: 1",
        "1 +",
        "(" * 150,
        "1" * 201,
    ],
)
def test_nothing_else_is_an_expression(expression: str) -> None:
    with pytest.raises(ValueError, match=r"expression|parentheses are read"):
        TensorClaim(names="a", count=expression)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("missing", "no whole number 'missing'"),
        ("tied", "no whole number 'tied'"),
        ("rate", "no whole number 'rate'"),
        ("hidden_size // (num_attention_heads - 8)", "a division by zero"),
    ],
)
def test_what_the_config_does_not_have_is_told(expression: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=told):
        evaluated(expression, CONFIG)


def test_bounds_hold_what_is_between_and_never_nan() -> None:
    bounds = Bounds(least=-1, most=1)

    assert [bounds.hold(x) for x in (-1, 0, 1, 1.1, -1.1, float("nan"))] == [True] * 3 + [False] * 3
    assert not Bounds(most=1).hold(float("nan"))


@pytest.mark.parametrize("bounds", [{}, {"least": 2, "most": 1}])
def test_bounds_that_bound_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="least"):
        Bounds.model_validate(bounds)
