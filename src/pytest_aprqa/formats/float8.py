"""The 256 values of each 8-bit float, as tables that bytes are looked up in.

Sources: https://arxiv.org/abs/2209.05433 (E4M3, E5M2), https://arxiv.org/abs/2206.02915 (FNUZ), the
Open Compute Project's Microscaling Formats specification, version 1.0 (E8M0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


@dataclass(frozen=True, slots=True)
class _Layout:
    mantissa: int
    bias: int
    infinite: bool = False
    """The largest exponent is of infinities and NaN, as in IEEE 754."""
    unsigned_zero: bool = False
    """There is one NaN, at minus zero's place."""


_LAYOUTS: Mapping[str, _Layout] = MappingProxyType(
    {
        "F8_E4M3": _Layout(3, 7),
        "F8_E5M2": _Layout(2, 15, infinite=True),
        "F8_E4M3FNUZ": _Layout(3, 8, unsigned_zero=True),
        "F8_E5M2FNUZ": _Layout(2, 16, unsigned_zero=True),
    }
)
FLOAT8 = (*_LAYOUTS, "F8_E8M0")
"""The 8-bit floats, by their safetensors names."""


@cache
def float8_values(name: str) -> np.ndarray[Any, Any]:
    """The float32 value of each byte, [256]; every one is exact."""
    import numpy as np

    codes = np.arange(256)
    if name == "F8_E8M0":  # powers of two, the scales of blocks; the last is NaN
        powers = np.ldexp(np.ones(256, np.float32), codes - 127)
        return _fixed(np.where(codes == 255, np.float32(np.nan), powers))
    layout = _LAYOUTS[name]
    fraction = codes & ((1 << layout.mantissa) - 1)
    exponent = (codes & 0x7F) >> layout.mantissa
    whole = np.where(exponent > 0, (1 << layout.mantissa) + fraction, fraction)
    power = np.maximum(exponent, 1) - layout.bias - layout.mantissa
    values = np.ldexp(whole.astype(np.float32), power)
    if layout.infinite:
        top = exponent == exponent.max()
        values[top] = np.where(fraction[top] == 0, np.inf, np.nan)
    elif not layout.unsigned_zero:
        values[(codes & 0x7F) == 0x7F] = np.nan
    values = np.where(codes & 0x80, -values, values)
    if layout.unsigned_zero:
        values[0x80] = np.nan
    return _fixed(values)


def _fixed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    table: np.ndarray[Any, Any] = values.astype(np.float32)
    table.flags.writeable = False
    return table
