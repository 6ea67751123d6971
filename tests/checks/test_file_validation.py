from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.file_validation import validate_file
from pytest_aprqa.checks.file_values import value_findings
from pytest_aprqa.checks.integrity_finding import MAX_FINDINGS_PER_CODE, IntegrityReport
from pytest_aprqa.conversion.tokenizers import apr_tokenizer_fields, gguf_tokenizer_fields
from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, TensorInfo
from pytest_aprqa.formats.gguf_field import GgufField, array, string, uint32
from pytest_aprqa.formats.hub import resolve_model
from tests.checks.model_files import (
    BIAS,
    EMBEDDING,
    MATRIX,
    NORM,
    TOKENS,
    Values,
    raw_tensor,
    write_model,
)

FORMATS = ("gguf", "apr", "safetensors")
STORED = ("gguf", "apr")


def told(report: IntegrityReport) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in report.findings]


def only(path: Path) -> tuple[str, str, str]:
    """Code, subject and message of the one finding."""
    (finding,) = validate_file(path).findings
    return finding.code, finding.subject, finding.message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_healthy_file_has_no_findings(tmp_path: Path, kind: str) -> None:
    report = validate_file(write_model(tmp_path, kind))
    assert report.healthy
    assert report.findings == ()


NOT_FINITE = [(math.nan, "NaN"), (math.inf, "Inf"), (-math.inf, "-Inf")]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("value", "name"), NOT_FINITE)
def test_what_is_not_finite_is_found(tmp_path: Path, kind: str, value: float, name: str) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[MATRIX[kind]][3, 5] = value
        values[MATRIX[kind]][9, 1] = math.nan

    path = write_model(tmp_path, kind, plant)
    assert only(path) == (
        "not-finite",
        MATRIX[kind],
        f"{path.name}: {MATRIX[kind]} has {name} at [3, 5], the first of 2 not finite among "
        f"1024 values (F32); expected finite values",
    )


def test_a_broken_scale_of_quantized_values_is_found(tmp_path: Path) -> None:
    block = struct.pack("<e32b", 0.5, *range(1, 33))
    broken = struct.pack("<e32b", math.nan, *range(32))
    name = "blk.0.ffn_up.weight"
    planted = raw_tensor(name, "Q8_0", (2, 32), block + broken)
    assert only(write_model(tmp_path, "gguf", extra=(planted,))) == (
        "not-finite",
        name,
        f"model.gguf: {name} has NaN at [1, 0], the first of 32 not finite among 64 values "
        f"(Q8_0); expected finite values",
    )
    healthy = raw_tensor(name, "Q8_0", (2, 32), block * 2)
    assert validate_file(write_model(tmp_path, "gguf", extra=(healthy,))).healthy


def test_values_that_nobody_here_decodes_are_not_judged(tmp_path: Path) -> None:
    planted = (
        raw_tensor("blk.0.a.weight", "Q8_1", (2, 32), bytes(80)),
        raw_tensor("blk.0.b.weight", "Q8_1", (1, 32), bytes(40)),
        raw_tensor("blk.0.mask", "I32", (3,), bytes(12)),
    )
    report = validate_file(write_model(tmp_path, "gguf", extra=planted))
    assert report.healthy
    (undecoded,) = [note for note in report.not_judged if "Q8_1" in note]
    assert undecoded.startswith("values of 2 Q8_1 tensors: ")
    assert "cannot be read" in undecoded
    assert "values of 1 I32 tensors" in report.not_judged


