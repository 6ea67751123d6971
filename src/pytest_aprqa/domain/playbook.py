"""The playbook: which model is asked what, where it runs, and when a falsification stops the run.

These types hold a playbook after reading: shorthand is written out, `formats` has one place
(the model), and what one section says of another has been checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity
from pytest_aprqa.domain.oracle_spec import OracleSpec
from pytest_aprqa.domain.sections import Part, Sections

CHAT_MODALITIES = frozenset({Modality.CHAT, Modality.SERVE})
"""Where a chat template is applied, so that a system text and several turns have a meaning."""

ENDPOINT_URL = r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$"
"""An address without user, password, query or fragment: keys come from the environment."""

PLAYBOOK_NAME = r"^[a-z0-9][a-z0-9._-]*$"
"""What identifies a playbook: lower case, so that it can name files everywhere."""

_T = TypeVar("_T")


class FailurePolicy(StrEnum):
    """When a falsification ends the run: at the first, at the first P0, or never."""

    STOP_ON_FIRST = "stop_on_first"
    STOP_ON_P0 = "stop_on_p0"
    COLLECT_ALL = "collect_all"


class Category(StrEnum):
    """The part of the score a scenario counts for."""

    QUAL = "QUAL"
    PERF = "PERF"
    STAB = "STAB"
    COMP = "COMP"
    EDGE = "EDGE"
    REGR = "REGR"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a playbook: where (keys and indices from the top) and what."""

    loc: tuple[str | int, ...]
    text: str


def custom_error(text: str) -> PydanticCustomError:
    """A validation error whose message is exactly this text."""
    return PydanticCustomError("aprqa", "{text}", {"text": text})


def mistakes_error(mistakes: Sequence[Mistake]) -> ValidationError:
    """One validation error that holds them all, each at its own place."""
    return ValidationError.from_exception_data(
        "Playbook",
        [
            InitErrorDetails(type=custom_error(mistake.text), loc=mistake.loc, input=None)
            for mistake in mistakes
        ],
    )


def _no_duplicates(values: tuple[_T, ...]) -> tuple[_T, ...]:
    first: dict[_T, int] = {}
    repeats = [
        Mistake((index,), f"{str(value)!r} is listed twice; list it once")
        for index, value in enumerate(values)
        if first.setdefault(value, index) != index
    ]
    if repeats:
        raise mistakes_error(repeats)
    return values


_Unique = AfterValidator(_no_duplicates)
_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(gt=0, strict=True)]
_Seed = Annotated[int, Field(ge=0, strict=True)]
_TimeoutMs = Annotated[int, Field(ge=1, le=3_600_000, strict=True)]
_MaxTokens = Annotated[int, Field(ge=1, le=32_768, strict=True)]
_Temperature = Annotated[float, Field(ge=0, le=2, strict=True, allow_inf_nan=False)]
_Formats = Annotated[tuple[Format, ...], Field(min_length=1), _Unique]
_Modalities = Annotated[tuple[Modality, ...], Field(min_length=1), _Unique]
_Backends = Annotated[tuple[Backend, ...], Field(min_length=1), _Unique]
_Quantizations = Annotated[tuple[Quantization, ...], _Unique]


