"""The tables of the families."""

from __future__ import annotations

from pytest_aprqa.conversion.families.family_table import Family
from pytest_aprqa.conversion.families.tables.deepseek import DEEPSEEK2
from pytest_aprqa.conversion.families.tables.falcon import FALCON
from pytest_aprqa.conversion.families.tables.gemma import GEMMA2, GEMMA3
from pytest_aprqa.conversion.families.tables.gpt2 import GPT2
from pytest_aprqa.conversion.families.tables.llama import GRANITE, LLAMA, MISTRAL
from pytest_aprqa.conversion.families.tables.olmo import OLMO2
from pytest_aprqa.conversion.families.tables.phi import PHI3
from pytest_aprqa.conversion.families.tables.qwen import QWEN2, QWEN3, QWEN3_MOE
from pytest_aprqa.conversion.families.tables.stablelm import STABLELM
from pytest_aprqa.conversion.families.tables.starcoder import STARCODER2

FAMILIES: tuple[Family, ...] = (
    *(LLAMA, MISTRAL, QWEN2, QWEN3, QWEN3_MOE, GEMMA2, GEMMA3, PHI3, GRANITE, OLMO2),
    *(STARCODER2, STABLELM, FALCON, DEEPSEEK2, GPT2),
)
"""Every family, in the order of messages."""
