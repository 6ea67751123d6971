"""The words of a playbook's matrix: format, backend, modality, quantization, severity, tier."""

from __future__ import annotations

import re
from enum import StrEnum


class Format(StrEnum):
    """How the weights lie on disk; SafeTensors is the ground truth."""

    SAFETENSORS = "safetensors"
    APR = "apr"
    GGUF = "gguf"


class Backend(StrEnum):
    """What kind of processor runs the model."""

    CPU = "cpu"
    GPU = "gpu"


class Modality(StrEnum):
    """How the model is asked: plain completion, chat template, or over HTTP."""

    RUN = "run"
    CHAT = "chat"
    SERVE = "serve"


class Quantization(StrEnum):
    """Weight encodings by the names llama.cpp gives them."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q6_K = "q6_k"
    Q5_K_M = "q5_k_m"
    Q5_0 = "q5_0"
    Q4_K_M = "q4_k_m"
    Q4_0 = "q4_0"
    Q3_K_M = "q3_k_m"
    Q2_K = "q2_k"


class Severity(StrEnum):
    """How much a falsification matters: P0 blocks, P1 counts, P2 is noted."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"


class Tier(StrEnum):
    """How deep a qualification goes; `full` is another word for deep."""

    SMOKE = "smoke"
    MVP = "mvp"
    QUICK = "quick"
    STANDARD = "standard"
    DEEP = "deep"


def slug(model_id: str) -> str:
    """A directory name for a model id: lower case, every other character a hyphen."""
    return re.sub(r"[^a-z0-9._]+", "-", model_id.lower()).strip("-.")
