from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.case import Case, Judging
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Narrowing
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity, Tier
from pytest_aprqa.domain.oracle_spec import (
    ArithmeticSpec,
    CodeSyntaxSpec,
    CompositeSpec,
    ContainsSpec,
    ExactSpec,
    GarbageSpec,
    OneOfSpec,
    OracleSpec,
    RegexSpec,
    ResponseSpec,
)
from pytest_aprqa.domain.plan import (
    DEFAULT_ORACLES,
    Plan,
    Selection,
    judging_of,
    make_plan,
)
from pytest_aprqa.domain.playbook import Category, Matrix, ModelRef, Playbook, Scenario

FILE = "playbooks/q.playbook.yaml"
ALL_TIERS = [None, *Tier]


def scenario(name: str = "sum", **settings: Any) -> Scenario:
    if "turns" not in settings:
        settings.setdefault("prompt", "What is 2 + 2?")
    return Scenario(name=name, **settings)


def listed(count: int) -> tuple[Scenario, ...]:
    return tuple(scenario(f"s{index}") for index in range(count))


def playbook(
    *,
    formats: Sequence[Format] = tuple(Format),
    quantizations: Sequence[Quantization] = (),
    scenarios: Sequence[Scenario] = (),
    oracles: Sequence[OracleSpec] = (),
    **matrix: Any,
) -> Playbook:
    matrix.setdefault("modalities", tuple(Modality))
    matrix.setdefault("backends", tuple(Backend))
    return Playbook(
        name="q",
        version="1.0",
        model=ModelRef(id="org/model", formats=tuple(formats), quantizations=tuple(quantizations)),
        test_matrix=Matrix(**matrix),
        scenarios=tuple(scenarios),
        oracles=tuple(oracles),
    )


def generated(count: int) -> tuple[Scenario, ...]:
    return tuple(scenario(f"gen_{index}") for index in range(count))


def plan(
    book: Playbook, tier: Tier | None = Tier.MVP, *, selection: Selection | None = None
) -> Plan:
    return make_plan(book, tier=tier, selection=selection or Selection(), generate=generated)


def cases(made: Plan) -> list[Case]:
    return [case for entry in made.targets for case in entry.cases]


def names(made: Plan) -> list[str]:
    return [case.item_name for case in cases(made)]


def only(book: Playbook, tier: Tier | None = Tier.MVP) -> Case:
    (case,) = cases(plan(book, tier))
    return case


def small(**settings: Any) -> Playbook:
    """A playbook of one cell."""
    settings.setdefault("modalities", (Modality.RUN,))
    return playbook(formats=[Format.SAFETENSORS], backends=(Backend.CPU,), **settings)


# How many, and which.


@pytest.mark.parametrize(
    ("tier", "count"),
    [
        (Tier.SMOKE, 3),
        (Tier.MVP, 18 * 4),
        (Tier.QUICK, 3 * 2 * 10),
        (Tier.STANDARD, 18 * 25),
        (Tier.DEEP, 18 * 100),
        (None, 18 * 4),
    ],
)
def test_a_tier_expands_the_whole_matrix_to_so_many_items(tier: Tier | None, count: int) -> None:
    assert len(cases(plan(playbook(scenarios=listed(4)), tier))) == count


@pytest.mark.parametrize(
    ("tier", "count"),
    [
        (Tier.SMOKE, 3),
        (Tier.MVP, 18),
        (Tier.QUICK, 60),
        (Tier.STANDARD, 450),
        (Tier.DEEP, 1800),
        (None, 18),
    ],
)
def test_without_scenarios_every_item_is_generated(tier: Tier | None, count: int) -> None:
    made = cases(plan(playbook(), tier))
    assert len(made) == count
    assert {case.index for case in made} == {None}


@pytest.mark.parametrize(
    ("tier", "count"), [(Tier.MVP, 18), (Tier.QUICK, 60), (Tier.DEEP, 18 * 50), (None, 18 * 50)]
)
def test_scenario_count_caps_the_depth_of_a_tier(tier: Tier | None, count: int) -> None:
    book = playbook(scenario_count=50 if tier is not Tier.MVP else 1)
    assert len(cases(plan(book, tier))) == count


def test_smoke_asks_the_first_three_of_the_ground_truth() -> None:
    assert names(plan(playbook(scenarios=listed(5)), Tier.SMOKE)) == [
        "s0-safetensors-cpu-run",
        "s1-safetensors-cpu-run",
        "s2-safetensors-cpu-run",
    ]


