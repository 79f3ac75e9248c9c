"""What is wrong with a request's fields, in words for whoever wrote the client."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_TOLD = 5
# What other servers and libraries call a field, in small letters: ours.
_THEIRS = {
    "steps": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "sampling_steps": "num_inference_steps",
    "inference_steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "batch_size": "n",
    "num_images": "n",
    "num_images_per_prompt": "n",
    "size": "width and height",
    "init_image": "image",
    "denoising_strength": "strength",
    "mask_image": "mask",
    "skeleton": "pose_image",
    "control_image": "pose_image",
    "keypoints": "pose",
    "poses": "pose",
}


def meant(name: str, known: Iterable[str]) -> str | None:
    """The field that a client calls `name`: as other tools call it, or one that is written nearly so; None."""
    own = list(known)
    theirs = _THEIRS.get(name.lower().replace("-", "_"))
    if theirs is not None and all(part in own for part in theirs.split(" and ")):
        return theirs
    return next(iter(difflib.get_close_matches(name, own, 1, 0.75)), None)


def told(errors: Sequence[Mapping[str, Any]], known: Iterable[str] = ()) -> str:
    """pydantic's errors of one request in a line. known: the fields that the request may have."""
    lines = [_line(one, list(known)) for one in errors[:MOST_TOLD]]
    more = len(errors) - MOST_TOLD
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _line(error: Mapping[str, Any], known: list[str]) -> str:
    where = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    kind = error["type"]
    if kind == "json_invalid":
        what = error.get("ctx", {}).get("error", "")
        return f"the body is no JSON: at letter {where[-1] if where else '?'}, {what}"
    if kind in ("model_attributes_type", "dict_type", "dict_attributes_type") and not where:
        return "the body is no JSON object; send one, with the header Content-Type: application/json"
    if kind == "missing" and not where:
        return "the body is empty; send a JSON object, with the header Content-Type: application/json"
    field = ".".join(where)
    if kind == "extra_forbidden":
        near = meant(where[-1], known) if len(where) == 1 else None
        remedy = f"; write {near}" if near else "; /openapi.json lists those there are"
        return f"{field[:80]}: there is no such field{remedy}"
    if kind == "missing":
        return f"{field}: is missing"
    return f"{field}: {error['msg']}" if field else str(error["msg"])
