"""The quantization ladder through `convert`: what each format holds of it, and what comes back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.formats.gguf_file import GgufFile
from tests.conversion.files import companions, encodings, names_in, stored, tiny, values

BLOCKS = [q for q in Quantization if q not in ("f32", "f16", "bf16")]
# The encoding of most weights, and between what a part of their power their error lies.
GGUF = {
    "q8_0": ("Q8_0", 1e-6, 1e-4),
    "q6_k": ("Q6_K", 1e-5, 1e-3),
    "q5_k_m": ("Q5_K", 1e-4, 4e-3),
    "q5_0": ("Q5_0", 1e-4, 4e-3),
    "q4_k_m": ("Q4_K", 1e-3, 1e-2),
    "q4_0": ("Q4_0", 1e-3, 2e-2),
    "q3_k_m": ("Q3_K", 3e-3, 4e-2),
    "q2_k": ("Q2_K", 1e-2, 2e-1),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Conversions of the embedded model by name and quantization, each made once."""
    place = tmp_path_factory.mktemp("quantized")

    def make(suffix: str, quantization: str | None) -> Path:
        path = place / f"{quantization}{suffix}"
        if not path.exists():
            kind = None if quantization is None else Quantization(quantization)
            convert(tiny(), path, quantization=kind)
        return path

    return make


