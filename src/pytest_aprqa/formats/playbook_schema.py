"""The JSON schema of playbook files, for editors: the types' own, with the shorthand added."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from pytest_aprqa.domain.oracle_spec import PLUGIN_NAME
from pytest_aprqa.domain.playbook import Playbook
from pytest_aprqa.formats.playbook_forms import TAKES_EXPECTED, TAKES_LANGUAGE
from pytest_aprqa.formats.playbook_problems import ORACLE_TYPES
from pytest_aprqa.formats.section_forms import NUMBER, NUMBERS

SCHEMA_ID = "urn:pytest-aprqa:playbook"
_ORACLE = {"$ref": "#/$defs/Oracle"}
_PLUGIN_NAME = {"type": "string", "pattern": PLUGIN_NAME}
_SCALAR = {"type": ["string", "number"]}
_TRUE = "[Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]"
_FALSE = "[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff]"
_QUOTED_TRUE = {"type": "string", "pattern": f"^({_TRUE})$"}
_QUOTED = {"type": "string", "pattern": f"^({_TRUE}|{_FALSE})$"}


class _Generator(GenerateJsonSchema):
    """Without titles made of field names, which tell an editor nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def playbook_json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `read_playbook` accepts, in every form."""
    schema = Playbook.model_json_schema(schema_generator=_Generator)
    schema = _with_oracle_references(schema)
    definitions: dict[str, Any] = schema.pop("$defs")
    for definition in definitions.values():
        definition.pop("title", None)
    _add_forms(schema, definitions)
    _add_oracle(definitions)
    _add_scenario_shorthand(definitions["Scenario"])
    _add_plain_values(definitions)
    for gate in definitions["Gates"]["properties"].values():
        gate.pop("type", None)
        gate["anyOf"] = [{"const": True}, _QUOTED_TRUE]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "pytest-aprqa playbook",
        "$defs": dict(sorted(definitions.items())),
    }


def _with_oracle_references(schema: Any) -> Any:
    """The schema with the one union of objects, the oracle, referred to by name."""
    match schema:
        case {"oneOf": [*_]}:
            kept = {key: schema[key] for key in ("description", "default") if key in schema}
            return _ORACLE | kept
        case dict():
            return {key: _with_oracle_references(value) for key, value in schema.items()}
        case list():
            return [_with_oracle_references(value) for value in schema]
    return schema


def _add_forms(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Two keys for the repository, two places for the formats, a name that may be absent."""
    schema["required"].remove("name")
    version = schema["properties"]["version"]
    version["anyOf"] = [{"type": version.pop("type"), "pattern": version.pop("pattern")}]
    version["anyOf"].append({"type": "number"})
    model, matrix = definitions["ModelRef"], definitions["Matrix"]
    for name in ("formats", "quantizations"):
        model["properties"][name]["uniqueItems"] = True
    for name in ("modalities", "backends"):
        matrix["properties"][name]["uniqueItems"] = True
    model["properties"]["hf_repo"] = {
        **model["properties"]["id"],
        "description": "The same key as `id`.",
    }
    model["oneOf"] = [{"required": ["id"]}, {"required": ["hf_repo"]}]
    del model["required"]
    matrix["properties"]["formats"] = {
        **model["properties"]["formats"],
        "description": "Formats to qualify; may be given in `model` instead.",
    }
    address = definitions["EndpointRef"]["properties"]["url"]
    short = {"type": "string", "pattern": address["pattern"]}
    endpoint = {"anyOf": [short, {"$ref": "#/$defs/EndpointRef"}]}
    told = schema["properties"]["endpoint"]["description"]
    schema["properties"]["endpoint"] = {**endpoint, "description": told}
    model["properties"]["endpoint"] = {**endpoint, "description": "The same as `endpoint` above."}
    schema["anyOf"] = [
        {"properties": {part: {"required": ["formats"]}}} for part in ("model", "test_matrix")
    ]


_OTHERS = ("Matrix", "Scenario", *(spec.__name__ for spec in ORACLE_TYPES.values()))
"""Types with keys of those names in which a number is a number."""


def _add_plain_values(definitions: dict[str, Any]) -> None:
    """Quoted truth and numbers written as text, where `section_forms` reads them."""
    written = {"type": "string", "pattern": f"^({NUMBER})$"}
    for name, definition in definitions.items():
        properties = definition.get("properties", {})
        if name in _OTHERS:
            continue
        if "enabled" in properties:
            kind = {"type": properties["enabled"].pop("type")}
            properties["enabled"]["anyOf"] = [kind, _QUOTED]
        for key in NUMBERS & properties.keys():
            limits = properties[key]
            if "anyOf" in limits:
                limits["anyOf"].append(written)
            elif limits.get("type") == "number":
                bounds = ("type", "minimum", "maximum", "exclusiveMinimum")
                limits["anyOf"] = [{b: limits.pop(b) for b in bounds if b in limits}, written]


