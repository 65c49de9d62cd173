"""What the machine is good at, asked only when a model is about to run."""

from __future__ import annotations

from pathlib import Path

from indexer.embedding_errors import DeviceUnavailable

_CPU_FLAGS_OF_FAST_BF16 = {"amx_bf16", "avx512_bf16", "bf16"}  # x86, x86, Arm
_FIRST_CUDA_WITH_BF16 = (8, 0)


def resolve_device(name: str) -> str:
    """The torch device for "auto", "cpu", "cuda" or "cuda:n"; auto takes CUDA where there is one."""
    if name == "cpu":
        return name
    kind, _, number = name.partition(":")
    if name != "auto" and (kind != "cuda" or (number and not number.isdigit())):
        raise DeviceUnavailable(
            f"There is no device {name!r}.", hint="Choose auto, cpu, cuda or cuda:<number>."
        )
    import torch

    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if num_devices else "cpu"
    if int(number or 0) >= num_devices:
        raise DeviceUnavailable(
            f"The device {name} was asked for, but torch sees {num_devices} CUDA devices.",
            hint="Use --device auto, or install a torch build for your GPU.",
        )
    return f"cuda:{int(number or 0)}"


def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 multiplies in hardware on this device (a resolved one)."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_capability(device) >= _FIRST_CUDA_WITH_BF16
    return bool(_cpu_flags() & _CPU_FLAGS_OF_FAST_BF16)


def _cpu_flags() -> set[str]:
    """The processor's feature flags as Linux lists them; none where there is no such list."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()
