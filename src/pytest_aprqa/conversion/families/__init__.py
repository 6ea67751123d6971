"""Model families: how each is named and laid out by Hugging Face, GGUF and APR.

A family is a table (`family_table.Family`): its config.json keys and the GGUF keys that hold them,
its rope types, and one row for each kind of tensor with its shape, its biases, the movement of its
rows and the families' peculiarities. The functions here read the tables; none of them knows a
family by name. All take config.json as an object and raise `ConversionError`.

- `family_of_config(config)`, `family_of_gguf(fields)`: which table applies.
- `gguf_fields(config)`: the hyper-parameters as GGUF keys (not the tokenizer, not general.name).
- `gguf_caveats(config)`: lines about what llama.cpp computes otherwise in long prompts.
- `gguf_tensors(config, tensors)`: Hugging Face's tensors as llama.cpp names and lays them out.
- `gguf_keeps_f32(name, shape)`: which of them stay F32 when the others become F16, say.
- `huggingface_tensors(config, tensors, source_dtypes, decode_to=None)`: the inverse; quantized
  tensors are best decoded by it (`decode_to="F32"`), as it reads one expert out of a stack.
- `config_from_gguf(fields, tensors, values=None)`: config.json from a GGUF file's own keys and
  shapes; `values` (name to float32 values) is asked for rope factors, which only tensors hold.
- `config_disagreements(config, fields, tensors)`: where a GGUF file and a config contradict.
- `apr_fields(config)`, `apr_tensors(config, tensors)`, `tensors_from_apr(...)`,
  `config_from_apr(metadata, tensors)`: the same for APR.
"""

from __future__ import annotations

from pytest_aprqa.conversion.families.apr import apr_fields, config_from_apr
from pytest_aprqa.conversion.families.apr_tensors import apr_tensors, tensors_from_apr
from pytest_aprqa.conversion.families.family_table import Family
from pytest_aprqa.conversion.families.from_gguf import config_disagreements, config_from_gguf
from pytest_aprqa.conversion.families.gguf_keys import gguf_caveats, gguf_fields
from pytest_aprqa.conversion.families.gguf_layout import gguf_tensors, huggingface_tensors
from pytest_aprqa.conversion.families.links import gguf_keeps_f32
from pytest_aprqa.conversion.families.registry import (
    family_of_config,
    family_of_gguf,
    offsets_norms,
)
from pytest_aprqa.conversion.families.tables import FAMILIES

__all__ = [
    "FAMILIES",
    "Family",
    "apr_fields",
    "apr_tensors",
    "config_disagreements",
    "config_from_apr",
    "config_from_gguf",
    "family_of_config",
    "family_of_gguf",
    "gguf_caveats",
    "gguf_fields",
    "gguf_keeps_f32",
    "gguf_tensors",
    "huggingface_tensors",
    "offsets_norms",
    "tensors_from_apr",
]