class ModelRef(Part):
    """The model under test: its repository, its formats on disk and what is expected of them."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+$")]
    """Repository on the Hugging Face Hub as `org/name`; `hf_repo` is the same key."""
    formats: _Formats
    """Formats to qualify; may be given in `test_matrix` instead."""
    revision: _Text = "main"
    """Branch, tag or commit of the repository."""
    local_path: _Text | None = None
    """Directory or file with the weights, in place of the Hub's cache."""
    quantizations: _Quantizations = ()
    """Encodings to qualify for apr and gguf; for SafeTensors, which is as published, ignored."""
    files: Mapping[_Text, _Text] = Field(default_factory=dict)
    """Files of derived formats that exist already, beside the playbook, by `gguf`, `apr`, or
    `gguf-q4_k_m`; a target that has one runs it, others are converted from the ground truth."""
    size_category: Literal["tiny", "small", "medium", "large", "xlarge", "huge"] | None = None
    """How large the model is, as a label."""
    family: _Text | None = None
    """Model family, as a label."""
    size_variant: _Text | None = None
    """Size within the family, as a label."""
    expected_hidden_dim: _Count | None = None
    """Hidden size that config.json must state."""
    expected_num_layers: _Count | None = None
    """Number of layers that config.json must state."""
    expected_num_heads: _Count | None = None
    """Number of attention heads that config.json must state."""
    expected_num_kv_heads: _Count | None = None
    """Number of key/value heads that config.json must state."""
    expected_vocab_size: _Count | None = None
    """Vocabulary size that config.json must state."""
    expected_intermediate_dim: _Count | None = None
    """Feed-forward size that config.json must state."""


class Matrix(Part):
    """How every scenario is multiplied, and the settings of each run."""

    __test__: ClassVar[bool] = False  # or pytest would collect a class imported as TestMatrix

    modalities: _Modalities
    """How the model is asked."""
    backends: _Backends
    """What kind of processor runs it."""
    scenario_count: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    """Scenarios generated for each combination when the playbook writes none."""
    prompts: tuple[str, ...] = ()
    """Prompts that become scenarios of their own."""
    seed: _Seed = 0
    """Seed of every generator."""
    timeout_ms: _TimeoutMs = 60_000
    """Time one run may take, in milliseconds."""
    max_tokens: _MaxTokens = 64
    """Most tokens one answer may have."""
    temperature: _Temperature = 0.0
    """Sampling temperature; 0 is greedy."""


TestMatrix = Matrix
"""The name after the YAML key `test_matrix`."""


class Scenario(Part):
    """One question (a prompt, or the user's turns of a chat) and what judges the answer."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Part of the test's id, so that `-k` can select it."""
    prompt: str | None = None
    """The question; a scenario has this or `turns`."""
    turns: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """What the user says, turn by turn; the model answers each."""
    system: str | None = None
    """The chat's system text."""
    oracle: OracleSpec | None = None
    """What judges the answer; the playbook's oracles do when it is absent."""
    max_tokens: _MaxTokens | None = None
    """Overrides the matrix."""
    temperature: _Temperature | None = None
    """Overrides the matrix."""
    seed: _Seed | None = None
    """Overrides the matrix."""
    timeout_ms: _TimeoutMs | None = None
    """Overrides the matrix."""
    stop: tuple[_Text, ...] = ()
    """Texts that end the answer."""
    modalities: _Modalities | None = None
    """The matrix's modalities this scenario is for; all of them when absent."""
    severity: Severity = Severity.P1
    """How much a falsification matters."""
    category: Category = Category.QUAL
    """The part of the score this scenario counts for."""

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if text := ask_mistake(self.prompt is not None, self.turns is not None):
            raise custom_error(text)
        return self

    @property
    def needs_chat(self) -> bool:
        """True when the scenario means nothing without a chat template."""
        return self.turns is not None or self.system is not None

    def expands_to(self, modalities: Sequence[Modality]) -> tuple[Modality, ...]:
        """Those of the matrix's modalities in which this scenario is asked, in that order."""
        return tuple(
            modality
            for modality in modalities
            if (self.modalities is None or modality in self.modalities)
            and (not self.needs_chat or modality in CHAT_MODALITIES)
        )


def ask_mistake(has_prompt: bool, has_turns: bool) -> str | None:
    """What is wrong with how a scenario asks: nothing, too little or twice."""
    if has_prompt and has_turns:
        return "has both prompt and turns; keep one"
    if not has_prompt and not has_turns:
        return "asks nothing; add prompt, or turns for a chat"
    return None


