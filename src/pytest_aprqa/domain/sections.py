"""The sections of a playbook that set its falsification gates, beside the scenarios."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_aprqa.domain.model import Backend, Format, Quantization, Severity

_Text = Annotated[str, Field(min_length=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Tokens = Annotated[int, Field(ge=1, le=4096, strict=True)]
GateIds = tuple[_Text, ...]
"""Ids of gates of the registry, or their aliases; looked up when a playbook is collected."""

INVARIANTS = ("I-1", "I-2", "I-3", "I-4", "I-5")
"""Round-trip identity, tensor-name bijection, no silent fallback, statistics preserved, tokenizer
round trip."""


class Part(BaseModel):
    """Immutable, and closed: a key it does not know is a mistake."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


class Switched(Part):
    """A section that may be switched off, and that names the gates it is there for."""

    enabled: bool = True
    """False leaves the section's gates out; the result names them."""
    gates: GateIds = ()
    """Gates that are owed at every tier, even one that would not ask them."""


class TensorDiff(Switched):
    """Tensors of each derived file against the ground truth's."""

    filter: str = ""
    """Parts of tensor names, separated by commas; empty takes all tensors."""


class InferenceCompare(Switched):
    """Greedy tokens and logits, one by one, against the ground truth's."""

    prompt: _Text = "What is 2+2?"
    """What both are asked."""
    max_tokens: _Tokens = 10
    """Tokens that are compared."""
    tolerance: _NotNegative = 1e-5
    """Largest difference of logits; never below what the formats' own noise allows."""


class FingerprintTest(Switched):
    """Statistics and checksums of the tensors against saved ones."""

    tensors: str = "all"
    """Parts of tensor names, separated by commas, or `all`."""
    stats: tuple[Literal["mean", "std", "min", "max", "percentiles", "checksum"], ...] = (
        "mean",
        "std",
        "min",
        "max",
        "checksum",
    )
    """What is compared."""
    reference: _Text | None = None
    """A file that `aprqa fingerprint --json` wrote, or a model; beside the playbook."""


class RoleTolerance(Part):
    """How far a tensor's statistics may be from the reference's, by the tensor's role."""

    layernorm: _NotNegative = 0.001
    """Norm weights."""
    embedding: _NotNegative = 0.1
    """The token embedding."""
    attention: _NotNegative = 0.01
    """Attention projections."""
    ffn: _NotNegative = 0.01
    """Feed-forward projections."""
    lm_head: _NotNegative = 0.05
    """The output head."""


class ValidateStats(Switched):
    """Statistics of each derived file's tensors against the reference's, by role."""

    reference: _Text | None = None
    """A model or a saved fingerprint; the ground truth when absent."""
    tolerance: RoleTolerance = RoleTolerance()
    """Limits by role."""


class FormatValidation(Switched):
    """The bytes of derived files: encodings, alignment, headers."""

    checks: tuple[Literal["dtype_mapping", "tensor_alignment", "header_integrity"], ...] = (
        "dtype_mapping",
        "tensor_alignment",
        "header_integrity",
    )
    """What is looked into."""


class DifferentialTests(Part):
    """What the model is held against, and how."""

    reference: _Text | None = None
    """Another copy or revision of the model that the ground truth itself is held against: a
    directory beside the playbook, or a repository in the Hub's cache."""
    tensor_diff: TensorDiff = TensorDiff()
    """Tensors."""
    inference_compare: InferenceCompare = InferenceCompare()
    """Tokens and logits."""
    fingerprint: FingerprintTest = FingerprintTest()
    """Statistics and checksums."""
    validate_stats: ValidateStats = ValidateStats()
    """Statistics by role."""
    format_validation: FormatValidation = FormatValidation()
    """Bytes."""


