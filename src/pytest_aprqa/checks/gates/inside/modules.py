"""Where a forward pass spends its time, module by module, and what is made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.flame_graph import WIDTH, flame_graph
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import TRACED, NotTraced, prompt_ids
from pytest_aprqa.checks.gates.inside.speed import SECTION, over_profile
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.profile import time_modules
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.profile import Profile, profile_of
from pytest_aprqa.domain.tolerance import MODULE_TIMES
from pytest_aprqa.domain.trace import SPINE
from pytest_aprqa.engines.engine import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.domain.trace import Trace

MODULES: Family[TargetLab] = Family(
    domain="profile",
    place=Place.TARGET,
    cost=Cost.TIMING,
    rung=Rung.SPEED,
    category=Category.PERF,
    section=SECTION,
)
_ROUNDED = 0.01
"""What rounding to three digits may cost a box of the graph, in its units."""
_SVG = "{http://www.w3.org/2000/svg}"


def timed(lab: TargetLab) -> Trace:
    """The quickest of some passes over the prompt, every module timed.

    Raises:
        NotTraced: the engine or the model offers none.
        EngineCrashed: the engine broke.
    """
    try:
        found = time_modules(lab.engine, lab.once(prompt_ids))
    except InvalidRequest as error:
        raise NotTraced(str(error)) from error
    if found is None:
        raise NotTraced(f"{lab.engine.name} offers no look into a pass")
    return found


def drawn(lab: TargetLab) -> str:
    """The flame graph of that pass."""
    return flame_graph(lab.once(timed))


def _over_modules(
    check: Callable[[TargetLab, Trace], Finding],
) -> Callable[[TargetLab], Finding]:
    def checked(lab: TargetLab) -> Finding:
        section = lab.sections.profile_ci
        if lab.format not in section.formats or lab.backend not in section.backends:
            return without_meaning(f"profile_ci does not measure {lab.target.name}")
        try:
            return check(lab, lab.once(timed))
        except NotTraced as error:
            return without_meaning(str(error))

    return checked


@MODULES.gate(
    "F-PROFILE-001",
    "The modules' times add up to the pass's.",
    severity=Severity.P2,
    formats=TRACED,
)
@_over_modules
def times_add_up(_lab: TargetLab, trace: Trace) -> Finding:
    """The embedding, layers, last norm and head together; names the three that take most."""
    low, high = MODULE_TIMES
    spine = [module for module in trace.modules if module.role in SPINE]
    if not spine or trace.seconds <= 0:
        return refuted("no module was timed")
    share = sum(module.seconds for module in spine) / trace.seconds
    hot = sorted(spine, key=lambda module: -module.seconds)[:3]
    told = ", ".join(f"{m.name} {m.seconds / trace.seconds:.0%}" for m in hot)
    if share > high:
        return refuted(
            f"the modules take {share:.1%} of the pass that they are parts of: {told}",
            culprit=hot[0].name,
            measured={"share": share},
        )
    if share < low:
        return undecided(
            f"the modules take {share:.0%} of the pass; the rest is outside of them, or the "
            f"machine was busy: {told}",
            measured={"share": share},
        )
    return held(f"{share:.0%} of the pass; {told}", measured={"share": share})


@MODULES.gate(
    "F-PROFILE-002",
    "The flame graph is an SVG that shows every timed module in its parent's span.",
    severity=Severity.P2,
    formats=TRACED,
)
@_over_modules
def graph_is_valid(lab: TargetLab, trace: Trace) -> Finding:
    """Well-formed, a box for each module and one for the pass, none outside of the picture."""
    try:
        root = ElementTree.fromstring(lab.once(drawn))
    except ElementTree.ParseError as error:
        return refuted(f"the flame graph is no well-formed XML: {error}")
    if root.tag != f"{_SVG}svg":
        return refuted(f"the flame graph's root is {root.tag}; expected svg")
    shown = {
        group.get("data-module", ""): group.find(f"{_SVG}rect") for group in root.iter(f"{_SVG}g")
    }
    missing = [module.name for module in trace.modules if module.name not in shown]
    if missing:
        return refuted(f"the flame graph lacks {missing[0]}", culprit=missing[0])
    for name, box in shown.items():
        x, width = (float(box.get(key, "nan")) if box is not None else -1 for key in ("x", "width"))
        if not (x >= 0 and width >= 0 and x + width <= WIDTH + _ROUNDED):
            return refuted(f"the box of {name} lies outside of the picture", culprit=name)
    return held(f"{len(shown)} boxes")


@MODULES.gate(
    "F-PROFILE-005", "The profile is the same after a way through JSON.", severity=Severity.P2
)
@over_profile
def profile_survives_json(_lab: TargetLab, profile: Profile) -> Finding:
    """Strict JSON, which has no NaN, read back into an equal profile."""
    try:
        text = json.dumps(profile.as_json(), allow_nan=False)
    except ValueError as error:
        return refuted(f"the profile is no JSON: {error}")
    if profile_of(json.loads(text)) != profile:
        return refuted("the profile read back from JSON is another one")
    return held(f"{len(text)} characters of JSON give the same profile")


FAMILIES = (MODULES,)
ALIASES = {"F-PROFILE-003": "F-PROFILE-002", "F-PROFILE-004": "F-PROFILE-001"}
