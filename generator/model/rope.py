"""Rotary position embeddings: frequencies, their long-context scalings, and the rotation.

Sources: RoPE arXiv 2104.09864; linear interpolation arXiv 2306.15595; YaRN arXiv 2309.00071; the llama3
scaling is the one of Meta's Llama 3.1 release. The two halves of a head rotate against each other (the
Hugging Face layout), not neighbouring pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from generator.model.config import ModelConfig, RopeScaling


class Rotation(NamedTuple):
    """Cosines and sines of one forward pass, float32, (B or 1, 1, T, head_dim).

    The first half of the sines is negated, which spares `rotate` doing that to every head.
    """

    cos: torch.Tensor
    sin: torch.Tensor


class RotaryEmbedding:
    """Turns positions into rotations.

    Deliberately not a module: frequencies must stay float32 when the model is cast to bfloat16, and they are
    derived from the configuration, so no checkpoint holds them.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.frequencies, self.attention_factor = rope_frequencies(config)

    def rotation(self, positions: torch.Tensor) -> Rotation:
        """Rotation for `positions` (B or 1, T)."""
        if self.frequencies.device != positions.device:
            self.frequencies = self.frequencies.to(positions.device)
        angles = positions[:, None, :, None].float() * self.frequencies
        cos, sin = angles.cos() * self.attention_factor, angles.sin() * self.attention_factor
        return Rotation(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))


def rotate(heads: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Rotate (B, H, T, D) in float32 and round once to the input's dtype."""
    full = heads.float()
    swapped = full.roll(full.shape[-1] // 2, dims=-1)
    return torch.addcmul(full * rotation.cos, swapped, rotation.sin).to(heads.dtype)


def rope_frequencies(config: ModelConfig) -> tuple[torch.Tensor, float]:
    """Frequencies (head_dim / 2,) in radians a token, and the factor that scales cosines and sines."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu") / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies, 1.0
    if scaling.kind == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling), 1.0
    return _yarn(frequencies, scaling, config), _yarn_attention_factor(scaling)


def _llama3(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Slow dimensions are interpolated, fast ones kept, and those between blended by wavelength."""
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_positions / wavelengths  # full turns within the pretraining length
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies


def _yarn(frequencies: torch.Tensor, scaling: RopeScaling, config: ModelConfig) -> torch.Tensor:
    """Dimensions that turn often (beta_fast) are kept, slow ones (beta_slow) interpolated, a ramp between."""

    def dimension_turning(turns: float) -> float:
        ratio = scaling.original_max_positions / (turns * 2 * math.pi)
        return config.head_dim * math.log(ratio) / (2 * math.log(config.rope_theta))

    low, high = dimension_turning(scaling.beta_fast), dimension_turning(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    width = high - low if high != low else 0.001
    ramp = ((torch.arange(len(frequencies), dtype=torch.float32, device="cpu") - low) / width).clamp(0, 1)
    return ramp * frequencies / scaling.factor + (1 - ramp) * frequencies


def _yarn_attention_factor(scaling: RopeScaling) -> float:
    """YaRN sharpens attention by scaling queries and keys alike; a checkpoint may state the factor itself."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor

    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return magnitude(scaling.mscale) / magnitude(scaling.mscale_all_dim)
    return magnitude(1.0)