@pytest.mark.parametrize("tier", [Tier.QUICK, Tier.STANDARD, Tier.DEEP])
def test_generated_scenarios_follow_the_listed_ones(tier: Tier) -> None:
    made = cases(plan(small(scenarios=listed(4)), tier))
    assert [case.scenario for case in made[:6]] == ["s0", "s1", "s2", "s3", "gen_0", "gen_1"]
    assert [case.index for case in made[:6]] == [0, 1, 2, 3, None, None]


@pytest.mark.parametrize("tier", [Tier.SMOKE, Tier.MVP, None])
def test_smoke_mvp_and_no_tier_do_not_fill_a_short_list(tier: Tier | None) -> None:
    assert names(plan(small(scenarios=listed(2)), tier)) == [
        "s0-safetensors-cpu-run",
        "s1-safetensors-cpu-run",
    ]


def test_depth_is_counted_in_each_cell() -> None:
    chats = tuple(scenario(f"chat{index}", turns=("Hi", "Hello")) for index in range(3))
    made = plan(
        playbook(
            formats=[Format.SAFETENSORS],
            backends=(Backend.CPU,),
            modalities=(Modality.RUN, Modality.CHAT),
            scenarios=(*chats, *listed(4)),
        ),
        Tier.SMOKE,
    )
    assert [case.scenario for case in cases(made)] == ["s0", "s1", "s2"]


def test_a_modality_without_a_listed_scenario_gets_none_made_up_in_mvp() -> None:
    book = playbook(scenarios=[scenario("talk", turns=("Hi", "Hello"))])
    assert {case.modality for case in cases(plan(book, Tier.MVP))} == {
        Modality.CHAT,
        Modality.SERVE,
    }


def test_what_scenario_count_drops_from_an_mvp_run_is_named() -> None:
    made = plan(small(scenarios=listed(11), scenario_count=1), Tier.MVP)
    assert made.narrowings == (
        Narrowing(cells="run", reason="scenario_count leaves 1 of the tier's 11 scenarios"),
    )


def test_a_deep_run_that_its_playbook_keeps_shallow_is_narrowed() -> None:
    made = plan(small(scenarios=listed(50), scenario_count=1), Tier.DEEP)
    assert made.narrowings == (
        Narrowing(cells="run", reason="scenario_count leaves 1 of the tier's 100 scenarios"),
    )


def test_a_smoke_run_of_a_playbook_without_the_ground_truth_asks_nothing() -> None:
    assert plan(playbook(formats=[Format.GGUF]), Tier.SMOKE).targets == ()


_subsets = st.tuples(
    st.lists(st.sampled_from(Format), min_size=1, unique=True),
    st.lists(st.sampled_from(Backend), min_size=1, unique=True),
    st.lists(st.sampled_from(Modality), min_size=1, unique=True),
)


@given(_subsets, st.sampled_from(ALL_TIERS))
def test_a_tier_never_adds_a_cell_that_is_not_declared(
    declared: tuple[list[Format], list[Backend], list[Modality]], tier: Tier | None
) -> None:
    formats, backends, modalities = declared
    book = playbook(formats=formats, backends=tuple(backends), modalities=tuple(modalities))
    for case in cases(plan(book, tier)):
        assert case.target.format in formats
        assert case.target.backend in backends
        assert case.modality in modalities


@given(_subsets, st.sampled_from([Tier.MVP, Tier.STANDARD, Tier.DEEP, None]))
def test_these_tiers_leave_no_declared_cell_out(
    declared: tuple[list[Format], list[Backend], list[Modality]], tier: Tier | None
) -> None:
    formats, backends, modalities = declared
    book = playbook(formats=formats, backends=tuple(backends), modalities=tuple(modalities))
    cells = {(c.target.format, c.target.backend, c.modality) for c in cases(plan(book, tier))}
    assert cells == {(f, b, m) for f in formats for b in backends for m in modalities}


@given(
    _subsets,
    st.sampled_from(ALL_TIERS),
    st.integers(0, 12),
    st.lists(st.sampled_from([Quantization.Q8_0, Quantization.Q4_K_M]), unique=True),
)
def test_ids_are_unique_and_those_of_a_repetition(
    declared: tuple[list[Format], list[Backend], list[Modality]],
    tier: Tier | None,
    count: int,
    quantizations: list[Quantization],
) -> None:
    formats, backends, modalities = declared
    book = playbook(
        formats=formats,
        backends=tuple(backends),
        modalities=tuple(modalities),
        quantizations=quantizations,
        scenarios=listed(count),
        prompts=("Hello?", "Hello?"),
    )
    ids = [entry.id for entry in plan(book, tier).owed(FILE).scenarios]
    assert len(set(ids)) == len(ids)
    assert ids == [entry.id for entry in plan(book, tier).owed(FILE).scenarios]


# Targets and names.


