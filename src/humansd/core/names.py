"""What things were called in earlier versions: read, never written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMER = {
    "accumulation": "gradient_accumulation_steps",
    "gradient_clip": "max_grad_norm",
    "warmup_steps": "lr_warmup_steps",
    "schedule": "lr_scheduler",
    "tracker": "report_to",
    "pose_guidance": "pose_guidance_scale",
}


def renamed(values: Any) -> Any:
    """JSON values with former keys under the names of now, at any depth."""
    if isinstance(values, Mapping):
        return {FORMER.get(key, key): renamed(value) for key, value in values.items()}
    return [renamed(value) for value in values] if isinstance(values, list) else values


def present_name(key: str) -> str:
    """The name of now of a setting; `stage.setting` too."""
    return ".".join(FORMER.get(part, part) for part in key.split("."))
