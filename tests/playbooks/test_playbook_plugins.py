"""Oracles of other packages in playbooks: every form, and the same in the JSON schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pytest_aprqa.domain.oracle_spec import CompositeSpec, GarbageSpec, PluginSpec
from pytest_aprqa.formats.playbook_yaml import playbook_json_schema
from tests.playbooks.playbook_texts import problems, read
from tests.playbooks.test_playbook_messages import ORACLES, playbook
from tests.playbooks.test_playbook_messages import scenario as text_of
from tests.playbooks.test_playbook_schema import VALID, scenario

BARE = PluginSpec(type="acme.polite")
SET = PluginSpec(type="acme.polite", settings={"words": ["please"], "strict": "no"})


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(playbook_json_schema())


@pytest.mark.parametrize(
    ("oracle", "spec"),
    [
        ("acme.polite", BARE),
        ({"type": "acme.polite"}, BARE),
        ({"type": "acme.polite", "config": {}}, BARE),
        ({"type": "acme.polite", "words": ["please"], "strict": "no"}, SET),
        ({"type": "acme.polite", "config": {"words": ["please"], "strict": "no"}}, SET),
        (["acme.polite", "garbage"], CompositeSpec(all=(BARE, GarbageSpec()))),
        (
            {"type": "composite", "any": [{"type": "a.b", "x": {"y": [1, None]}}, "garbage"]},
            CompositeSpec(
                any=(PluginSpec(type="a.b", settings={"x": {"y": [1, None]}}), GarbageSpec())
            ),
        ),
        ({"type": "a.b", "settings": 1}, PluginSpec(type="a.b", settings={"settings": 1})),
        ({"type": "a.b", "expected": 4}, PluginSpec(type="a.b", settings={"expected": 4})),
    ],
)
def test_forms(validator: jsonschema.Draft202012Validator, oracle: Any, spec: Any) -> None:
    data = VALID | scenario(oracle=oracle)
    assert read(json.dumps(data)).playbook.scenarios[0].oracle == spec
    assert validator.is_valid(data)
    listed = VALID | {"oracles": [oracle]}
    assert read(json.dumps(listed)).playbook.oracles == (spec,)
    assert validator.is_valid(listed)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "prompt: a\noracle: acme.",
            f"11: scenarios[0].oracle: unknown oracle 'acme.'; allowed: {ORACLES}",
        ),
        (
            "prompt: a\noracle: {type: a b.c}",
            f"11: scenarios[0].oracle.type: unknown oracle 'a b.c'; allowed: {ORACLES}",
        ),
        (
            "prompt: a\noracle: acme.polite\nexpected: 4",
            "12: scenarios[0].expected: write it within the oracle: "
            "{type: acme.polite, expected: …}",
        ),
        (
            "prompt: a\noracle: {type: acme.polite}\nlanguage: rust",
            "12: scenarios[0].language: write it within the oracle: "
            "{type: acme.polite, language: …}",
        ),
        (
            "prompt: a\noracle: {type: acme.polite, config: 5}",
            "11: scenarios[0].oracle.config: expected a mapping of the oracle's settings",
        ),
        (
            "prompt: a\noracle: {type: acme.polite, words: 1, config: {}}",
            "11: scenarios[0].oracle.words: beside config; write all of the settings in config",
        ),
    ],
)
def test_mistakes(lines: str, expected: str) -> None:
    assert problems(text_of(lines)) == [expected]


@pytest.mark.parametrize(
    "keys",
    [
        {"oracle": "acme."},
        {"oracle": "a b.c"},
        {"oracle": {"type": "acme."}},
        {"oracle": "acme.polite", "expected": 4},
        {"oracle": {"type": "acme.polite"}, "language": "rust"},
        {"oracle": {"type": "acme.polite", "config": 5}},
        {"oracle": {"type": "acme.polite", "config": {}, "words": 1}},
    ],
)
def test_the_schema_rejects_what_the_reader_does(
    validator: jsonschema.Draft202012Validator, keys: dict[str, Any]
) -> None:
    data = VALID | scenario(**keys)
    assert problems(json.dumps(data)) != []
    assert not validator.is_valid(data)


def test_expected_goes_to_the_built_in_oracle_beside_it() -> None:
    document = read(text_of("prompt: a\noracle: [acme.polite, arithmetic]\nexpected: 4"))
    oracle = document.playbook.scenarios[0].oracle
    assert isinstance(oracle, CompositeSpec)
    assert oracle.all[0] == BARE
    assert oracle.all[1].model_dump()["expected"] == 4


def test_settings_have_their_line() -> None:
    document = read(playbook(rest="oracles:\n  - type: acme.polite\n    words: [a]\n"))
    assert document.line_of("oracles", 0, "settings", "words") == 10
    config = read(playbook(rest="oracles:\n  - type: a.b\n    config:\n      words: [a]\n"))
    assert config.line_of("oracles", 0, "settings", "words") == 11
