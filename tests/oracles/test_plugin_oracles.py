from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa import Ruling, Verdict, assert_oracle
from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.domain.oracle_spec import CompositeSpec, GarbageSpec, PluginSpec, is_plugin_name
from pytest_aprqa.oracles import build_oracle, judge, oracle_names, parse_oracle, why_inapplicable
from pytest_aprqa.oracles.plugins import GROUP, known_names, offer, why_unusable
from tests.packages import install

POLITE = """
from pytest_aprqa import Ruling, Verdict

class Polite:
    def __init__(self, words=("please",)):
        if not words:
            raise ValueError("words is empty")
        self.words = words

    def judge(self, question, answer):
        met = any(word in answer for word in self.words)
        return Verdict("?", Ruling.CORROBORATED if met else Ruling.FALSIFIED, f"met: {met}")
"""


class Kind:
    """Corroborates every answer to a question with a question mark."""

    def judge(self, question: str, answer: str) -> Verdict:
        return Verdict("kind", Ruling.CORROBORATED, "kind")

    def why_inapplicable(self, question: str) -> str | None:
        return None if question.endswith("?") else "it is\nno question"


class Broken:
    """Breaks wherever it is asked."""

    def judge(self, question: str, answer: str) -> Verdict:
        raise KeyError(answer)

    def why_inapplicable(self, question: str) -> str | None:
        raise KeyError(question)


class Vague:
    """Gives no verdict."""

    def judge(self, question: str, answer: str) -> bool:
        return True


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory where packages are found."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def polite(site: Path) -> None:
    """An installed package with the oracle acme.polite."""
    entries = {GROUP: {"acme.polite": "acme_polite:Polite"}}
    install(site, "acme-polite", {"acme_polite.py": POLITE}, entries)


@pytest.fixture
def offered() -> Iterator[Any]:
    """Offers oracles as a hook does, and takes them back."""
    forget = []

    def offer_here(**oracles: Any) -> None:
        for name, factory in oracles.items():
            forget.append(offer(f"hook.{name}", factory, f"{name} from a hook"))

    yield offer_here
    for undo in forget:
        undo()


@pytest.mark.parametrize("name", ["acme.polite", "a.b.c", "A_1.b-2", "x.1"])
def test_names_of_other_packages(name: str) -> None:
    assert is_plugin_name(name)


@pytest.mark.parametrize("name", ["", "polite", ".a", "a.", "a..b", "1.a", "a b.c", "a.b\n", "a.é"])
def test_what_is_no_name_of_another_package(name: str) -> None:
    assert not is_plugin_name(name)


@pytest.mark.usefixtures("polite")
def test_an_installed_oracle_asserts() -> None:
    verdict = assert_oracle("acme.polite", question="Hello?", answer="please come in")
    assert verdict == Verdict("acme.polite", Ruling.CORROBORATED, "met: True")
    with pytest.raises(Falsified, match=r"^acme\.polite: met: False\n"):
        assert_oracle("acme.polite", question="Hello?", answer="Go away.")
    assert judge("acme.polite", "", "danke", words=["danke"]).corroborated
    assert "acme.polite" in known_names()
    assert "acme.polite" not in oracle_names()


@pytest.mark.usefixtures("polite")
def test_it_is_a_member_of_a_composite() -> None:
    spec = CompositeSpec(all=(PluginSpec(type="acme.polite"), GarbageSpec()))
    answer = "please sit down, the doctor will see you soon"
    assert build_oracle(spec).judge("Hello?", answer).corroborated
    assert build_oracle(spec).judge("Hello?", "Sit down and wait for the doctor.").falsified


def test_a_name_that_nobody_brings() -> None:
    with pytest.raises(AprqaError) as caught:
        assert_oracle("acme.absent", question="x", answer="y")
    assert str(caught.value) == (
        "unknown oracle 'acme.absent'; no package here brings one; install the package that has it"
    )


