"""Small state files, written whole or not at all: a kill or a full disk leaves the old file or the new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from humansd.pose.files import write_whole


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; OSError (`pose.errors.DiskError`) where the disk does not take it."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8; OSError (`pose.errors.DiskError`) where the disk does not take it."""
    write_whole(path, lambda file: file.write(text.encode()))
