"""The forms a playbook may be written in, brought to the one that the types have.

Shorthand is written out (`oracle: arithmetic` with `expected: 4`), moved keys get their one home
(`hf_repo`, `test_matrix.formats`), quoted booleans become booleans. Whatever is wrong with a form
becomes a mistake, and reading goes on, so that one run shows all of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_aprqa.domain.oracle_spec import is_plugin_name
from pytest_aprqa.domain.playbook import PLAYBOOK_NAME, Mistake, ask_mistake
from pytest_aprqa.formats.section_forms import SECTIONS, with_plain_values

Loc = tuple[str | int, ...]

NOT_RUN = (
    "this version does not run this {noun} yet and ignores nothing: "
    "remove it, or wait for the version that runs it"
)
SECTIONS_NOT_RUN = (
    "property_tests",
    "state_machine",
    "kernel_profile",
    "mvp_matrix",
    "verification_tests",
)
ORACLES_NOT_RUN = ("hf_parity",)
NO_ORACLE = "composite names no oracle; add all, any or none"
TAKES_EXPECTED = ("arithmetic", "contains", "exact", "one_of")
TAKES_LANGUAGE = ("code_syntax",)
WORDS_OF_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}
_PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


@dataclass(slots=True)
class Form:
    """A playbook's data in the types' form, with where each moved value stood in the file."""

    data: Any
    moved: dict[Loc, Loc] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def wrong(self, loc: Loc, text: str) -> None:
        """Note a mistake at a place in the file."""
        self.mistakes.append(Mistake(loc, text))

    def source_of(self, loc: Loc) -> Loc:
        """The place in the file that a place in the data came from."""
        for length in range(len(loc), 0, -1):
            if (home := self.moved.get(loc[:length])) is not None:
                return home + loc[length:]
        return loc


def canonical(data: Any, *, name: str, spellings: Mapping[Loc, str]) -> Form:
    """The data in the types' form; `name` is what a playbook without one is called."""
    if not isinstance(data, dict):
        return Form(data)
    form = Form(dict(data))
    for section in SECTIONS_NOT_RUN:
        if section in form.data:
            del form.data[section]
            form.wrong((section,), NOT_RUN.format(noun="section"))
    if "name" not in form.data:
        form.data["name"] = name
        if not re.fullmatch(PLAYBOOK_NAME, name):
            form.wrong(("name",), f"missing, and the file's name {name!r} cannot serve; add name")
    if isinstance(form.data.get("version"), int | float) and ("version",) in spellings:
        form.data["version"] = spellings[("version",)]
    _home_of_model(form)
    _gates(form)
    for section in SECTIONS:
        if section in form.data:
            form.data[section] = with_plain_values(form.data[section])
    _endpoint(form)
    _placeholders(form)
    if isinstance(oracles := form.data.get("oracles"), list):
        form.data["oracles"] = [
            _oracle(form, oracle, ("oracles", index), ("oracles", index))
            for index, oracle in enumerate(oracles)
        ]
    if isinstance(scenarios := form.data.get("scenarios"), list):
        form.data["scenarios"] = [
            _scenario(form, scenario, ("scenarios", index))
            for index, scenario in enumerate(scenarios)
        ]
    return form


def _home_of_model(form: Form) -> None:
    """One key for the repository, one place for the formats."""
    model, matrix = form.data.get("model"), form.data.get("test_matrix")
    if not isinstance(model, dict):
        if isinstance(matrix, dict) and "formats" in matrix:
            form.data["test_matrix"] = {k: v for k, v in matrix.items() if k != "formats"}
        return
    model = form.data["model"] = dict(model)
    if "endpoint" in model:
        if "endpoint" in form.data:
            form.wrong(("model", "endpoint"), "is the same key as endpoint; keep one")
        form.data.setdefault("endpoint", model["endpoint"])
        form.moved[("endpoint",)] = ("model", "endpoint")
        del model["endpoint"]
    if "hf_repo" in model:
        if "id" in model:
            form.wrong(("model", "hf_repo"), "is the same key as id; keep one")
            del model["hf_repo"]
        else:
            model["id"] = model.pop("hf_repo")
            form.moved[("model", "id")] = ("model", "hf_repo")
    if not isinstance(matrix, dict) or "formats" not in matrix:
        return
    matrix = form.data["test_matrix"] = dict(matrix)
    formats = matrix.pop("formats")
    if "formats" not in model:
        model["formats"] = formats
        form.moved[("model", "formats")] = ("test_matrix", "formats")
    elif model["formats"] != formats:
        form.wrong(("test_matrix", "formats"), "differs from model.formats; keep one of the two")


