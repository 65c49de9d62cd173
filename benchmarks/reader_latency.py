"""How long the reader takes for one question, and how close that is to what the processor can multiply.

    python benchmarks/reader_latency.py DATA.jsonl [--folder READER] [--questions 30] [--passages 5]

One question at a time, warm, passages of the file picked by BM25. The floor is the time that the matrix
products of the forward pass would take at the rate of one large product of the same width, measured in the
same run. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from generator.reader.reader import READER_FOLDER, Reader
from generator.training.lexical import Bm25
from generator.training.records import read_jsonl


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the reader.")
    parser.add_argument("data", type=Path, help="jsonl with 'question' and 'passage'")
    parser.add_argument("--folder", type=Path, default=READER_FOLDER)
    parser.add_argument("--embeddings", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--passages", type=int, default=5)
    options = parser.parse_args()

    began = time.perf_counter()
    reader = Reader.load(options.folder, embeddings_folder=options.embeddings)
    load_seconds = time.perf_counter() - began
    records = [record for _, record in read_jsonl(options.data)]
    paragraphs = sorted({record["passage"] for record in records})
    search = Bm25(paragraphs)
    seconds, tokens = [], []
    for record in random.Random(0).sample(records, options.questions + 3):
        found = [(str(i), paragraphs[i]) for i in search.best(record["question"], options.passages)]
        began = time.perf_counter()
        answer = reader.answer(record["question"], found, threshold=0.0)
        seconds.append(time.perf_counter() - began)
        tokens.append(answer.usage.num_prompt_tokens + answer.usage.num_output_tokens)
    seconds, tokens = seconds[3:], tokens[3:]  # the first ones warm up
    floor = statistics.mean(tokens) * flops_per_token(reader) / product_rate(reader)
    figures = {
        "device": str(reader.model.transformer.device),
        "dtype": str(reader.model.transformer.dtype),
        "threads": torch.get_num_threads(),
        "passages": options.passages,
        "tokens_mean": round(statistics.mean(tokens)),
        "load_ms": round(1000 * load_seconds),
        "median_ms": round(1000 * statistics.median(seconds), 1),
        "p95_ms": round(1000 * sorted(seconds)[int(0.95 * len(seconds))], 1),
        "floor_ms": round(1000 * floor, 1),
        "share_of_floor": round(floor / statistics.median(seconds), 2),
    }
    for name, value in figures.items():
        print(f"{name:20} {value}")
    print(json.dumps(figures))
    return 0


def flops_per_token(reader: Reader) -> float:
    """Floating point operations of the layers' matrices a token; attention and heads come on top."""
    matrices = [p for p in reader.model.transformer.layers.parameters() if p.ndim == 2]
    return 2.0 * sum(p.numel() for p in matrices)


def product_rate(reader: Reader) -> float:
    """Floating point operations a second of a large product with this model's widths."""
    transformer = reader.model.transformer
    rows, columns = transformer.config.hidden_size, transformer.config.intermediate_size
    x = torch.randn(2048, rows, device=transformer.device, dtype=transformer.dtype)
    w = torch.randn(columns, rows, device=transformer.device, dtype=transformer.dtype)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        product = torch.nn.functional.linear(x, w)
        if product.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2.0 * 2048 * rows * columns / best


if __name__ == "__main__":
    sys.exit(main())