def _loss(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Squared error over power, of all matrices together."""
    error = power = 0.0
    for name, wanted in expected.items():
        if wanted.ndim == 2:
            error += float(((found[name].astype(np.float64) - wanted) ** 2).sum())
            power += float((wanted.astype(np.float64) ** 2).sum())
    return error / power


@pytest.mark.parametrize("quantization", BLOCKS)
def test_gguf_holds_every_quantization(made: Any, quantization: str) -> None:
    path, plain = made(".gguf", quantization), made(".gguf", None)
    kind, least, most = GGUF[quantization]
    matrices = Counter(info.dtype for _, info in GgufFile.open(path).tensors.items())
    assert matrices.most_common(2)[0][0] in (kind, "F32")
    assert matrices[kind] >= 10
    assert least <= _loss(values(path), values(plain)) <= most
    fields = GgufFile.open(path).metadata
    assert fields["general.quantization_version"] == 2
    assert json.loads(fields["aprqa.config"]) == json.loads((tiny() / "config.json").read_bytes())
    assert not [name for name in names_in(path.parent) if name.startswith(".")]


@pytest.mark.parametrize("quantization", ["q4_k_m", "q6_k"])
def test_apr_keeps_llama_cpps_blocks(made: Any, quantization: str) -> None:
    apr, gguf = stored(made(".apr", quantization)), stored(made(".gguf", quantization))
    blocks = {name: entry for name, entry in gguf.items() if entry[0] in ("Q4_K", "Q6_K")}
    of_each = Counter(data for _, _, data in blocks.values())
    found = Counter(data for kind, _, data in apr.values() if kind in ("Q4_K", "Q6_K"))
    assert sum(of_each.values()) >= 20
    # The head is a copy of the embedding, which GGUF has once.
    assert found == of_each + Counter({gguf["token_embd.weight"][2]: 1})
    assert {kind for kind, _, _ in apr.values()} <= {"Q4_K", "Q6_K", "BF16", "F32"}


@pytest.mark.parametrize("quantization", ["q8_0", "q4_0"])
def test_aprs_own_encodings_follow_their_formulas(made: Any, quantization: str) -> None:
    plain, found = values(made(".apr", None)), values(made(".apr", quantization))
    kinds = encodings(made(".apr", quantization))
    own = {"q8_0": "APR_Q8", "q4_0": "APR_Q4"}[quantization]
    quantized = [name for name, kind in kinds.items() if kind == own]
    assert len(quantized) == 3 * 7
    assert not any("embed" in name or "lm_head" in name for name in quantized)
    for name in plain:
        x = plain[name]
        if name not in quantized:
            np.testing.assert_array_equal(found[name], x)
            continue
        # One scale for all, or a half float for each 32; codes rounded half away from zero.
        groups = x.reshape(1, -1) if own == "APR_Q8" else x.reshape(-1, 32)
        levels = np.float32(127 if own == "APR_Q8" else 7)
        scale = np.abs(groups).max(axis=1, keepdims=True) / levels
        codes = np.copysign(np.floor(np.abs(groups / scale) + np.float32(0.5)), groups)
        stored_scale = scale if own == "APR_Q8" else scale.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found[name].reshape(groups.shape), codes * stored_scale)


@pytest.mark.parametrize(
    ("suffix", "quantization"),
    [
        (".gguf", "q4_k_m"),
        (".gguf", "q8_0"),
        (".apr", "q4_k_m"),
        (".apr", "q8_0"),
        (".apr", "q4_0"),
    ],
)
def test_a_quantized_file_becomes_a_float32_directory(
    made: Any, tmp_path: Path, suffix: str, quantization: str
) -> None:
    source, back = made(suffix, quantization), tmp_path / "back"
    convert(source, back)
    assert set(encodings(back).values()) == {"F32"}
    config = json.loads((back / "config.json").read_bytes())
    assert config == json.loads((tiny() / "config.json").read_bytes()) | {"dtype": "float32"}
    others = companions(tiny()).keys() - {"config.json"}
    assert {name: companions(back)[name] for name in others} == {
        name: companions(tiny())[name] for name in others
    }
    found, decoded = values(back), values(source)
    names = set(found)
    if suffix == ".gguf":
        names = {name for name in names if "o_proj" in name or "mlp" in name or "embed" in name}
        decoded = _as_hugging_face(decoded)
    assert len(names) > 10
    for name in names:
        np.testing.assert_array_equal(found[name], decoded[name])


def _as_hugging_face(decoded: dict[str, Any]) -> dict[str, Any]:
    """GGUF's names for what needs no permutation, written out."""
    named = {"model.embed_tokens.weight": decoded["token_embd.weight"]}
    parts = {
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for layer in range(3):
        for theirs, ours in parts.items():
            named[f"model.layers.{layer}.{theirs}.weight"] = decoded[f"blk.{layer}.{ours}.weight"]
    return named


def test_the_second_trip_of_a_quantized_file_loses_nothing(made: Any, tmp_path: Path) -> None:
    convert(made(".gguf", "q4_k_m"), tmp_path / "once")
    convert(tmp_path / "once", tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path / "twice")
    assert stored(tmp_path / "twice") == stored(tmp_path / "once")
    assert companions(tmp_path / "twice") == companions(tmp_path / "once")


@pytest.mark.parametrize("quantization", ["q4_k_m", "q6_k"])
def test_quantized_gguf_to_apr_keeps_the_blocks(
    made: Any, tmp_path: Path, quantization: str
) -> None:
    source, target = made(".gguf", quantization), tmp_path / "m.apr"
    convert(source, target)
    gguf, apr = stored(source), stored(target)
    kept = Counter((kind, data) for kind, _, data in apr.values() if kind[0] == "Q")
    expected = Counter((kind, data) for kind, _, data in gguf.values() if kind[0] == "Q")
    head = gguf["token_embd.weight"]
    assert kept == expected + Counter({(head[0], head[2]): 1})
    back, same = tmp_path / "back.gguf", tmp_path / "same.gguf"
    convert(target, back)
    convert(source, same)
    assert stored(back) == stored(same) == gguf


def test_blocks_that_apr_lacks_are_decoded_on_the_way(made: Any, tmp_path: Path) -> None:
    source, target = made(".gguf", "q5_0"), tmp_path / "m.apr"
    convert(source, target)
    assert set(encodings(target).values()) <= {"F32", "Q6_K"}
    found, expected = values(target), {t.name: t.values() for t in read_portable(source).tensors}
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("quantization", ["q8_0", "q4_0"])
def test_aprs_own_blocks_are_decoded_for_gguf(made: Any, tmp_path: Path, quantization: str) -> None:
    source, target = made(".apr", quantization), tmp_path / "m.gguf"
    convert(source, target)
    assert set(encodings(target).values()) == {"F32"}
    decoded = values(source)
    for name, wanted in values(target).items():
        if "attn_output" in name:
            layer = name.split(".")[1]
            theirs = f"model.layers.{layer}.self_attn.o_proj.weight"
            np.testing.assert_array_equal(wanted, decoded[theirs])
    expected = {t.name: t.values() for t in read_portable(source).tensors}
    found = {t.name: t.values() for t in read_portable(target).tensors}
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("suffix", [".gguf", ".apr"])
def test_a_quantized_file_may_be_cast(made: Any, tmp_path: Path, suffix: str) -> None:
    source = made(suffix, "q4_k_m")
    convert(source, tmp_path / "m.gguf", quantization=Quantization.F16)
    assert set(encodings(tmp_path / "m.gguf").values()) == {"F16", "F32"}
    convert(source, tmp_path / "m", quantization=Quantization.BF16)
    assert set(encodings(tmp_path / "m").values()) == {"BF16"}
    assert json.loads((tmp_path / "m" / "config.json").read_bytes())["dtype"] == "bfloat16"
