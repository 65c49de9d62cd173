"""Devices and dtypes by name."""

from __future__ import annotations

import pytest
import torch

from generator.errors import DeviceUnavailable, UnknownDevice, UnknownDtype
from generator.hardware import resolve_device, resolve_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs of the Ampere generation."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


@pytest.mark.usefixtures("gpus")
def test_with_a_gpu_auto_is_the_first_one() -> None:
    assert resolve_device("auto") == resolve_device("cuda") == CUDA
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cpu") == CPU


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_not_there_is_an_error_with_the_count() -> None:
    with pytest.raises(DeviceUnavailable, match="'cuda:2' was asked for, but PyTorch sees 2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DeviceUnavailable, match="sees 0 CUDA devices") as caught:
        resolve_device("cuda")
    assert "cpu or auto" in caught.value.hint


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "mps", "cpu:0 "])
def test_an_unknown_device_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownDevice, match="auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["bf16", "half", "int8", ""])
def test_an_unknown_dtype_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownDtype, match="auto, float32, bfloat16, float16"):
        resolve_dtype(name, CPU)


def test_a_named_dtype_is_taken_as_it_is() -> None:
    assert resolve_dtype("float16", CPU) == torch.float16
    assert resolve_dtype(torch.bfloat16, CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, torch.float32)],
)
def test_auto_is_bfloat16_only_on_cpus_that_multiply_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert resolve_dtype("auto", CPU) == expected


def test_auto_is_float32_where_pytorch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert resolve_dtype("auto", CPU) == torch.float32


@pytest.mark.usefixtures("gpus")
def test_auto_is_bfloat16_on_gpus_from_ampere_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_dtype("auto", CUDA) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert resolve_dtype("auto", CUDA) == torch.float32
