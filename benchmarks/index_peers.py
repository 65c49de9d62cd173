"""The other side of index_scale.py; runs where a peer is installed, and nothing of ours is.

Each peer takes its vendor's recommended index for the size, and is searched with rising effort until it
reaches the recall asked for: `ef_search` for graphs, the number of lists for inverted files.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from index_measure import main

_BATCH = 5000
_EFFORTS = (16, 32, 64, 128, 256, 512, 1024)


class Chroma:
    """HNSW, the only kind that it has."""

    def __init__(self) -> None:
        import chromadb

        self._chromadb = chromadb
        self.version = version("chromadb")
        self._effort = 0

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        client = self._chromadb.PersistentClient(str(folder))
        graph = {"space": "ip", "ef_construction": 200, "max_neighbors": 32}
        collection = client.create_collection("vectors", configuration={"hnsw": graph})
        for start in range(0, len(vectors), _BATCH):
            some = np.array(vectors[start : start + _BATCH])
            collection.add(ids=[str(start + i) for i in range(len(some))], embeddings=some)

    def open(self, folder: Path) -> None:
        self._collection = self._chromadb.PersistentClient(str(folder)).get_collection("vectors")

    def settings(self) -> Iterable[int]:
        return _EFFORTS

    def search(self, query: np.ndarray, k: int, setting: int) -> list[int]:
        if setting != self._effort:
            self._collection.modify(configuration={"hnsw": {"ef_search": setting}})
            self._effort = setting
        found = self._collection.query(query_embeddings=[query], n_results=k, include=[])
        return [int(name) for name in found["ids"][0]]


class Lance:
    """An inverted file with product quantisation; ten times k are compared again by their vectors."""

    def __init__(self) -> None:
        import lancedb

        self._lancedb = lancedb
        self.version = version("lancedb")

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        import pyarrow as pa

        dimension = vectors.shape[1]
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), dimension))])

        def batches() -> Iterable[pa.RecordBatch]:
            for start in range(0, len(vectors), _BATCH):
                some = np.array(vectors[start : start + _BATCH])
                values = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), dimension)
                ids = pa.array(np.arange(start, start + len(some)))
                yield pa.RecordBatch.from_arrays([ids, values], schema=schema)

        table = self._lancedb.connect(str(folder)).create_table("vectors", batches(), schema=schema)
        table.create_index(
            metric="dot",
            vector_column_name="vector",
            index_type="IVF_PQ",
            num_partitions=max(int(np.sqrt(len(vectors))), 1),
            num_sub_vectors=dimension // 8,
        )

    def open(self, folder: Path) -> None:
        self._table = self._lancedb.connect(str(folder)).open_table("vectors")

    def settings(self) -> Iterable[int]:
        return _EFFORTS

    def search(self, query: np.ndarray, k: int, setting: int) -> list[int]:
        search = self._table.search(query).distance_type("dot").nprobes(setting).refine_factor(10)
        return search.limit(k).select(["id"]).to_arrow()["id"].to_pylist()


class MilvusLite:
    """An inverted file of whole vectors."""

    def __init__(self) -> None:
        self.version = version("milvus-lite")

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        folder.mkdir(parents=True, exist_ok=True)
        client = MilvusClient(str(folder / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = client.prepare_index_params()
        lists = max(int(4 * np.sqrt(len(vectors))), 1)
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": lists})
        client.create_collection("vectors", schema=schema, index_params=index)
        for start in range(0, len(vectors), _BATCH):
            some = np.array(vectors[start : start + _BATCH])
            client.insert("vectors", [{"id": start + i, "vector": row} for i, row in enumerate(some)])
        client.close()

    def open(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        self._client = MilvusClient(str(folder / "milvus.db"))
        self._client.load_collection("vectors")

    def settings(self) -> Iterable[int]:
        return _EFFORTS

    def search(self, query: np.ndarray, k: int, setting: int) -> list[int]:
        parameters = {"metric_type": "IP", "params": {"nprobe": setting}}
        (found,) = self._client.search("vectors", [query], limit=k, search_params=parameters)
        return [hit["id"] for hit in found]


if __name__ == "__main__":
    main({"chromadb": Chroma, "lancedb": Lance, "milvus-lite": MilvusLite})
