"""`aprqa profile`: how fast a model answers, where a pass spends its time, against a baseline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aprqa.cli.engine_source import add_model, loaded
from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json

if TYPE_CHECKING:
    from pytest_aprqa.domain.profile import Estimate, Profile
    from pytest_aprqa.domain.trace import Trace

NAME = "profile"
HELP = "measure throughput, time to first token, token times and memory"
DESCRIPTION = """\
Runs a prompt again and again, warmed up, greedily and past any end token, and tells medians with
the interval that holds each in 95 of 100 cases. --save-baseline keeps the profile for a playbook's
profile_ci.baseline. --flame draws where one forward pass spends its time (safetensors and APR).
"""
EXAMPLES = """\
examples:
  aprqa profile embedded/aprqa-tiny
  aprqa profile model.gguf --measure 30 --save-baseline gguf-cpu.json
  aprqa profile ./checkpoint --flame pass.svg --json
"""
_HOTTEST = 8


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa profile`."""
    add_model(command)
    command.add_argument(
        "--warmup", type=count, default=3, metavar="N", help="runs that are not measured (3)"
    )
    command.add_argument(
        "--measure", type=count, default=10, metavar="N", help="runs that are (10)"
    )
    command.add_argument(
        "--tokens", type=count, metavar="N", help="tokens of each answer (chosen by the speed)"
    )
    command.add_argument(
        "--model-id",
        metavar="ID",
        help="the model's id in a playbook, where MODEL is its path; kept in the baseline",
    )
    command.add_argument(
        "--target",
        metavar="NAME",
        help="the target's name in a playbook, such as gguf-q4_k_m-cpu; kept in the baseline",
    )
    command.add_argument(
        "--save-baseline", type=Path, metavar="FILE", help="keep the profile as JSON"
    )
    command.add_argument("--flame", type=Path, metavar="FILE.svg", help="draw a flame graph")


def count(text: str) -> int:
    """A whole number of at least 1; argparse tells the user when it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number of at least 1")
    return int(text)


def run(chosen: argparse.Namespace) -> Exit:
    """Measure, and write what was asked for."""
    from pytest_aprqa.checks.flame_graph import flame_graph
    from pytest_aprqa.checks.profile import Subject, measure, time_modules
    from pytest_aprqa.domain.errors import AprqaError
    from pytest_aprqa.formats.atomic import atomic_file

    with loaded(chosen) as (target, engine):
        subject = Subject(chosen.model_id or chosen.model, chosen.target or target.name)
        profile = measure(
            engine,
            subject,
            chosen.prompt,
            warmup=chosen.warmup,
            measured=chosen.measure,
            tokens=chosen.tokens,
        )
        modules = time_modules(engine, engine.tokenize(chosen.prompt, special=True))
    if chosen.flame is not None:
        if modules is None:
            raise AprqaError(f"{chosen.model}: {profile.engine} offers no look into a pass to draw")
        with atomic_file(chosen.flame) as draft:
            draft.write_text(flame_graph(modules), encoding="utf-8")
    if chosen.save_baseline is not None:
        with atomic_file(chosen.save_baseline) as draft:
            draft.write_text(json.dumps(profile.as_json(), indent=1) + "\n", encoding="utf-8")
    if chosen.json:
        write_json(_as_json(profile, modules))
    else:
        _show(Screen(), profile, modules)
    return Exit.FINE


def _estimates(profile: Profile) -> dict[str, tuple[Estimate, str]]:
    from pytest_aprqa.domain.profile import estimate

    found = {
        "throughput": (estimate(profile.throughputs), "tokens/s"),
        "time to first token": (estimate(profile.ttfts_ms), "ms"),
    }
    if profile.gaps_ms:
        found["token time, median"] = estimate(profile.gaps_ms), "ms"
        found["token time, 99th percentile"] = estimate(profile.gaps_ms, 0.99), "ms"
    return found


def _show(screen: Screen, profile: Profile, modules: Trace | None) -> None:
    rows = {
        name: f"{seen.value:.4g} {unit} ({seen.low:.4g} to {seen.high:.4g})"
        for name, (seen, unit) in _estimates(profile).items()
    }
    each = f"{profile.asked_tokens} tokens after {profile.prompt_tokens}"
    rows["runs"] = f"{len(profile.runs)} of {each}, {profile.warmup} to warm up"
    if profile.memory_bytes:
        rows["memory"] = f"{profile.memory_bytes[-1] / 1e6:.0f} MB, grown by {_growth(profile)}"
    rows["engine"] = f"{profile.engine} on {profile.device}"
    screen.pairs(rows)
    for name, seconds in _hottest(modules):
        share = seconds / modules.seconds if modules and modules.seconds else 0.0
        screen.line(f"  {share:6.1%}  {1e3 * seconds:8.3f} ms  {name}")


def _growth(profile: Profile) -> str:
    growth = profile.memory_growth
    return "an unknown share" if growth is None else f"{growth:.2%}"


def _hottest(modules: Trace | None) -> list[tuple[str, float]]:
    """The modules without others inside them that take most of the pass."""
    if modules is None:
        return []
    names = [module.name for module in modules.modules]
    leaves = [
        (module.name, module.seconds)
        for module in modules.modules
        if not any(name.startswith(f"{module.name}.") for name in names)
    ]
    return sorted(leaves, key=lambda entry: -entry[1])[:_HOTTEST]


def _as_json(profile: Profile, modules: Trace | None) -> dict[str, Any]:
    shown = {
        name: {"value": seen.value, "low": seen.low, "high": seen.high, "unit": unit}
        for name, (seen, unit) in _estimates(profile).items()
    }
    hot = [{"module": name, "seconds": seconds} for name, seconds in _hottest(modules)]
    return {"estimates": shown, "hotspots": hot, "profile": profile.as_json()}
