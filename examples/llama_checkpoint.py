"""Use a Llama-family checkpoint: from a folder, from the hub, or a tiny random one made on the spot.

python examples/llama_checkpoint.py
python examples/llama_checkpoint.py ./SmolLM2-360M-Instruct
python examples/llama_checkpoint.py HuggingFaceTB/SmolLM2-360M-Instruct "Who keeps the charts?"

Without an argument nothing is downloaded; the text is then as random as the weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers

from generator import Generator, GroundedAnswer

PASSAGES = [
    ("harbour.md", "The harbour master keeps the charts in the red cabinet. The key hangs by the door."),
    ("ferry.md", "The ferry leaves at seven in the morning and does not sail in a storm."),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate with a Llama-family checkpoint.")
    parser.add_argument(
        "model", nargs="?", help="a model folder or a hub name; a tiny random one if left out"
    )
    parser.add_argument("question", nargs="?", default="Who keeps the charts?")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write_tiny_llama(Path(folder))
        generator = Generator.load(model, device=arguments.device, dtype=arguments.dtype)
    show(generator, arguments.question)


def show(generator: Generator, question: str) -> None:
    [first, second] = generator.generate(["The sea is", "Ships"], max_new_tokens=12)
    print(f"The sea is{first.text!r} ({first.finish_reason}, {len(first.token_ids)} tokens)")
    print(f"Ships{second.text!r}")

    print("\nSampled, streamed: ", end="")
    for event in generator.stream("Once", max_new_tokens=12, temperature=0.8, top_p=0.95, seed=1):
        print(event.text, end="", flush=True)

    print(f"\n\n{question} ", end="")
    for event in generator.answer_stream(question, PASSAGES, max_new_tokens=48):
        if not isinstance(event, GroundedAnswer):
            print(event.text, end="", flush=True)
            continue
        print(f"\nsupported: {event.supported}, confidence: {event.confidence:.2f}")
        for span in event.spans:
            print(f"  {span.passage_id}: {dict(PASSAGES)[span.passage_id][span.start : span.end]!r}")


def write_tiny_llama(folder: Path) -> Path:
    """A complete Hugging Face folder: configuration, byte tokenizer, random weights."""
    hidden, inner, layers, heads, kv_heads, vocab = 64, 128, 2, 4, 2, 257
    config = {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "eos_token_id": vocab - 1,
    }
    (folder / "config.json").write_text(json.dumps(config))

    alphabet = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))

    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    kv_size = hidden // heads * kv_heads
    for layer in range(layers):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj.weight": (hidden, hidden),
            f"{name}.self_attn.k_proj.weight": (kv_size, hidden),
            f"{name}.self_attn.v_proj.weight": (kv_size, hidden),
            f"{name}.self_attn.o_proj.weight": (hidden, hidden),
            f"{name}.mlp.gate_proj.weight": (inner, hidden),
            f"{name}.mlp.up_proj.weight": (inner, hidden),
            f"{name}.mlp.down_proj.weight": (hidden, inner),
            f"{name}.input_layernorm.weight": (hidden,),
            f"{name}.post_attention_layernorm.weight": (hidden,),
        }
    random = torch.Generator().manual_seed(0)
    weights = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
