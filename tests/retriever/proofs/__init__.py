"""Programs that try to catch the retrieval cache in an answer that is not proven.

Run from the repository's root, as `make prove` does:

    PYTHONPATH=tests/indexer:tests/retriever python -m proofs.certificate --hits 1000000

It prints its seed and its figures, exits 1 at the first wrong answer, and with `--record` writes its figures
into docs/reliability.md. The tests run the same code in small.
"""
