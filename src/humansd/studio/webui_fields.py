"""What WebUI's fields mean here, and which of those that would change an image are not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from humansd.studio.errors import StudioError

# Names of WebUI's samplers -> ours. Others are refused; what is not named is the model's own.
SAMPLERS = {
    "DDIM": "ddim", "Euler": "euler", "Euler a": "euler-a", "LMS": "lms", "Heun": "heun", "DPM2": "dpm2",
    "DPM2 a": "dpm2-a", "DPM++ 2M": "dpm++-2m", "DPM++ 2M Karras": "dpm++-2m-karras", "DPM++ 2M SDE": "dpm++-2m-sde",
    "PLMS": "pndm", "UniPC": "unipc", "LCM": "lcm",
}  # fmt: skip
SCHEDULES = ("automatic", "uniform", "karras")
_ALIASES = {
    "k_euler": "euler", "k_euler_a": "euler-a", "k_lms": "lms", "k_heun": "heun", "k_dpm_2": "dpm2",
    "k_dpm_2_a": "dpm2-a", "k_dpmpp_2m": "dpm++-2m", "k_dpmpp_2m_ka": "dpm++-2m-karras",
}  # fmt: skip
_KNOWN = {name.lower(): own for name, own in SAMPLERS.items()} | {own: own for own in SAMPLERS.values()} | _ALIASES
_OWN = ("", "automatic")
MOST_NAMED = 5
_NOTHING: tuple[Any, ...] = (None, False, 0, "", "None", [], {})
# Field: (values that change no image, what to do instead).
_UNREAD: dict[str, tuple[tuple[Any, ...], str]] = {
    "styles": (_NOTHING, "write their words into the prompt"),
    "enable_hr": (_NOTHING, "ask for the size itself by width and height"),
    "restore_faces": (_NOTHING, "there is no such second step"),
    "tiling": (_NOTHING, "images do not continue over their borders"),
    "subseed_strength": (_NOTHING, "give another seed"),
    "seed_resize_from_w": ((*_NOTHING, -1), "the seed draws the size that is asked for"),
    "seed_resize_from_h": ((*_NOTHING, -1), "the seed draws the size that is asked for"),
    "eta": ((*_NOTHING, 1), "the sampler's own holds"),
    "s_churn": (_NOTHING, "the sampler's own holds"),
    "s_tmin": (_NOTHING, "the sampler's own holds"),
    "s_noise": ((*_NOTHING, 1), "the sampler's own holds"),
    "initial_noise_multiplier": ((*_NOTHING, 1), "it is 1"),
    "script_name": (_NOTHING, "no script is run"),
    "refiner_checkpoint": (_NOTHING, "one model draws all steps; name it in override_settings.sd_model_checkpoint"),
}
_OF_MASKS: dict[str, tuple[Any, ...]] = {
    "mask_blur": _NOTHING, "mask_blur_x": _NOTHING, "mask_blur_y": _NOTHING, "inpainting_fill": (None, 1),
    "inpaint_full_res": (None, False, 0),
}  # fmt: skip
_SET_HERE = ("sd_model_checkpoint", "CLIP_stop_at_last_layers")
_NO_EFFECT = ("samples_", "grid_", "save_", "return_", "show_", "live_preview", "do_not_", "outdir_", "enable_pnginfo")


def sampler(name: str | None, schedule: str | None) -> str:
    """Ours for a name of WebUI's, or of our own, and its schedule of noise; "" for the model's own.

    Raises:
        StudioError: 404 for one that is not there.
    """
    given, wanted = (name or "").strip().lower(), (schedule or "").strip().lower()
    own = "" if given in _OWN else _KNOWN.get(given)
    if own is None:
        raise StudioError(f"sampler_name: {str(name)[:40]!r} is not there; see /sdapi/v1/samplers", status=404)
    if wanted == "automatic" and f"{own}-karras" in SAMPLERS.values():
        return f"{own}-karras"  # what WebUI takes for DPM++ 2M since it has schedules
    if wanted in ("", "automatic", "uniform") or own.endswith(f"-{wanted}"):
        return own
    if wanted in SCHEDULES and f"{own}-{wanted}" in SAMPLERS.values():
        return f"{own}-{wanted}"
    told = f"for {name!r}" if own else "without sampler_name"
    what = f"{str(schedule)[:40]!r} is not there {told[:60]}"
    raise StudioError(f"scheduler: {what}; leave it out, or see /sdapi/v1/samplers", status=404)


def unread(
    fields: Mapping[str, Any], scripts: Mapping[str, Any], options: Mapping[str, Any], *, mask: bool
) -> list[str]:
    """A note for each of a request's fields that would change the image in WebUI and does not here."""
    notes = [
        f"{name}: is not read; {instead}"
        for name, (nothing, instead) in _UNREAD.items()
        if name in fields and fields[name] not in nothing
    ]
    about = [name for name, nothing in _OF_MASKS.items() if name in fields and fields[name] not in nothing]
    if mask and about:
        notes.append(f"{', '.join(about)}: not read; the mask is used as it is, and the whole image drawn with it")
    run = [name for name, value in scripts.items() if name.lower() != "controlnet" and _has_arguments(value)]
    set_ = [
        name
        for name, value in options.items()
        if name not in _SET_HERE and not name.startswith(_NO_EFFECT) and value not in (*_NOTHING, "Automatic")
    ]
    notes += [f"alwayson_scripts.{name[:60]}: is not run" for name in run[:MOST_NAMED]]
    notes += [f"override_settings.{name[:60]}: is not read" for name in set_[:MOST_NAMED]]
    return notes


def clip_skip(options: Mapping[str, Any]) -> int | None:
    """Layers of the text encoder that are left out; WebUI counts the one that is used, from the end.

    Raises:
        StudioError: no number of a layer.
    """
    value = options.get("CLIP_stop_at_last_layers")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 12:
        raise StudioError("override_settings.CLIP_stop_at_last_layers: must be a whole number from 1 to 12", status=422)
    return value - 1 or None


def _has_arguments(value: Any) -> bool:
    """Whether a script is asked to do something; many take False first where it is switched off."""
    given = value.get("args") if isinstance(value, dict) else value
    return bool(given) and not (isinstance(given, list) and given[0] is False)
