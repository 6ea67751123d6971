"""`aprqa trace`: what happens inside one forward pass, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.cli.engine_source import add_model, loaded
from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.trace import TraceLevel

if TYPE_CHECKING:
    import argparse

    from pytest_aprqa.domain.trace import ModuleTrace, Trace

NAME = "trace"
HELP = "look into one forward pass: statistics of every layer, attention, norms"
DESCRIPTION = """\
One forward pass over a prompt with every module looked at, at four levels: none (nothing but that
the pass runs), basic (each module and its time), layer (statistics of the embedding, every layer,
the last norm and the head), payload (of every module, with first values, attention and norms).
Needs transformers, which runs safetensors and APR; llama.cpp's library offers no look inside.
Status 1 when a module gives NaN or an infinity.
"""
EXAMPLES = """\
examples:
  aprqa trace embedded/aprqa-tiny
  aprqa trace model.apr --level payload --prompt "The capital of France is" --json
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa trace`."""
    add_model(command)
    command.add_argument(
        "--level",
        choices=[level.value for level in TraceLevel],
        default=TraceLevel.LAYER.value,
        help="how much is recorded (default: layer)",
    )


def run(chosen: argparse.Namespace) -> Exit:
    """Print the trace; status 1 when something in it is not finite."""
    with loaded(chosen) as (_target, engine):
        trace_of = getattr(engine, "trace", None)
        if trace_of is None:
            raise AprqaError(
                f"{chosen.model}: {engine.name} offers no look into a pass; expected safetensors "
                "or APR, which transformers runs"
            )
        ids = engine.tokenize(chosen.prompt, special=True)
        trace: Trace = trace_of(ids, TraceLevel(chosen.level)).trace
    broken = [m for m in trace.modules if m.values is not None and m.values.not_finite]
    if chosen.json:
        write_json({"model": chosen.model, "prompt": chosen.prompt, **trace.as_json()})
    else:
        _show(Screen(), trace)
    return Exit.WRONG if broken else Exit.FINE


def _show(screen: Screen, trace: Trace) -> None:
    columns = ["module", "kind", "ms", "mean", "std", "min", "max", "l2", "zeros", "not finite"]
    screen.table(columns, [_row(module) for module in trace.modules], right=columns[2:])
    if trace.residuals:
        columns = ["layer", "change", "cosine", "attention", "mlp", "rms"]
        rows = [
            [
                r.name,
                f"{r.change:.3g}",
                f"{r.cosine:.3f}",
                _number(r.attention),
                _number(r.mlp),
                f"{r.rms_out:.3g}",
            ]
            for r in trace.residuals
        ]
        screen.line()
        screen.table(columns, rows, right=columns[1:])
    if trace.attention:
        columns = ["attention", "heads", "least entropy", "largest entropy", "row sums"]
        seen = [
            [
                a.name,
                str(len(a.entropy)),
                _number(min(a.entropy, default=None)),
                _number(max(a.entropy, default=None)),
                f"{a.row_low:.6g} to {a.row_high:.6g}",
            ]
            for a in trace.attention
        ]
        screen.line()
        screen.table(columns, seen, right=columns[1:])
    for remark in trace.remarks:
        screen.line(f"not recorded: {remark}", style="yellow")
    broken = next((m for m in trace.modules if m.values and m.values.not_finite), None)
    screen.line()
    screen.line(
        f"{len(trace.token_ids)} tokens through {trace.layers} layers in "
        f"{1e3 * trace.seconds:.3g} ms, level {trace.level}"
    )
    if broken is not None:
        screen.line(f"{broken.name} is the first that gives NaN or infinities", style="red")


def _row(module: ModuleTrace) -> list[str]:

    v = module.values
    shown = ["-"] * 7
    if v is not None:
        numbers = (v.mean, v.std, v.minimum, v.maximum, v.l2)
        shown = [*(f"{x:.4g}" for x in numbers), f"{100 * v.zeros:.3g} %", str(v.not_finite)]
    return [module.name, module.kind, f"{1e3 * module.seconds:.3f}", *shown]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
