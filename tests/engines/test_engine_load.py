from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable, Falsified
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.engine import EngineCrashed, LoadFailed, told
from pytest_aprqa.engines.transformers_engine import load

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.engines.transformers_engine import TransformersEngine


def test_engine_fits_the_protocol(engine: TransformersEngine) -> None:
    as_protocol: Engine = engine
    assert as_protocol.name == "transformers"
    assert as_protocol.device == "cpu"
    assert as_protocol.has_chat_template
    assert as_protocol.context_length == 2048


def test_describe_names_what_ran(engine: TransformersEngine) -> None:
    described = engine.describe()
    assert described["engine"].startswith("transformers 5.")
    assert described["dtype"] == "bfloat16"
    assert described["device"] == "cpu"
    assert described["threads"] == "1"
    assert described["architecture"] == "Qwen2ForCausalLM"
    assert all(isinstance(value, str) for value in described.values())


def test_dtype_can_be_asked_for(model_directory: Path) -> None:
    engine = load(model_directory, backend=Backend.CPU, dtype="float32", threads=1)
    assert engine.describe()["dtype"] == "float32"


def test_unknown_dtype(model_directory: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"unknown dtype 'int3'; expected one of float32"):
        load(model_directory, backend=Backend.CPU, dtype="int3")


def test_load_failure_falsifies_and_unavailability_does_not() -> None:
    assert issubclass(LoadFailed, Falsified)
    assert issubclass(EngineUnavailable, AprqaError)
    assert not issubclass(EngineCrashed, (Falsified, AprqaError))


def test_no_cuda_device(model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"no CUDA device: torch .* backend cpu"):
        load(model_directory, backend=Backend.GPU)


def test_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"no config\.json; expected a directory with a model's"):
        load(tmp_path, backend=Backend.CPU)


def test_no_weights(copied_model: Path) -> None:
    (copied_model / "model.safetensors").unlink()
    with pytest.raises(LoadFailed, match=r"no file named model\.safetensors"):
        load(copied_model, backend=Backend.CPU, threads=1)


def test_truncated_weights(copied_model: Path) -> None:
    weights = copied_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:9000])
    with pytest.raises(LoadFailed, match=r"SafetensorError"):
        load(copied_model, backend=Backend.CPU, threads=1)


def _rewrite(directory: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = dict(load_file(directory / "model.safetensors"))
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def test_missing_tensor(copied_model: Path) -> None:
    _rewrite(copied_model, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    message = (
        f"{copied_model}: the weights do not fit config.json: "
        "1 missing (model.layers.1.mlp.up_proj.weight)"
    )
    with pytest.raises(LoadFailed) as caught:
        load(copied_model, backend=Backend.CPU, threads=1)
    assert str(caught.value) == message


def test_unexpected_and_misshapen_tensors(copied_model: Path) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> None:
        tensors["extra.weight"] = torch.zeros(2)
        tensors["model.norm.weight"] = torch.zeros(3)

    _rewrite(copied_model, change)
    with pytest.raises(LoadFailed) as caught:
        load(copied_model, backend=Backend.CPU, threads=1)
    assert "1 unexpected (extra.weight)" in str(caught.value)
    shapes = "1 of another shape (model.norm.weight is 3, config says 64)"
    assert shapes in str(caught.value)


def test_missing_tokenizer(copied_model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (copied_model / name).unlink()
    with pytest.raises(LoadFailed, match=r"no usable tokenizer: text becomes no tokens"):
        load(copied_model, backend=Backend.CPU, threads=1)


def test_unknown_architecture_is_one_line(copied_model: Path) -> None:
    (copied_model / "config.json").write_text(json.dumps({"model_type": "nosuch"}))
    with pytest.raises(LoadFailed, match=r"model type `nosuch`") as caught:
        load(copied_model, backend=Backend.CPU, threads=1)
    assert "\n" not in str(caught.value)


def test_code_in_the_repository_is_not_run(copied_model: Path) -> None:
    ran = copied_model / "ran"
    (copied_model / "configuration_x.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = {"model_type": "nosuch", "auto_map": {"AutoConfig": "configuration_x.C"}}
    (copied_model / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadFailed, match=r"custom code"):
        load(copied_model, backend=Backend.CPU, threads=1)
    assert not ran.exists()


def test_too_little_memory_is_not_the_models_fault(
    model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    def fail(*_args: object, **_kwargs: object) -> None:
        raise MemoryError("cannot allocate")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(EngineUnavailable, match=r"not enough memory on cpu"):
        load(model_directory, backend=Backend.CPU, threads=1)


def test_loading_leaves_no_trace(
    copied_model: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    import torch
    from transformers.utils import logging as transformers_logging

    _rewrite(copied_model, lambda tensors: tensors.pop("model.norm.weight"))
    before = (transformers_logging.get_verbosity(), torch.get_num_threads())
    state = torch.random.get_rng_state()
    with pytest.raises(LoadFailed):
        load(copied_model, backend=Backend.CPU, threads=1)
    assert (transformers_logging.get_verbosity(), torch.get_num_threads()) == before
    assert transformers_logging.get_verbosity() <= logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()
    if hasattr(transformers_logging, "set_tqdm_hook"):
        assert transformers_logging.set_tqdm_hook(None) is None
    assert torch.equal(torch.random.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_told_keeps_the_type_and_cuts_the_length() -> None:
    assert told(ValueError("a\n  b")) == "ValueError: a b"
    assert told(KeyError()) == "KeyError"
    assert len(told(ValueError("x" * 1000))) == 400