def test_derived_formats_come_in_every_quantization_and_the_ground_truth_as_published() -> None:
    book = playbook(quantizations=[Quantization.Q8_0, Quantization.Q4_K_M], backends=(Backend.CPU,))
    assert [entry.target.name for entry in plan(book).targets] == [
        "safetensors-cpu",
        "apr-q8_0-cpu",
        "apr-q4_k_m-cpu",
        "gguf-q8_0-cpu",
        "gguf-q4_k_m-cpu",
    ]


def test_an_item_name_tells_scenario_target_and_modality() -> None:
    book = playbook(
        formats=[Format.GGUF],
        quantizations=[Quantization.Q4_K_M],
        backends=(Backend.GPU,),
        modalities=(Modality.CHAT,),
        scenarios=[scenario("arithmetic_basic")],
    )
    assert names(plan(book)) == ["arithmetic_basic-gguf-q4_k_m-gpu-chat"]


def test_owed_holds_node_ids_under_the_file_and_the_target() -> None:
    owed = plan(small(scenarios=listed(2))).owed(FILE)
    assert owed.targets == ("safetensors-cpu",)
    assert [entry.id for entry in owed.scenarios] == [
        f"{FILE}::safetensors-cpu::s0-safetensors-cpu-run",
        f"{FILE}::safetensors-cpu::s1-safetensors-cpu-run",
    ]


def test_owed_repeats_what_the_cases_are() -> None:
    settings = {"severity": Severity.P0, "category": Category.STAB}
    made = plan(small(scenarios=[scenario(**settings)]))
    (entry,) = made.owed(FILE).scenarios
    assert (entry.severity, entry.category) == (Severity.P0, Category.STAB)
    assert (entry.scenario, entry.target) == ("sum", "safetensors-cpu")
    assert (entry.format, entry.backend, entry.modality) == ("safetensors", "cpu", "run")


# Prompts.


def test_prompts_become_scenarios_after_the_listed_ones() -> None:
    book = small(scenarios=listed(1), prompts=("Hi?", "And 3 * 3?"))
    made = cases(plan(book))
    assert [(case.scenario, case.index, case.question) for case in made] == [
        ("s0", 0, "What is 2 + 2?"),
        ("prompt_1", 0, "Hi?"),
        ("prompt_2", 1, "And 3 * 3?"),
    ]


def test_the_names_of_many_prompts_sort_as_they_are_listed() -> None:
    made = cases(plan(small(prompts=tuple(f"{n} + 1?" for n in range(12)))))
    found = [case.scenario for case in made]
    assert found[0] == "prompt_01"
    assert found == sorted(found)


@pytest.mark.parametrize(("taken", "tier"), [("prompt_1", Tier.MVP), ("gen_0", Tier.QUICK)])
def test_a_name_that_would_come_twice_is_refused(taken: str, tier: Tier) -> None:
    book = small(scenarios=[scenario(taken)], prompts=("Hi?",))
    with pytest.raises(AprqaError) as caught:
        plan(book, tier)
    assert str(caught.value) == (
        f"2 scenarios would be named {taken!r}: a prompt or a generated scenario has the name of "
        "a listed one; rename the listed one"
    )


# What the command line leaves out.


@pytest.mark.parametrize(
    ("selection", "narrowing"),
    [
        (
            Selection(formats=(Format.SAFETENSORS,)),
            Narrowing(cells="apr, gguf", reason="left out by --aprqa-format safetensors"),
        ),
        (
            Selection(backends=(Backend.CPU,)),
            Narrowing(cells="gpu", reason="left out by --aprqa-backend cpu"),
        ),
        (
            Selection(modalities=(Modality.RUN, Modality.CHAT)),
            Narrowing(cells="serve", reason="left out by --aprqa-modality run chat"),
        ),
    ],
)
def test_what_a_selection_leaves_out_is_named(selection: Selection, narrowing: Narrowing) -> None:
    assert plan(playbook(), selection=selection).narrowings == (narrowing,)


def test_each_option_that_narrows_is_named() -> None:
    selection = Selection((Backend.CPU,), (Format.GGUF,), (Modality.RUN,))
    made = plan(playbook(), selection=selection)
    assert len(made.narrowings) == 3
    assert names(made) == ["gen_0-gguf-cpu-run"]


def test_a_selection_of_all_that_is_declared_narrows_nothing() -> None:
    selection = Selection(tuple(Backend), tuple(Format), tuple(Modality))
    assert plan(small(), selection=selection).narrowings == ()


def test_a_selection_adds_nothing_to_the_matrix() -> None:
    assert names(plan(small(), selection=Selection(backends=tuple(Backend)))) == [
        "gen_0-safetensors-cpu-run"
    ]


