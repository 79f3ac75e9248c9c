"""Small state files, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from humansd.pose.files import write_whole


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON under another name and renames it, so that a kill leaves the old file or the new."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
