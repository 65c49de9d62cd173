from __future__ import annotations

import threading

import numpy as np
import pytest
import threadpoolctl
import torch
from fakes import FakeCorpus, FakeEmbedder

from retriever import Retriever
from retriever.blas_threads import keep_to_this_thread


def threads_of_numpy() -> list[int]:
    assert np.ones((2, 2)) @ np.ones(2) is not None  # loaded
    libraries = threadpoolctl.threadpool_info()
    return [library["num_threads"] for library in libraries if library.get("threading_layer") == "pthreads"]


def test_a_retriever_leaves_the_cores_to_torch():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if set(threads_of_numpy()) != {2}:
            pytest.skip("NumPy has no OpenBLAS with threads of its own here")
        Retriever(FakeCorpus(), FakeEmbedder())
        assert set(threads_of_numpy()) == {1}
        others = threadpoolctl.threadpool_info()
        assert {lib["num_threads"] for lib in others if lib.get("threading_layer") == "openmp"} <= {2}


def test_what_runs_in_the_background_computes_on_its_own_thread_and_changes_no_other():
    usual = torch.get_num_threads()
    seen = []

    def work() -> None:
        assert keep_to_this_thread()
        seen.append(torch.get_num_threads())

    def look() -> None:
        seen.append(torch.get_num_threads())

    for run in (work, look):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert seen == [1, usual]
    assert torch.get_num_threads() == usual