@pytest.mark.parametrize("kind", FORMATS)
def test_all_zeros_are_found_but_in_a_bias(tmp_path: Path, kind: str) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[MATRIX[kind]][:] = 0
        assert not values[BIAS[kind]].any()

    code, subject, message = only(write_model(tmp_path, kind, plant))
    assert (code, subject) == ("all-zero", MATRIX[kind])
    assert message == (
        f"model.{kind}: {MATRIX[kind]} is zero in all its 1024 values (F32); "
        f"expected trained values"
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_one_constant_is_found_but_in_a_norm(tmp_path: Path, kind: str) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[MATRIX[kind]][:] = 0.25
        assert (values[NORM[kind]] == 1).all()

    code, subject, message = only(write_model(tmp_path, kind, plant))
    assert (code, subject) == ("constant", MATRIX[kind])
    assert message == (
        f"model.{kind}: {MATRIX[kind]} is 0.25 in all its 1024 values (F32); "
        f"expected trained values"
    )


@pytest.mark.parametrize("kind", STORED)
def test_rows_of_zeros_are_found_where_ordinary_tokens_have_them(tmp_path: Path, kind: str) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[EMBEDDING[kind]][[0, 4, 5, 7]] = 0  # 5 is unused, 7 is <|end|>

    found = validate_file(write_model(tmp_path, kind, plant)).findings
    names = [EMBEDDING[kind], *(["lm_head.weight"] if kind == "apr" else [])]
    assert sorted(finding.subject for finding in found) == sorted(names)
    for finding in found:
        assert finding.code == "dead-row"
        assert finding.message == (
            f"model.{kind}: {finding.subject} has only zeros in 2 rows of ordinary tokens (0, 4); "
            f"expected trained values in each"
        )


@pytest.mark.parametrize("kind", STORED)
def test_rows_of_special_tokens_may_be_zeros(tmp_path: Path, kind: str) -> None:
    def plant(values: dict[str, Values]) -> None:
        values[EMBEDDING[kind]][[5, 7]] = 0

    assert validate_file(write_model(tmp_path, kind, plant)).healthy


def test_without_a_vocabulary_rows_of_zeros_are_not_judged(tmp_path: Path) -> None:
    def plant(values: dict[str, Values]) -> None:
        values["model.embed_tokens.weight"] = np.eye(8, 32, k=-1, dtype=np.float32)

    report = validate_file(write_model(tmp_path, "safetensors", plant))
    assert report.healthy
    assert report.not_judged == (
        "config and tokenizer: a lone safetensors file has none; give its directory",
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_short_is_a_finding(tmp_path: Path, kind: str) -> None:
    path = write_model(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-200])
    code, subject, message = only(path)
    assert (code, subject) == ("weights", path.name)
    assert message.startswith(f"{path}: ")
    assert "cut short" in message or "beyond" in message or "ends" in message


def test_overlapping_tensors_are_a_finding(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2]}
    header = {"a": entry | {"data_offsets": [0, 8]}, "b": entry | {"data_offsets": [4, 12]}}
    text = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))
    assert only(path) == (
        "weights",
        "m.safetensors",
        f"{path}: tensor b begins at byte 4, inside of the tensor before it; expected 8",
    )


def test_what_is_no_model_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are not weights.")
    code, _, message = only(path)
    assert code == "weights"
    assert message.startswith(f"{path}: 22 bytes, which begin with b'These are not we'")


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        validate_file(tmp_path / "none.gguf")
    assert str(caught.value) == f"{tmp_path}/none.gguf: there is no such file or directory"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {
                "tokenizer.ggml.tokens": array("string", TOKENS[:7]),
                "tokenizer.ggml.token_type": array("int32", [1] * 7),
                "tokenizer.ggml.eos_token_id": uint32(6),
            },
            "tokenizer.ggml.tokens has 7 entries, but token_embd.weight has 8 rows; "
            "expected one row for each token",
        ),
        (
            {"tokenizer.ggml.token_type": array("int32", [1] * 5)},
            "tokenizer.ggml.token_type has 5 entries; expected 8, one for each token",
        ),
        (
            {"tokenizer.ggml.eos_token_id": uint32(8)},
            "tokenizer.ggml.eos_token_id is 8; expected an id below 8",
        ),
    ],
)
def test_keys_of_the_tokenizer_that_do_not_fit_are_found(
    tmp_path: Path, fields: dict[str, GgufField], message: str
) -> None:
    path = write_model(tmp_path, "gguf", fields=fields)
    assert only(path) == ("tokenizer", "model.gguf", f"model.gguf: {message}")


def test_a_rule_of_apr_that_is_broken_is_found(tmp_path: Path) -> None:
    path = write_model(tmp_path, "apr")
    data = path.read_bytes().replace(b'"model_type":"Parts"', b'"model_kind":"Parts"')
    path.write_bytes(data[:-4])  # its checksum would no longer hold
    report = validate_file(path)
    assert told(report) == [
        (
            "apr-rule",
            "model.apr: model_type is missing; expected a text such as 'Llama'",
        )
    ]
    assert "the file's bytes: it has no checksum at its end" in report.not_judged


