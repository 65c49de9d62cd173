"""The other side of engine_llama_cpp.py; runs where llama-cpp-python and gguf are, and nothing of ours is.

Reads a task as JSON from standard input and prints one JSON line: greedy tokens and their speed.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def main() -> None:
    task = json.load(sys.stdin)
    folder = Path(task["folder"])
    path = folder / f"{task['form']}.gguf"
    if not path.exists():
        write_gguf(path, folder, task["form"])
    outputs, speed = decode(path, task["prompts"], task["new_tokens"], task["threads"])
    print(json.dumps({"outputs": outputs, "tokens_per_second": speed, "version": llama_cpp.__version__}))


def write_gguf(path: Path, folder: Path, form: str) -> None:
    """The exported weights as a Llama in GGUF; matrices in `form`, vectors in float32."""
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("none")
    for file in sorted(folder.glob("*.npy")):
        module = file.name.removesuffix(".npy").removesuffix(".weight")
        if module == "lm_head" and config["tie_word_embeddings"]:
            continue
        add_tensor(writer, gguf_name(module), as_float32(file), form, heads=heads, kv_heads=kv_heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(module: str) -> str:
    if module in _WHOLE:
        return _WHOLE[module]
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{_LAYER[part]}"


def as_float32(file: Path) -> np.ndarray:
    """bfloat16 bits are the upper half of a float32's."""
    return (np.load(file).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def add_tensor(writer: Any, name: str, tensor: np.ndarray, form: str, *, heads: int, kv_heads: int) -> None:
    if name.endswith(("attn_q", "attn_k")):
        tensor = interleaved(tensor, heads if name.endswith("attn_q") else kv_heads)
    if tensor.ndim == 1:
        writer.add_tensor(f"{name}.weight", tensor)
        return
    kind = gguf.GGMLQuantizationType[form.upper()]
    writer.add_tensor(f"{name}.weight", gguf.quants.quantize(tensor, kind), raw_dtype=kind)


def interleaved(tensor: np.ndarray, num_heads: int) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs of a Llama's head where Hugging Face rotates its two halves."""
    rows, columns = tensor.shape
    halves = tensor.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def decode(path: Path, prompts: list[list[int]], num_new: int, threads: int) -> tuple[list[list[int]], float]:
    """Greedy tokens of all prompts together, and tokens a second after the first of each."""
    llama_cpp.llama_backend_init()
    # A callback that says nothing, kept alive for as long as the library may call it.
    silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    loading = llama_cpp.llama_model_default_params()
    # Quantised weights repacked for AMX end llama.cpp 0.3.36 with a segmentation fault on some machines.
    loading.use_extra_bufts = "q8_0" not in path.name
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), loading)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = len(prompts) * (max(map(len, prompts)) + num_new + 32)
    params.n_batch = params.n_ubatch = max(max(map(len, prompts)), len(prompts))
    params.n_seq_max = len(prompts)
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    vocab_size = json.loads((path.parent / "config.json").read_text())["vocab_size"]
    batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)

    def run(entries: list[tuple[int, int, int, bool]]) -> list[int]:
        """Compute (token, position, sequence, wants a token); returns the tokens wanted."""
        batch.n_tokens = len(entries)
        for index, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = wanted
        if code := llama_cpp.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {code}")
        wanted_rows = [index for index, entry in enumerate(entries) if entry[3]]
        return [
            int(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (vocab_size,)).argmax())
            for row in wanted_rows
        ]

    outputs = []
    for sequence, prompt in enumerate(prompts):
        last = len(prompt) - 1
        outputs.append(run([(token, place, sequence, place == last) for place, token in enumerate(prompt)]))
    started = time.perf_counter()
    for step in range(num_new - 1):
        chosen = run(
            [
                (output[-1], len(prompt) + step, sequence, True)
                for sequence, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
            ]
        )
        for output, token in zip(outputs, chosen, strict=True):
            output.append(token)
    elapsed = time.perf_counter() - started
    return outputs, len(prompts) * (num_new - 1) / elapsed


if __name__ == "__main__":
    main()
