"""A little of what `make prove` does in full: certified answers against brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
from proofs import certificate
from proofs.certificate import Account, WrongAnswer

from retriever import cache_lists
from retriever.cache_lists import Followed, ListTable


def test_every_answer_that_is_served_with_a_proof_is_the_one_of_brute_force(tmp_path: Path):
    total = certificate.run(num_hits=2_000, seed=1, work=tmp_path, rounds=15)
    assert total.rankings.total() >= 2_000
    assert min(total.rankings[name] for name in ("dense", "pool", "rrf")) > 100
    assert min(total.proofs[name] for name in ("one list", "several lists together")) > 100
    assert total.events["attacks"] > 20
    assert total.events["evictions"] > 20
    assert total.events["with a filter"] > 100


def lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    true = cache_lists.bound_outside

    def too_low(*arguments, **options):
        bound, weights = true(*arguments, **options)
        return bound - 0.01, weights

    monkeypatch.setattr(cache_lists, "bound_outside", too_low)


def forgotten_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ListTable, "_insert", lambda *_: Followed([], []))


@pytest.mark.parametrize("weaken", [lower_bound, forgotten_newcomers])
def test_it_catches_a_cache_that_proves_too_much(weaken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weaken(monkeypatch)
    with pytest.raises(WrongAnswer, match=r"--seed 1 --only \d+: certified"):
        certificate.run(num_hits=2_000, seed=1, work=tmp_path, rounds=15)


def test_a_run_that_was_interrupted_goes_on_where_it_stopped_and_a_world_repeats_itself(tmp_path: Path):
    def without_time(account: Account) -> Account:
        account.seconds = 0.0
        return account

    half, whole = tmp_path / "half", tmp_path / "whole"
    half.mkdir(), whole.mkdir()
    certificate.run(num_hits=20, seed=2, work=half, rounds=2)
    resumed = certificate.run(num_hits=200, seed=2, work=half, rounds=2)
    assert without_time(resumed) == without_time(certificate.run(num_hits=200, seed=2, work=whole, rounds=2))
    assert resumed.worlds > 1
