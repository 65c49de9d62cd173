"""Which device and number format a model runs on."""

from __future__ import annotations

import re

import torch

from generator.errors import DeviceUnavailable, UnknownDevice, UnknownDtype

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEVICE_NAME = re.compile(r"auto|cpu|cuda(?::(\d+))?")


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device behind "auto", "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU."""
    match = _DEVICE_NAME.fullmatch(str(name))
    if match is None:
        raise UnknownDevice(f"Unknown device {str(name)!r}.", hint="Use auto, cpu, cuda or cuda:N.")
    if match[0] == "cpu" or (match[0] == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        found = f"{count} CUDA device{'s' if count != 1 else ''}"
        raise DeviceUnavailable(
            f"Device {str(name)!r} was asked for, but PyTorch sees {found}.",
            hint="Use cpu or auto, or install a CUDA build of PyTorch and its driver.",
        )
    return torch.device("cuda", index)


def resolve_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype behind "auto", "float32", "bfloat16" or "float16".

    "auto" is bfloat16 only where the hardware multiplies it natively; elsewhere float32 is faster.
    """
    name = str(name).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if _is_fast_at_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UnknownDtype(f"Unknown dtype {name!r}.", hint=f"Use auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def _is_fast_at_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Private probes, so absence means "no"; CPUs with AVX-512 BF16 or AMX answer yes.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)