def test_a_byte_that_changed_in_an_apr_file_is_found(tmp_path: Path) -> None:
    path = write_model(tmp_path, "apr")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    code, subject, message = only(path)
    assert (code, subject) == ("checksum", "model.apr")
    assert message.startswith(f"{path}: the checksum at the end is ")


@pytest.fixture(scope="module")
def tiny() -> tuple[dict[str, object], dict[str, bytes]]:
    """config.json and the tokenizer's files of the embedded model."""
    directory = resolve_model("embedded/aprqa-tiny").directory
    names = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    config = json.loads((directory / "config.json").read_bytes())
    return config, {name: (directory / name).read_bytes() for name in names}


Tiny = tuple[dict[str, object], dict[str, bytes]]


@pytest.mark.parametrize("planted", [False, True])
def test_gguf_keys_and_embedded_tokenizer_must_agree(
    tmp_path: Path, tiny: Tiny, planted: bool
) -> None:
    fields = dict(gguf_tokenizer_fields(*tiny))
    if planted:
        tokens = list(fields["tokenizer.ggml.tokens"].value)
        tokens[300], tokens[301] = tokens[301], tokens[300]
        fields["tokenizer.ggml.tokens"] = array("string", tokens)

    def rows(values: dict[str, Values]) -> None:
        values[EMBEDDING["gguf"]] = np.random.default_rng(1).random((1024, 32), np.float32)

    path = write_model(tmp_path, "gguf", rows, fields=fields)
    findings = told(validate_file(path))
    if not planted:
        assert findings == []
        return
    ((code, message),) = findings
    assert code == "tokenizer"
    assert message.startswith("model.gguf: tokenizer.ggml.tokens[300] is ")
    assert message.endswith("(2 entries differ)")


@pytest.mark.parametrize("planted", [False, True])
def test_apr_keys_and_embedded_tokenizer_must_agree(
    tmp_path: Path, tiny: Tiny, planted: bool
) -> None:
    fields = apr_tokenizer_fields(*tiny)
    if planted:
        fields["tokenizer.merges"][5] = fields["tokenizer.merges"][6]

    def rows(values: dict[str, Values]) -> None:
        values[EMBEDDING["apr"]] = np.random.default_rng(1).random((1024, 32), np.float32)
        values["lm_head.weight"] = values[EMBEDDING["apr"]]

    path = write_model(tmp_path, "apr", rows, fields=fields)
    findings = told(validate_file(path))
    if not planted:
        assert findings == []
        return
    ((code, message),) = findings
    assert code == "tokenizer"
    assert message.startswith("model.apr: tokenizer.merges[5] is ")
    assert message.endswith("(1 entries differ)")


@pytest.mark.parametrize("kind", ["gguf", "apr"])
def test_each_disagreement_of_keys_and_files_is_a_finding(
    tmp_path: Path, tiny: Tiny, kind: str
) -> None:
    if kind == "gguf":
        fields: dict[str, Any] = dict(gguf_tokenizer_fields(*tiny))
        merges, pre = "tokenizer.ggml.merges", "tokenizer.ggml.pre"
        fields[merges] = array("string", fields[merges].value[:-1])
        fields[pre] = string("llama-bpe")
    else:
        fields = apr_tokenizer_fields(*tiny)
        merges, pre = "tokenizer.merges", "tokenizer.pre_type"
        fields[merges] = fields[merges][:-1]
        fields[pre] = "llama-bpe"

    def rows(values: dict[str, Values]) -> None:
        values[EMBEDDING[kind]] = np.random.default_rng(1).random((1024, 32), np.float32)
        if kind == "apr":
            values["lm_head.weight"] = values[EMBEDDING[kind]]

    (first, second) = told(validate_file(write_model(tmp_path, kind, rows, fields=fields)))
    assert first[0] == second[0] == "tokenizer"
    assert first[1].startswith(f"model.{kind}: {merges} has ")
    assert second[1].startswith(f"model.{kind}: {pre} is 'llama-bpe', but the files have ")


