"""What is wrong with a request's fields, in words for whoever wrote the client."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_TOLD = 5
_MUST = "must be "
_KINDS = ("int", "bool", "float", "str")  # with dict[...] and list[...]: what pydantic adds to a field of two kinds
_PATTERN = "string_pattern_mismatch"
_CANVAS = "must be [width, height] in px, two whole numbers"
# pydantic's type of an error: what is wanted. What stands here in braces is of the error's `ctx`.
_WORDS = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number, not infinite or NaN",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a JSON object",
    "list_type": "must be a JSON list",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have {max_length} letters at most",
    "too_short": "must hold {min_length} at least, and holds {actual_length}",
    "too_long": "must hold {max_length} at most",
}
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
    known = list(known)
    lines = _joined(_told(one, known) for one in errors)
    more = len(lines) - MOST_TOLD
    return "; ".join(lines[:MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _joined(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One line a field: where it may be of two kinds, pydantic says of each that it is not that one."""
    lines: dict[str, str] = {}
    for field, what in pairs:
        have = lines.get(field)
        if have is None:
            lines[field] = what
        elif what.startswith(_MUST) and have.startswith(_MUST):
            lines[field] = f"{have} or {what.removeprefix(_MUST)}"
    return [f"{field}: {what}" if field else what for field, what in lines.items()]


def _told(error: Mapping[str, Any], known: list[str]) -> tuple[str, str]:
    """(field, what is wrong with it); the field is "" for the body as a whole."""
    where = [str(part) for part in error["loc"] if part not in ("body", "query", "path")]
    kind = error["type"]
    if kind == "json_invalid":
        what = error.get("ctx", {}).get("error", "")
        return "", f"the body is no JSON: at letter {where[-1] if where else '?'}, {what}"
    if kind in ("model_attributes_type", "dict_type", "dict_attributes_type") and not where:
        return "", "the body is no JSON object; send one, with the header Content-Type: application/json"
    if kind == "missing" and not where:
        return "", "the body is empty; send JSON, with the header Content-Type: application/json"
    if kind in ("list_type", "too_short", "too_long") and not where:
        return "the body", _what(kind, error)
    if len(where) > 1 and (where[-1] in _KINDS or "[" in where[-1]):  # one of the kinds that it may have
        where.pop()
    if where[:1] == ["canvas"]:
        return "canvas", 'must be WIDTHxHEIGHT in px, as "512x768"' if kind == _PATTERN else _CANVAS
    field = ".".join(where)
    if kind == "extra_forbidden":
        near = meant(where[-1], known) if len(where) == 1 else None
        remedy = f"; write {near}" if near else "; /openapi.json lists those there are"
        return field[:80], f"there is no such field{remedy}"
    return field, _what(kind, error)


def _what(kind: str, error: Mapping[str, Any]) -> str:
    if kind == _PATTERN:  # the one pattern that fields have
        return 'must be WIDTHxHEIGHT in px, as "512x768", or "auto"'
    words = _WORDS.get(kind)
    if words is None:
        return str(error["msg"]).replace("Input should be ", _MUST)
    return words.format_map(error.get("ctx", {}))