def test_a_selection_of_what_is_not_declared_leaves_nothing_and_says_so() -> None:
    made = plan(small(), selection=Selection(backends=(Backend.GPU,)))
    assert made.targets == ()
    assert [narrowing.cells for narrowing in made.narrowings] == ["cpu"]


def test_the_narrowings_are_owed() -> None:
    made = plan(playbook(), selection=Selection(backends=(Backend.CPU,)))
    assert made.owed(FILE).narrowings == made.narrowings


# Settings of a case.


@pytest.mark.parametrize("chat", [{"turns": ("Hi.", "And now?")}, {"system": "You are brief."}])
def test_turns_and_a_system_text_are_asked_only_where_there_is_a_chat(chat: dict[str, Any]) -> None:
    made = cases(plan(playbook(scenarios=[scenario(**chat)])))
    assert {case.modality for case in made} == {Modality.CHAT, Modality.SERVE}


def test_a_scenarios_own_modalities_restrict_the_matrix() -> None:
    book = playbook(scenarios=[scenario(modalities=(Modality.SERVE,))])
    assert {case.modality for case in cases(plan(book))} == {Modality.SERVE}


def test_the_question_is_the_last_turn() -> None:
    book = small(modalities=(Modality.CHAT,), scenarios=[scenario(turns=("Hi.", "And now?"))])
    assert (only(book).turns, only(book).question) == (("Hi.", "And now?"), "And now?")


def test_the_matrix_gives_what_a_scenario_leaves_open() -> None:
    matrix = {"max_tokens": 7, "temperature": 0.5, "seed": 3, "timeout_ms": 999}
    case = only(small(scenarios=listed(1), **matrix))
    found = (case.max_tokens, case.temperature, case.seed, case.timeout_ms)
    assert found == (7, 0.5, 3, 999)


def test_a_scenario_overrides_the_matrix_even_with_0() -> None:
    matrix = {"max_tokens": 7, "temperature": 0.5, "seed": 3, "timeout_ms": 999}
    own = scenario(max_tokens=9, temperature=0.0, seed=0, timeout_ms=1, stop=("\n",))
    case = only(small(scenarios=[own], **matrix))
    found = (case.max_tokens, case.temperature, case.seed, case.timeout_ms, case.stop)
    assert found == (9, 0.0, 0, 1, ("\n",))


# Who judges.


@pytest.mark.parametrize(
    "oracle",
    [
        ArithmeticSpec(expected=4),
        CodeSyntaxSpec(language="python"),
        ResponseSpec(keywords=("four",)),
        ContainsSpec(expected="4"),
        OneOfSpec(expected=("4", "four")),
        CompositeSpec(all=(ContainsSpec(expected="4"),)),
    ],
)
def test_a_named_oracle_judges_together_with_garbage(oracle: OracleSpec) -> None:
    assert judging_of(small(), scenario(oracle=oracle)) == Judging(named=(oracle, GarbageSpec()))


@pytest.mark.parametrize("oracle", [ExactSpec(expected="4"), RegexSpec(pattern="4"), GarbageSpec()])
def test_an_oracle_that_fixes_the_text_judges_alone(oracle: OracleSpec) -> None:
    assert judging_of(small(), scenario(oracle=oracle)) == Judging(named=(oracle,))


def test_the_playbooks_garbage_settings_judge_beside_a_named_oracle() -> None:
    lenient = GarbageSpec(max_repetition_ratio=0.8)
    own = ContainsSpec(expected="4")
    assert judging_of(small(oracles=[lenient]), scenario(oracle=own)).named == (own, lenient)


def test_without_oracles_the_default_ones_are_offered() -> None:
    assert judging_of(small(), scenario()) == Judging(offered=DEFAULT_ORACLES)


def test_the_playbooks_oracles_are_offered_with_garbage_at_their_end() -> None:
    code = CodeSyntaxSpec(language="python")
    assert judging_of(small(oracles=[code]), scenario()) == Judging(offered=(code, GarbageSpec()))


def test_garbage_that_the_playbook_lists_is_offered_once() -> None:
    lenient = GarbageSpec(max_repetition_ratio=0.8)
    book = small(oracles=[lenient, ArithmeticSpec()])
    assert judging_of(book, scenario()) == Judging(offered=(lenient, ArithmeticSpec()))


@given(st.sampled_from(ALL_TIERS))
def test_every_case_is_judged_by_something(tier: Tier | None) -> None:
    book = playbook(scenarios=[*listed(2), scenario("own", oracle=ExactSpec(expected="4"))])
    for case in cases(plan(book, tier)):
        assert case.judging.named or case.judging.offered