@pytest.mark.usefixtures("polite")
def test_a_name_that_nobody_brings_is_told_with_the_known_ones(offered: Any) -> None:
    offered(kind=Kind)
    with pytest.raises(AprqaError, match=r"known beside those built in: acme\.polite, hook\.kind;"):
        judge("acme.polit", "x", "y")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"word": 1}, "does not take these settings (word): TypeError: "),
        ({"words": []}, "does not take these settings (words): ValueError: words is empty"),
    ],
)
@pytest.mark.usefixtures("polite")
def test_wrong_settings(settings: dict[str, Any], told: str) -> None:
    spec = parse_oracle("acme.polite", **settings)
    with pytest.raises(AprqaError, match="^" + re.escape(f"acme.polite {told}")):
        build_oracle(spec)
    for why in (why_inapplicable(spec, "x"), why_unusable(PluginSpec(**spec.model_dump()))):
        assert why is not None
        assert why.startswith(f"acme.polite {told}")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no_such_module:X", "does not load: ModuleNotFoundError: No module named 'no_such"),
        ("json:nothing", "does not load: AttributeError: module 'json' has no attribute"),
        ("json:__doc__", "is str, which cannot be called"),
    ],
)
def test_a_broken_entry_point_is_named(site: Path, value: str, told: str) -> None:
    install(site, "acme-broken", {}, {GROUP: {"acme.broken": value}})
    with pytest.raises(AprqaError) as caught:
        judge("acme.broken", "x", "y")
    assert str(caught.value).startswith(
        f"the entry point acme.broken = {value} ({GROUP}) of acme-broken 1.0 {told}"
    )
    assert judge("exact", "x", "y", expected="y").corroborated  # nobody looked for it


def test_two_of_one_name_are_both_told(site: Path, offered: Any) -> None:
    entries = {GROUP: {"hook.kind": "acme_two:Polite"}}
    install(site, "acme-two", {"acme_two.py": POLITE}, entries)
    offered(kind=Kind)
    with pytest.raises(AprqaError) as caught:
        judge("hook.kind", "x", "y")
    assert str(caught.value) == (
        "two oracles are named 'hook.kind': one of kind from a hook, one of the entry point "
        f"hook.kind = acme_two:Polite ({GROUP}) of acme-two 1.0; remove one of them"
    )
    with pytest.raises(AprqaError, match=r"one of kind from a hook, one of another; remove one"):
        offer("hook.kind", Kind, "another")


@pytest.mark.parametrize(
    ("name", "factory", "told"),
    [
        ("kind", Kind, "a hook: 'kind' is no oracle's name; expected one as acme.polite"),
        (5, Kind, "a hook: 5 is no oracle's name"),
        ("hook.kind", 5, "a hook: hook.kind is 5, which cannot be called"),
    ],
)
def test_what_cannot_be_offered(name: object, factory: object, told: str) -> None:
    with pytest.raises(AprqaError, match="^" + re.escape(told)):
        offer(name, factory, "a hook")


def test_what_is_taken_back_is_unknown(offered: Any) -> None:
    forget = offer("hook.once", Kind, "a hook")
    assert judge("hook.once", "x?", "y").corroborated
    forget()
    assert "hook.once" not in known_names()
    with pytest.raises(AprqaError, match="unknown oracle"):
        judge("hook.once", "x?", "y")


def test_a_question_that_it_cannot_judge(offered: Any) -> None:
    offered(kind=Kind)
    spec = PluginSpec(type="hook.kind")
    assert why_inapplicable(spec, "Are you well?") is None
    assert why_inapplicable(spec, "Hello") == "it is no question"
    assert why_inapplicable(CompositeSpec(all=(spec,)), "Hello") == (
        "all: hook.kind: it is no question"
    )


def test_an_oracle_that_breaks_is_neither_pass_nor_falsification(offered: Any) -> None:
    offered(broken=Broken, vague=Vague, odd=dict)
    with pytest.raises(AprqaError, match=r"^the oracle hook\.broken broke: KeyError: 'y'$"):
        judge("hook.broken", "x", "y")
    why = why_inapplicable(PluginSpec(type="hook.broken"), "x")
    assert why == "the oracle hook.broken broke: KeyError: 'x'"
    with pytest.raises(AprqaError, match=r"^the oracle hook\.vague gave bool; expected a Verdict$"):
        judge("hook.vague", "x", "y")
    with pytest.raises(AprqaError, match="odd from a hook, gives dict, which has no judge"):
        judge("hook.odd", "x", "y")


def test_a_factory_that_breaks_is_named(offered: Any) -> None:
    def make() -> object:
        raise RuntimeError("no licence")

    offered(paid=make)
    told = r"^hook\.paid, paid from a hook, cannot be made: RuntimeError: no licence$"
    with pytest.raises(AprqaError, match=told):
        judge("hook.paid", "x", "y")