def _add_oracle(definitions: dict[str, Any]) -> None:
    """A name, a list of which all must hold, or a mapping whose settings may be in `config`."""
    mappings = []
    for name, spec in ORACLE_TYPES.items():
        definition = definitions[spec.__name__]
        properties = definition["properties"]
        properties["type"] = {"const": name}
        if "ignore_case" in properties:
            properties["ignore_case"] = {
                "anyOf": [{"type": "boolean"}, _QUOTED],
                "default": spec.model_fields["ignore_case"].default,
            }
        required = [
            key for key in definition.get("required", ()) if key not in ("type", "expected")
        ]
        definition["required"] = ["type", *required]
        settings = {key: value for key, value in properties.items() if key != "type"}
        nested: dict[str, Any] = {
            "type": "object",
            "description": definition.get("description", ""),
            "properties": {
                "type": {"const": name},
                "config": {
                    "type": "object",
                    "properties": settings,
                    "required": required,
                    "additionalProperties": False,
                },
            },
            "required": ["type", "config"],
            "additionalProperties": False,
        }
        if name == "composite":
            nested["properties"]["config"]["anyOf"] = definition["anyOf"] = [
                {"required": [group], "properties": {group: {"minItems": 1}}}
                for group in ("all", "any", "none")
            ]
        mappings.append({"anyOf": [{"$ref": f"#/$defs/{spec.__name__}"}, nested]})
    definitions["PluginSpec"] = _plugin(definitions["PluginSpec"]["description"])
    definitions["Oracle"] = {
        "description": "What judges an answer: a name, a list (all must hold) or a mapping.",
        "anyOf": [
            {"enum": [name for name in ORACLE_TYPES if name not in ("regex", "composite")]},
            _PLUGIN_NAME,
            {"type": "array", "items": _ORACLE, "minItems": 1},
            *mappings,
            {"$ref": "#/$defs/PluginSpec"},
        ],
    }


def _plugin(description: str) -> dict[str, Any]:
    """An oracle of another package, whose settings nobody here knows, beside its type or apart."""
    return {
        "type": "object",
        "description": description,
        "properties": {"type": _PLUGIN_NAME, "config": {"type": "object"}},
        "required": ["type"],
        "if": {"required": ["config"]},
        "then": {"maxProperties": 2},
    }


def _add_scenario_shorthand(scenario: dict[str, Any]) -> None:
    properties = scenario["properties"]
    properties["expected"] = {
        "anyOf": [_SCALAR, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "description": f"What the answer must be; for the oracles {', '.join(TAKES_EXPECTED)}.",
    }
    properties["language"] = {
        **_language(ORACLE_TYPES["code_syntax"]),
        "description": "Language of the code in the answer; for the oracle code_syntax.",
    }
    properties["modalities"]["anyOf"][0]["uniqueItems"] = True
    for key in ("prompt", "turns"):  # either is given or absent, never null
        arms = properties[key].pop("anyOf")
        del properties[key]["default"]
        properties[key].update(arms[0])
    properties["oracle"] = {**_ORACLE, "description": properties["oracle"]["description"]}
    scenario["oneOf"] = [{"required": ["prompt"]}, {"required": ["turns"]}]
    scenario["dependentRequired"] = {"expected": ["oracle"], "language": ["oracle"]}
    scenario["allOf"] = [
        _only_for("expected", TAKES_EXPECTED),
        _only_for("language", TAKES_LANGUAGE),
    ]


def _only_for(key: str, takers: tuple[str, ...]) -> dict[str, Any]:
    """A condition: with an oracle that does not take the key, the key is absent."""
    built_in = [name for name in ORACLE_TYPES if name not in (*takers, "composite")]
    others = {"anyOf": [{"enum": built_in}, _PLUGIN_NAME]}
    named = {
        "anyOf": [
            others,
            {"type": "object", "properties": {"type": others}, "required": ["type"]},
        ]
    }
    return {
        "if": {"properties": {"oracle": named}, "required": ["oracle"]},
        "then": {"properties": {key: False}},
    }


def _language(code_syntax: type[BaseModel]) -> dict[str, Any]:
    schema = code_syntax.model_json_schema()["properties"]["languages"]["items"]
    return dict(schema)
