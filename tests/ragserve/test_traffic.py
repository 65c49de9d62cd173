from __future__ import annotations

import pytest

from ragserve.errors import ServerBusy, ServerDraining
from ragserve.server.traffic import Traffic


def test_no_more_requests_than_places():
    traffic = Traffic(2)
    traffic.enter()
    traffic.enter()
    with pytest.raises(ServerBusy):
        traffic.enter()
    traffic.leave()
    traffic.enter()


def test_once_draining_nobody_gets_in_and_the_last_to_leave_ends_it():
    traffic = Traffic(2)
    traffic.enter()
    assert not traffic.drained
    traffic.drain(60)
    assert traffic.draining
    assert not traffic.drained
    with pytest.raises(ServerDraining):
        traffic.enter()
    traffic.leave()
    assert traffic.drained


def test_draining_does_not_wait_longer_than_it_was_told_to():
    traffic = Traffic(2)
    traffic.enter()
    traffic.drain(0)
    assert traffic.drained


def test_without_requests_there_is_nothing_to_drain():
    traffic = Traffic(2)
    assert not traffic.drained
    traffic.drain(60)
    assert traffic.drained