class ProfileAssertions(Part):
    """Limits of speed and memory; one that is absent is not asserted."""

    min_throughput: _Positive | None = None
    """Generated tokens a second, on any backend that has no limit of its own."""
    min_throughput_cpu: _Positive | None = None
    """The same on the CPU."""
    min_throughput_gpu: _Positive | None = None
    """The same on a GPU."""
    max_p50_ms: _Positive | None = None
    """Median time of one token after the first, in milliseconds."""
    max_p99_ms: _Positive | None = None
    """99th percentile of the same, in milliseconds."""
    max_ttft_ms: _Positive | None = None
    """Median time to the first token, in milliseconds."""
    max_memory_growth: _NotNegative | None = None
    """Growth of memory over the measured runs, as a share of what it was."""


class ProfileCi(Switched):
    """Speed and memory, warmed up and repeated."""

    warmup: Annotated[int, Field(ge=0, le=100, strict=True)] = 3
    """Runs that are not measured."""
    measure: Annotated[int, Field(ge=1, le=1000, strict=True)] = 10
    """Runs that are."""
    formats: tuple[Format, ...] = tuple(Format)
    """Formats that are measured."""
    backends: tuple[Backend, ...] = tuple(Backend)
    """Backends that are measured."""
    assertions: ProfileAssertions = ProfileAssertions()
    """Absolute limits."""
    baseline: _Text | None = None
    """A saved profile that this machine is held against, beside the playbook."""


class TracePayload(Switched):
    """A forward pass with every layer looked at."""

    prompt: _Text = "What is 2+2?"
    """What the pass is over."""
    level: Literal["none", "basic", "layer", "payload"] = "payload"
    """How much is recorded."""


class ContractTests(Switched):
    """Claims that every conversion keeps, and those of the user's own."""

    invariants: tuple[Literal["I-1", "I-2", "I-3", "I-4", "I-5"], ...] = (
        "I-1",
        "I-2",
        "I-3",
        "I-4",
        "I-5",
    )
    """Which of the five invariants are asked."""
    contracts: tuple[_Text, ...] = ()
    """Contracts in YAML, beside the playbook."""


class OllamaParity(Switched):
    """The same model in an Ollama server, held against this one's answers and speed."""

    enabled: bool = False
    """Ollama is asked only where a playbook says so."""
    url: _Text = "http://127.0.0.1:11434"
    """The root of the server."""
    model_tag: _Text | None = None
    """What Ollama calls the model; the playbook model's name with `:latest` when absent."""
    quantizations: tuple[Quantization, ...] = (Quantization.Q4_K_M,)
    """Quantizations of GGUF that are held against it."""
    prompts: Annotated[tuple[_Text, ...], Field(min_length=1)] = ("What is 2+2?",)
    """What both are asked."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Sampling temperature of both."""
    min_perf_ratio: _NotNegative = 0.8
    """Least speed of ours over Ollama's."""


class HfParity(Switched):
    """A golden corpus of logits that the ground truth is held against."""

    corpus: _Text | None = None
    """Directory of the corpus, beside the playbook; without it the gates have no meaning."""


class FalsificationGate(Part):
    """A claim of the playbook's own about the evidence of its run."""

    id: _Text
    """Its name in the results; the id of a gate of the registry gives that gate this condition."""
    condition: _Text
    """What must hold, such as `tps >= 10 && !is_garbage(output)`."""
    description: str = ""
    """For people."""
    severity: Severity = Severity.P1
    """How much a falsification matters."""


class Sections(Part):
    """All sections that set gates, each with its defaults."""

    differential_tests: DifferentialTests = DifferentialTests()
    """What the model is held against."""
    profile_ci: ProfileCi = ProfileCi()
    """Speed and memory."""
    trace_payload: TracePayload = TracePayload()
    """The inside of a forward pass."""
    contract_tests: ContractTests = ContractTests()
    """Contracts."""
    ollama_parity: OllamaParity = OllamaParity()
    """The same model in Ollama."""
    hf_parity: HfParity = HfParity()
    """A golden corpus."""
    falsification_gates: tuple[FalsificationGate, ...] = ()
    """Claims of the playbook's own."""

    def section(self, path: str) -> Part:
        """The section at a dotted path, such as `differential_tests.tensor_diff`."""
        found: object = self
        for key in path.split("."):
            found = getattr(found, key)
        assert isinstance(found, Part)
        return found
