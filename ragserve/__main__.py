"""`python -m ragserve` is the `ragserve` command."""

from __future__ import annotations

import sys

from ragserve.cli import main

if __name__ == "__main__":
    sys.exit(main())
