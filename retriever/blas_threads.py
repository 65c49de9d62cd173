"""One set of threads for matrix products: torch's."""

from __future__ import annotations


def quiet_numpy_threads() -> None:
    """Has NumPy's OpenBLAS compute on the calling thread from now on, in the whole process.

    After each product its threads spin for milliseconds, in case another follows, on the cores that torch
    wants next for a question or an answer. On two cores a search took 12 to 110 ms beside them, and takes 9.
    The vectors of the corpus are compared through torch or FAISS, whose threads are left alone.
    """
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        if library.internal_api == "openblas" and getattr(library, "threading_layer", "") == "pthreads":
            library.set_num_threads(1)
