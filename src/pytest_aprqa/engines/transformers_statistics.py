"""Statistics of what modules gave, in float32 and on the device that holds it."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.domain.trace import AttentionTrace, NormTrace, ResidualTrace, ValueStats

_LEAST = 1e-30


def value_stats(tensor: Any, *, first: int = 0) -> ValueStats:
    """Statistics of a tensor, and the first values of its last row."""
    import torch

    values = tensor.detach().float()
    finite = torch.isfinite(values)
    nan = int(torch.isnan(values).sum())
    good = values if bool(finite.all()) else values[finite]
    empty = good.numel() == 0
    low, high = (0.0, 0.0) if empty else (float(good.min()), float(good.max()))
    rows = values.reshape(-1, values.shape[-1]) if values.dim() else values.reshape(1, 1)
    shown = rows[-1][:first].tolist() if first else []
    return ValueStats(
        size=values.numel(),
        nan=nan,
        inf=values.numel() - int(finite.sum()) - nan,
        mean=0.0 if empty else float(good.mean()),
        std=0.0 if empty else float(good.std(correction=0)),
        minimum=low,
        maximum=high,
        max_abs=max(abs(low), abs(high)),
        l2=float(good.double().norm()),
        zeros=float((good == 0).float().mean()) if not empty else 0.0,
        first=tuple(v if -1e38 < v < 1e38 else None for v in shown),
    )


def residual_of(
    layer: int,
    name: str,
    given: Any,
    gave: Any,
    *,
    attention: Any,
    mlp: Any,
    neurons: float | None,
    heads: Any,
    head_count: int,
) -> ResidualTrace:
    """What a layer that was `given` [1, tokens, width] and `gave` the same did."""
    import torch

    before, after = (t.reshape(-1, t.shape[-1]).float() for t in (given, gave))
    size = before.norm(dim=-1).clamp_min(_LEAST)
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)

    def share(added: Any) -> float | None:
        if added is None or added.shape[-1] != before.shape[-1]:
            return None
        return _median(added.reshape(-1, added.shape[-1]).float().norm(dim=-1) / size)

    by_head: tuple[float, ...] = ()
    if heads is not None and head_count and heads.shape[-1] % head_count == 0:
        split = heads.reshape(-1, head_count, heads.shape[-1] // head_count).float()
        by_head = tuple(split.square().mean(dim=(0, 2)).sqrt().tolist())
    return ResidualTrace(
        layer=layer,
        name=name,
        change=_median((after - before).norm(dim=-1) / size),
        cosine=_median(cosine),
        rms_in=_median(before.square().mean(dim=-1).sqrt()),
        rms_out=_median(after.square().mean(dim=-1).sqrt()),
        attention=share(attention),
        mlp=share(mlp),
        dead_neurons=neurons,
        head_rms=by_head,
    )


def attention_of(module: Any, name: str, layer: int, weights: Any) -> AttentionTrace:
    """What one layer's attention weights [1, heads, tokens, tokens] are like."""
    import torch

    found = weights[0].float()
    tokens = found.shape[-1]
    rows = found.sum(dim=-1)
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=found.device).triu(1)
    entropy: tuple[float, ...] = ()
    if tokens > 1:
        bits = -(found * found.clamp_min(_LEAST).log()).sum(dim=-1)[:, 1:]
        most = torch.arange(2, tokens + 1, device=found.device).float().log()
        entropy = tuple((bits / most).mean(dim=-1).tolist())
    return AttentionTrace(
        layer=layer,
        name=name,
        entropy=entropy,
        row_low=float(rows.min()),
        row_high=float(rows.max()),
        lowest=float(found.min()),
        highest=float(found.max()),
        ahead=float(found[:, later].max()) if tokens > 1 else 0.0,
        sinks=getattr(module, "sinks", None) is not None,
        dtype=str(weights.dtype).removeprefix("torch."),
    )


def norm_of(module: Any, name: str, given: Any, gave: Any) -> NormTrace | None:
    """How a norm compares with the plain formula; None where it is no norm over the last axis.

    RMSNorm divides by the root mean square, LayerNorm subtracts the mean first; the weight is as
    stored, or one more (Gemma): the reading that fits best is taken.
    """
    weight = getattr(module, "weight", None)
    if given is None or given.shape != gave.shape:
        return None
    if weight is not None and tuple(weight.shape) != (given.shape[-1],):
        return None
    x, y = (t.reshape(-1, t.shape[-1]).float() for t in (given, gave))
    some = x.abs().amax(dim=-1) > 0  # of a vector of zeros a norm makes nothing
    if not bool(some.any()):
        return None
    x, y = x[some], y[some]
    bias = getattr(module, "bias", None)
    y = y if bias is None else y - bias.float()
    gains = [1.0] if weight is None else [weight.float(), 1.0 + weight.float()]
    fits = []
    for centred in (x, x - x.mean(dim=-1, keepdim=True)):
        unit = centred / centred.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(_LEAST)
        for gain in gains:
            plain = unit * gain
            both = (plain * y).sum(dim=-1)
            length = plain.norm(dim=-1).clamp_min(_LEAST)
            cosine = both / length / y.norm(dim=-1).clamp_min(_LEAST)
            scale = both / length.square()
            fits.append((float(cosine.min()), _median(scale), float(scale.max())))
    # A sum of squares can be equal for two readings: then the scale nearer to 1 is meant.
    best = max(fits, key=lambda fit: (round(fit[0], 3), -abs(fit[1] - 1)))
    return NormTrace(name, scale=best[1], scale_high=best[2], cosine=best[0])


def _median(values: Any) -> float:
    return float(values.median())
