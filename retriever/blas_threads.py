"""One set of threads for matrix products: torch's, of the thread that answers."""

from __future__ import annotations

import sys
import threading


def quiet_numpy_threads() -> None:
    """Has NumPy's OpenBLAS compute on the calling thread from now on, in the whole process.

    After each product its threads spin for milliseconds, in case another follows, on the cores that torch
    wants next for a question or an answer: on two cores that made a search take several times as long. The
    vectors of the corpus are compared through torch or FAISS, whose threads are left alone.
    """
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        if library.internal_api == "openblas" and getattr(library, "threading_layer", "") == "pthreads":
            library.set_num_threads(1)


def keep_to_this_thread() -> bool:
    """Has torch compute on the calling thread alone, if it is loaded; whether it is.

    For work in the background. Of every thread that computes on all cores torch's OpenMP keeps a team of
    threads, and as soon as all teams together are more than there are cores, each of them sleeps between any
    two operations (`benchmarks/session_lookahead.py` measures what is left of that).
    """
    if "torch" not in sys.modules:
        return False
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)  # of this thread, and of those that have not computed yet
    restoring = threading.Thread(target=torch.set_num_threads, args=(usual,), name="retriever-threads")
    restoring.start()  # in a thread of its own: for all others, but not for this one
    restoring.join()
    return True
