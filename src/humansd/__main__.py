"""`python -m humansd`."""

from __future__ import annotations

import sys

from humansd.cli import main

if __name__ == "__main__":
    sys.exit(main())
