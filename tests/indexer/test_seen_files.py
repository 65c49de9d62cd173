"""The files that an ingest has come across: a set that may outgrow memory, and the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ADDS_UNTIL_THE_DISK_REFUSES = """
import resource, signal
from indexer.errors import IndexerError
from indexer.seen_files import SeenFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with SeenFiles() as seen:
        for batch in range(1000):
            seen.add(f"/corpus/{batch}/{'long' * 50}/{number}.txt" for number in range(512))
except IndexerError as error:
    print(error.code, error)
"""


def test_a_disk_that_takes_no_more_of_it_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    """The folder is not the index's: without its name somebody would look at the wrong disk."""
    ended = subprocess.run(
        [sys.executable, "-c", ADDS_UNTIL_THE_DISK_REFUSES],
        env=os.environ | {"SQLITE_TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(("storage-failed", "disk-full"))
    assert str(tmp_path) in ended.stdout
