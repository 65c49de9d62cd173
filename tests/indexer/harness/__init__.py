"""Programs that try to break the indexer: torture, crashes and faults, random operations, offsets.

Run from the repository's root with tests/indexer on the path, as `make torture` and `make crash` do:

    PYTHONPATH=tests/indexer python -m harness.torture FOLDER...
    PYTHONPATH=tests/indexer python -m harness.crash --kills 500
    PYTHONPATH=tests/indexer python -m harness.operations --operations 100000
    PYTHONPATH=tests/indexer python -m harness.offsets FOLDER...

Each prints its seed and its figures, exits 1 if a promise was broken, and with `--record` writes its figures
into docs/reliability.md. The tests run the same code in small.
"""
