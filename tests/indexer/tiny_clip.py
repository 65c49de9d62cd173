"""A CLIP of a few thousand random weights, saved as sentence-transformers and as transformers save theirs."""

from __future__ import annotations

from pathlib import Path

DIMENSION = 24
POSITIONS = 16


def save_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """A folder as `transformers` writes it; the library finds out by itself how it is used."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower["initializer_factor"] = 8.0  # so that random weights tell things apart
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(pieces),
            "max_position_embeddings": POSITIONS,
            "bos_token_id": len(pieces) - 2,
            "eos_token_id": len(pieces) - 1,
            "pad_token_id": len(pieces) - 1,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=DIMENSION,
        initializer_factor=8.0,
    )
    torch.manual_seed(seed)
    CLIPModel(config).eval().save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def save_with_modules(source: Path, folder: Path) -> Path:
    """The same model with a modules.json, as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(source), device="cpu", local_files_only=True).save(str(folder))
    return folder


def save_tiny_pair(folder: Path) -> Path:
    """Two towers that were not made for one another, joined as transformers joins any: a ViT and a BERT."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        VisionTextDualEncoderProcessor,
        ViTConfig,
    )
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder.mkdir(parents=True, exist_ok=True)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    texts = BertConfig(**tower, vocab_size=64, max_position_embeddings=POSITIONS)
    pictures = ViTConfig(**tower, image_size=32, patch_size=8)
    config = VisionTextDualEncoderConfig(
        vision_config=pictures.to_dict(), text_config=texts.to_dict(), projection_dim=DIMENSION
    )
    torch.manual_seed(0)
    VisionTextDualEncoderModel(config).eval().save_pretrained(folder)
    letters = [chr(ord("a") + number) for number in range(26)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    size = {"height": 32, "width": 32}
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    VisionTextDualEncoderProcessor(ViTImageProcessorPil(size=size), tokenizer).save_pretrained(folder)
    return folder
