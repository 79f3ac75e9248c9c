"""`python -m humansd.cli`."""

from __future__ import annotations

import sys

from humansd.cli import main

sys.exit(main())
