"""What a format cannot hold, told before any file is touched."""

from __future__ import annotations

from pytest_aprqa.domain.conversions import APR_QUANTIZATIONS
from pytest_aprqa.domain.model import Format, Quantization

_PLAIN = (Quantization.F32, Quantization.F16, Quantization.BF16)


def why_impossible(format_: Format, quantization: Quantization | None) -> str | None:
    """Why a format cannot hold a quantization; None when it can."""
    if quantization is None or quantization in _PLAIN or format_ is Format.GGUF:
        return None
    if format_ is Format.SAFETENSORS:
        plain = ", ".join(_PLAIN)
        return f"safetensors hold no {quantization}; expected one of {plain}, or a .gguf file"
    if quantization in APR_QUANTIZATIONS:
        return None
    return (
        f"APR has no {quantization} that all its readers understand; "
        f"expected {', '.join(APR_QUANTIZATIONS)}"
    )