class Gates(Part):
    """The gateways; each may be named, none may be switched off."""

    g0_integrity: bool = True
    """config.json, tokenizer and tensors fit together."""
    g1_model_loads: bool = True
    """The model loads."""
    g2_basic_inference: bool = True
    """The model answers."""
    g3_no_crashes: bool = True
    """No run crashes."""
    g4_output_quality: bool = True
    """No answer is garbage."""

    @field_validator("*")
    @classmethod
    def _stays_on(cls, value: bool) -> bool:
        if not value:
            raise custom_error(
                "a gateway cannot be switched off: a score without it would mean nothing; "
                "remove the line"
            )
        return value


class EndpointRef(Part):
    """An OpenAI-compatible server that is asked in place of engines on this machine."""

    url: Annotated[str, Field(pattern=ENDPOINT_URL)]
    """Root of the server, without user, password or query."""
    model: _Text | None = None
    """What the server calls the model; may be absent where it serves one."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable that holds the key; `APRQA_API_KEY`, else `OPENAI_API_KEY`."""

    @field_validator("url")
    @classmethod
    def _is_the_root(cls, value: str) -> str:
        return value.rstrip("/").removesuffix("/v1").rstrip("/")


class Playbook(Sections):
    """A model's qualification: what is asked, in which combinations, and what counts as wrong."""

    name: Annotated[str, Field(pattern=PLAYBOOK_NAME)]
    """Identifies the playbook; the file's name without `.playbook.yaml` when absent."""
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$")]
    """Version of this playbook, as `1.0` or `1.0.0`."""
    description: str = ""
    """For people."""
    model: ModelRef
    """The model under test."""
    test_matrix: Matrix
    """The combinations."""
    scenarios: tuple[Scenario, ...] = ()
    """The questions; with neither these nor prompts they are generated."""
    oracles: tuple[OracleSpec, ...] = ()
    """What judges the answers of scenarios without an oracle of their own."""
    gates: Gates = Gates()
    """The gateways."""
    endpoint: EndpointRef | None = None
    """A server to ask instead of loading the model here."""
    failure_policy: FailurePolicy = FailurePolicy.STOP_ON_P0
    """When a falsification ends the run."""
    metadata: Mapping[str, JsonValue] = Field(default_factory=dict)
    """Free; recorded with the evidence."""

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats to qualify, wherever the file gave them."""
        return self.model.formats

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if mistakes := list(disagreements(self.test_matrix, self.scenarios)):
            raise mistakes_error(mistakes)
        return self


def disagreements(matrix: Matrix | None, scenarios: Sequence[Scenario | None]) -> Iterator[Mistake]:
    """Where scenarios contradict each other or the matrix; None stands for one that is wrong."""
    first: dict[str, int] = {}
    for index, scenario in enumerate(scenarios):
        if scenario is None:
            continue
        earlier = first.setdefault(scenario.name, index)
        if earlier != index:
            yield Mistake(
                ("scenarios", index, "name"),
                f"{scenario.name!r} is the name of scenarios[{earlier}] too; names are unique",
            )
        if matrix is not None:
            yield from _out_of_matrix(("scenarios", index), scenario, matrix)


def _out_of_matrix(
    loc: tuple[str | int, ...], scenario: Scenario, matrix: Matrix
) -> Iterator[Mistake]:
    have = ", ".join(matrix.modalities)
    outside = [m for m in scenario.modalities or () if m not in matrix.modalities]
    if outside:
        yield Mistake(
            (*loc, "modalities"),
            f"{', '.join(outside)} not in test_matrix.modalities ({have}); "
            "a scenario can only restrict the matrix",
        )
    elif not scenario.expands_to(matrix.modalities):
        key = "turns" if scenario.turns is not None else "system"
        left = ", ".join(scenario.modalities or matrix.modalities)
        yield Mistake(
            (*loc, key),
            f"{key} needs the modality chat or serve; this scenario is left with {left}",
        )