def _endpoint(form: Form) -> None:
    """A server's address alone is short for a mapping with nothing else."""
    if isinstance(address := form.data.get("endpoint"), str):
        form.data["endpoint"] = {"url": address}
        form.moved[("endpoint", "url")] = form.source_of(("endpoint",))


def _gates(form: Form) -> None:
    if isinstance(gates := form.data.get("gates"), dict):
        form.data["gates"] = {key: _boolean(value) for key, value in gates.items()}


def _boolean(value: Any) -> Any:
    """The boolean that a quoted word of truth stands for; anything else as it is."""
    return WORDS_OF_TRUTH.get(value.lower(), value) if isinstance(value, str) else value


def _placeholders(form: Form) -> None:
    model = form.data.get("model")
    places: list[tuple[Loc, Any]] = [(("name",), form.data["name"])]
    if isinstance(model, dict):
        places += [(("model", key), value) for key, value in model.items()]
    for loc, value in places:
        if isinstance(value, str) and (found := _PLACEHOLDER.search(value)):
            form.wrong(
                form.source_of(loc),
                f"{found.group()} is a template's placeholder; fill it in before running",
            )


def _scenario(form: Form, scenario: Any, loc: Loc) -> Any:
    if not isinstance(scenario, dict):
        return scenario
    made = dict(scenario)
    if text := ask_mistake("prompt" in made, "turns" in made):
        form.wrong(loc, text)
    if "oracle" in made and made["oracle"] is None:
        form.wrong((*loc, "oracle"), "has no value; name an oracle or remove the line")
    elif "oracle" in made:
        made["oracle"] = _oracle(form, made["oracle"], (*loc, "oracle"), (*loc, "oracle"))
    for key, takers in (("expected", TAKES_EXPECTED), ("language", TAKES_LANGUAGE)):
        if key in made:
            _fold(form, made, loc, key, takers)
    return made


def _fold(
    form: Form, scenario: dict[str, Any], loc: Loc, key: str, takers: tuple[str, ...]
) -> None:
    """Move a scenario's `expected` or `language` into the settings of its oracle."""
    value = scenario.pop(key)
    here = (*loc, key)
    if "oracle" not in scenario:
        form.wrong(here, f"given without an oracle; {key} is for oracle: {_either(takers)}")
        return
    oracle = scenario["oracle"]
    if value is None:
        form.wrong(here, "has no value; give one or remove the line")
        return
    if not isinstance(oracle, dict):
        return
    options = [(oracle, (*loc, "oracle"))]
    if oracle.get("type") == "composite" and isinstance(oracle.get("all"), list):
        options = [(child, (*loc, "oracle", "all", i)) for i, child in enumerate(oracle["all"])]
    if not all(_has_type(child) for child, _ in options):
        return
    fitting = [(child, at) for child, at in options if child["type"] in takers]
    if len(fitting) > 1:
        form.wrong(here, f"more than one oracle takes {key}; write it inside the one it is for")
    elif fitting and key in fitting[0][0]:
        form.wrong(here, "given in the oracle too; keep one")
    elif not fitting and (plugin := next((c for c, _ in options if _is_plugin(c)), None)):
        form.wrong(here, f"write it within the oracle: {{type: {plugin['type']}, {key}: …}}")
    elif not fitting and not any(child["type"] in ORACLES_NOT_RUN for child, _ in options):
        names = ", ".join(child["type"] for child, _ in options)[:80]
        form.wrong(here, f"the oracle {names!r} takes no {key}; {_either(takers)} would")
    for child, at in fitting:
        if key not in child:
            child[key] = value
            form.moved[(*at, key)] = here


