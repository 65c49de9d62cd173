"""What holds for every test."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how fast the machine is: no deadline, and no complaint about slow examples.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in every run. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeat", settings.get_profile("explore"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Lets processes that tests start be interrupted: a background job of a shell inherits a deaf SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """What a test has started, it has also ended. Threads that others have left may come to their end."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not left, f"left running: {sorted(thread.name for thread in left)}"
