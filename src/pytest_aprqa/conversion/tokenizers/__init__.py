"""The tokenizer's way into GGUF and APR, and back.

A model's tokenizer is given as its Hugging Face files (tokenizer.json and what lies beside it).
Each format gets two things: the keys that its own engines read, and the files themselves, byte
for byte. On the way back the files are used only if they still say the same as the keys; a file
from elsewhere, without them, has its tokenizer.json rebuilt from the keys.

- into GGUF: `gguf_fields.gguf_tokenizer_fields`; back: `restoring.files_from_gguf`
- into APR: `apr_fields.apr_tokenizer_fields`; back: `apr_fields.files_from_apr`
- whether files and keys agree: `agreement.tokenizer_disagreements` (of GGUF),
  `apr_fields.apr_tokenizer_disagreements`
- texts that tell tokenizers apart: `adversarial.ADVERSARIAL_TEXTS`
"""

from __future__ import annotations

from pytest_aprqa.conversion.tokenizers.agreement import tokenizer_disagreements
from pytest_aprqa.conversion.tokenizers.apr_fields import (
    apr_tokenizer_disagreements,
    apr_tokenizer_fields,
    files_from_apr,
    stored_files_of_apr,
)
from pytest_aprqa.conversion.tokenizers.gguf_fields import (
    general_name_part,
    gguf_tokenizer_fields,
)
from pytest_aprqa.conversion.tokenizers.restoring import files_from_gguf, stored_files

__all__ = [
    "apr_tokenizer_disagreements",
    "apr_tokenizer_fields",
    "files_from_apr",
    "files_from_gguf",
    "general_name_part",
    "gguf_tokenizer_fields",
    "stored_files",
    "stored_files_of_apr",
    "tokenizer_disagreements",
]
