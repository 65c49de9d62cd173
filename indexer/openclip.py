"""Image embedders in OpenCLIP's form: MobileCLIP, SigLIP and others with towers for pictures out of timm.

Such a folder or hub repository has an `open_clip_config.json` beside its weights. It is read by open_clip,
which is not installed by default (the extra `openclip`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CONFIG_NAME = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")  # read before any pickle
INSTALL_HINT = (
    "Run `pip install 'ragserve[openclip]'`, with the build of torchvision that goes with your torch."
)


def is_installed() -> bool:
    """Whether the library that reads such models is there."""
    return importlib.util.find_spec("open_clip") is not None


def why_not(config: Mapping[str, Any], folder: Path) -> str:
    """What keeps a model with that configuration from being read; "" where nothing does."""
    model = config.get("model_cfg")
    towers = [model.get(name) if isinstance(model, dict) else None for name in ("text_cfg", "vision_cfg")]
    if not all(isinstance(tower, dict) for tower in towers):
        return f"its {CONFIG_NAME} describes no tower for texts and one for pictures"
    text, vision = towers
    if text.get("hf_model_name"):  # open_clip asks the hub what that looks like
        return f"its tower for texts is one of another repository ({text['hf_model_name']})"
    if ":" in str(vision.get("timm_model_name")):  # so does timm: "hf-hub:org/name"
        return f"its tower for pictures is one of another repository ({vision['timm_model_name']})"
    if text.get("hf_tokenizer_name") and not (folder / "tokenizer.json").is_file():
        return f"its tokenizer is in another repository ({text['hf_tokenizer_name']})"
    options = text.get("tokenizer_kwargs")  # open_clip hands them on to transformers
    if isinstance(options, dict) and options.get("trust_remote_code"):
        return "its tokenizer needs code of its own, which is not run"
    if not any((folder / name).is_file() for name in _WEIGHTS):
        return f"it has no weights in safetensors format ({_WEIGHTS[0]})"
    return ""


def load(folder: Path, *, device: str, dtype: str) -> Callable[[list[Any]], np.ndarray]:
    """What turns pictures (PIL, RGB), or texts, into (n, dimension) float32 rows of any length."""
    import open_clip
    import torch

    precision = {"float32": "fp32", "bfloat16": "pure_bf16", "float16": "pure_fp16"}[dtype]
    place = f"local-dir:{folder}"
    model, prepare = open_clip.create_model_from_pretrained(place, device=device, precision=precision)
    model.eval()
    tokenize = open_clip.get_tokenizer(place)
    number_type = getattr(torch, dtype)

    def encode(items: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            if isinstance(items[0], str):
                rows = model.encode_text(tokenize(items).to(device))
            else:
                pictures = torch.stack([prepare(picture) for picture in items])
                rows = model.encode_image(pictures.to(device, number_type))
        return rows.float().cpu().numpy()

    return encode