def _has_type(oracle: Any) -> bool:
    return isinstance(oracle, dict) and isinstance(oracle.get("type"), str)


def _either(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else names[0]


def _oracle(form: Form, value: Any, loc: Loc, source: Loc) -> Any:
    """An oracle written as a name, a list (all of them), or a mapping with or without config."""
    if loc != source:
        form.moved[loc] = source
    if isinstance(value, str):
        _refuse_not_run(form, value, source)
        form.moved[(*loc, "type")] = source
        if value == "composite":
            form.wrong(source, NO_ORACLE)
        return {"type": value}
    if isinstance(value, list):
        form.moved[(*loc, "all")] = source
        if not value:
            form.wrong(source, "the list is empty; name at least one oracle")
        children = [
            _oracle(form, child, (*loc, "all", i), (*source, i)) for i, child in enumerate(value)
        ]
        return {"type": "composite", "all": children}
    if not isinstance(value, dict):
        return value
    made = _without_config(form, value, loc, source)
    if _is_plugin(made):
        return _settings_apart(form, made, loc)
    if "ignore_case" in made:
        made["ignore_case"] = _boolean(made["ignore_case"])
    if made.get("type") == "composite":
        _children(form, made, loc)
    if made.get("type") == "regex":
        _check_pattern(form, made.get("pattern"), form.source_of((*loc, "pattern")))
    _refuse_not_run(form, made.get("type"), (*source, "type"))
    return made


def _without_config(form: Form, value: dict[str, Any], loc: Loc, source: Loc) -> dict[str, Any]:
    """The oracle's settings beside its type, wherever they were written."""
    config = value.get("config")
    if not isinstance(config, dict):
        if "config" in value:
            form.wrong((*source, "config"), "expected a mapping of the oracle's settings")
        return {key: item for key, item in value.items() if key != "config"}
    for key in value:
        if key not in ("type", "config"):
            form.wrong((*source, key), "beside config; write all of the settings in config")
    if "type" in config:
        form.wrong((*source, "config", "type"), "is not a setting; type stands beside config")
    settings = {key: item for key, item in config.items() if key != "type"}
    form.moved.update({(*loc, key): (*source, "config", key) for key in settings})
    return ({"type": value["type"]} if "type" in value else {}) | settings


def _settings_apart(form: Form, plugin: dict[str, Any], loc: Loc) -> dict[str, Any]:
    """An oracle of another package: its settings are that package's, and stay as they are."""
    settings = {key: item for key, item in plugin.items() if key != "type"}
    moved = {(*loc, "settings", key): form.source_of((*loc, key)) for key in settings}
    form.moved.update(moved)
    return {"type": plugin["type"], "settings": settings}


def _is_plugin(oracle: Any) -> bool:
    return _has_type(oracle) and is_plugin_name(oracle["type"])


def _children(form: Form, composite: dict[str, Any], loc: Loc) -> None:
    groups = [key for key in ("all", "any", "none") if composite.get(key)]
    if not groups:
        form.wrong(form.source_of(loc), NO_ORACLE)
    for key in groups:
        if isinstance(children := composite[key], list):
            at = (*loc, key)
            composite[key] = [
                _oracle(form, child, (*at, i), form.source_of((*at, i)))
                for i, child in enumerate(children)
            ]


def _refuse_not_run(form: Form, name: Any, source: Loc) -> None:
    if name in ORACLES_NOT_RUN:
        form.wrong(source, f"{name}: {NOT_RUN.format(noun='oracle')}")


def _check_pattern(form: Form, pattern: Any, source: Loc) -> None:
    if not isinstance(pattern, str):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a FutureWarning about nested sets is no mistake
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        form.wrong(source, f"not a regular expression: {exc}")
