"""Which device a process takes of those that it may see."""

from __future__ import annotations

import os

import pytest

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.devices import find_device, worker_number


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three visible CUDA devices, the caller's current one being the last."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 2)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6,7")


@pytest.mark.parametrize(
    ("worker", "number", "device"),
    [
        (None, None, "cuda:2"),
        ("master", None, "cuda:2"),
        ("gw0", 0, "cuda:0"),
        ("gw2", 2, "cuda:2"),
        ("gw3", 3, "cuda:0"),
        ("gw10", 10, "cuda:1"),
    ],
)
def test_workers_share_the_visible_devices_out(
    gpus: None,
    monkeypatch: pytest.MonkeyPatch,
    worker: str | None,
    number: int | None,
    device: str,
) -> None:
    if worker is not None:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    assert worker_number() == number
    assert find_device(Backend.GPU) == device
    assert find_device(Backend.CPU) == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,6,7"


def test_mps_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert find_device(Backend.GPU) == "mps:0"
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"no CUDA device: torch .* sees none"):
        find_device(Backend.GPU)
