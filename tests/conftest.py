"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("any speed", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("any speed")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Lets processes that tests start be interrupted: a background job of a shell inherits a deaf SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