def test_a_tokenizer_that_is_wrong_in_itself_is_found_inside_of_a_file(
    tmp_path: Path, tiny: Tiny
) -> None:
    config, files = tiny
    settings = json.loads(files["tokenizer_config.json"])
    settings["additional_special_tokens"] = ["<|nothing|>"]
    changed = files | {"tokenizer_config.json": json.dumps(settings).encode()}
    fields = gguf_tokenizer_fields(config, changed)

    def rows(values: dict[str, Values]) -> None:
        values[EMBEDDING["gguf"]] = np.random.default_rng(1).random((1024, 32), np.float32)

    ((code, message),) = told(validate_file(write_model(tmp_path, "gguf", rows, fields=fields)))
    assert code == "special-token"
    assert message.startswith(
        "model.gguf: inside of it, tokenizer_config.json: additional_special_tokens[0] is "
        "'<|nothing|>', which is no token of tokenizer.json"
    )


def test_findings_of_one_kind_are_bounded(tmp_path: Path) -> None:
    def plant(values: dict[str, Values]) -> None:
        values |= {f"layers.{n}.weight": np.zeros((2, 2), np.float32) for n in range(12)}

    found = validate_file(write_model(tmp_path, "safetensors", plant)).findings
    assert len(found) == MAX_FINDINGS_PER_CODE + 1
    assert found[-1].message == "and 4 more findings of this kind"


def test_hostile_names_stay_in_one_line(tmp_path: Path) -> None:
    text = json.dumps({"a\nb": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    _, _, message = only(path)
    assert "\n" not in message
    assert "unprintable characters" in message


def test_a_directory_gets_the_checks_of_g0_and_those_of_its_values(tmp_path: Path) -> None:
    source = resolve_model("embedded/aprqa-tiny").directory
    directory = Path(shutil.copytree(source, tmp_path / "model"))
    assert validate_file(directory) == IntegrityReport((), ())
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])

    def fill(name: str, start: int, stop: int, value: bytes) -> None:
        begin = 8 + length + header[name]["data_offsets"][0]
        data[begin + start : begin + stop] = value * ((stop - start) // len(value))

    # One BF16 row of 256 values is 512 bytes; token 300 is an ordinary one, 1021 is <|endoftext|>.
    fill("model.embed_tokens.weight", 300 * 512, 301 * 512, b"\0")
    fill("model.embed_tokens.weight", 1021 * 512, 1022 * 512, b"\0")
    fill("model.layers.1.self_attn.o_proj.weight", 0, 256 * 512, b"\x80\x3f")
    path.write_bytes(data)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
    assert [code for code, _ in told(validate_file(directory))] == [
        "config",
        "dead-row",
        "constant",
    ]


class Pieces:
    """A checkpoint of one matrix that is given in pieces of a few values."""

    def __init__(self, values: Values, size: int) -> None:
        self._values, self._size = values, size
        name = "token_embd.weight"
        info = TensorInfo(name, "F32", values.shape, values.nbytes, Path("m.gguf"))
        self.tensors = {name: info}
        self.path, self.format, self.metadata = Path("m.gguf"), Format.GGUF, dict[str, Any]()

    def bytes_of(self, name: str) -> Values:
        return self._values.reshape(-1).view(np.uint8)

    def float32_chunks(self, name: str) -> Iterator[Values]:
        flat = self._values.reshape(-1)
        yield from (flat[at : at + self._size] for at in range(0, flat.size, self._size))

    def release(self, name: str) -> None:
        return None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 40])
def test_rows_are_told_across_the_pieces_they_come_in(size: int) -> None:
    values = np.ones((10, 4), np.float32)
    values[[2, 5, 6]] = 0
    values[3, :3] = values[7, 1:] = 0
    values[9, 2] = 2
    findings, notes = value_findings(Pieces(values, size), ordinary=range(10))
    assert notes == []
    assert [finding.message for finding in findings] == [
        "m.gguf: token_embd.weight has only zeros in 3 rows of ordinary tokens (2, 5, 6); "
        "expected trained values in each"
    ]
    values[8, 1] = -math.inf
    ((finding,), _) = value_findings(Pieces(values, size), ordinary=range(10))
    assert finding.message.startswith("m.gguf: token_embd.weight has -Inf at [8, 1], the first of")
