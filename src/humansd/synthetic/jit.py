"""Numba's `njit` with the on-disk cache where a cache folder can be written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit


def _cache_is_writable() -> bool:
    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    here = Path(__file__).parent
    return os.access(here / "__pycache__" if (here / "__pycache__").exists() else here, os.W_OK)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` single-threaded, without the GIL, cached on disk when possible."""
    compiled: Callable[..., Any] = njit(cache=_cache_is_writable(), nogil=True, fastmath=True)(function)
    return compiled
