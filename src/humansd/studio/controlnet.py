"""ControlNet units: where the pose of a WebUI request comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from humansd.pose.people import People
from humansd.pose.skeleton import COCO17, OPENPOSE18
from humansd.studio import images
from humansd.studio.bridge_poses import people_of_drawing
from humansd.studio.engine import Engine
from humansd.studio.errors import StudioError
from humansd.studio.wishes import one_pose

WRITTEN = OPENPOSE18
DRAWN = ("none", "", None)
MODULES = ("none", "openpose", "openpose_full", "dw_openpose_full")  # the latter three: people of a photograph
_IMAGES = ("image", "input_image", "controlnet_input_image")  # as clients of several years call it
_MODULES = ("module", "preprocessor", "controlnet_module")
_WEIGHTS = ("weight", "controlnet_weight")
# Field of a unit: the values that change no image.
_UNREAD: dict[str, tuple[Any, ...]] = {
    "guidance_start": (None, 0), "guidance_end": (None, 1), "guidance": (None, 1), "mask": (None, ""),
    "mask_image": (None, ""), "effective_region_mask": (None, ""),
    "guessmode": (None, False, "", 0), "control_mode": (None, 0, "Balanced", "ControlMode.BALANCED"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Unit:
    """What the units of a request say. weight: of the pose, None where it is not said. notes: what is not read."""

    people: People | None = None
    weight: float | None = None
    notes: tuple[str, ...] = ()


def read_units(engine: Engine, scripts: dict[str, Any], older: Any = None) -> Unit:
    """The one enabled unit of `alwayson_scripts`; `Unit()` without any.

    Clients send units that nobody filled in, too: {}, `enabled: false`, or `model: "None"` without an image, as
    webuiapi does. Those are passed over.

    older: units beside the scripts, as clients of the extension's first version send them.

    Raises:
        StudioError: more than one, one without an image or a pose, or one whose image or pose cannot be used.
    """
    given = next((value for name, value in scripts.items() if name.lower() == "controlnet"), None)
    units = [
        (f"{where}[{number}]", unit)
        for where, value in (("alwayson_scripts.controlnet.args", given), ("controlnet_units", older))
        for number, unit in enumerate(_listed(where, value))
        if _used(unit)
    ]
    if not units:
        return Unit()
    for where, unit in units:
        if not _image(unit) and not unit.get("pose"):
            raise StudioError(
                f"{where}.image: is missing; send a drawing in the colors of OpenPose, a photograph with module "
                "'openpose', or `pose` with the JSON of a pose; or set `enabled` to false",
                status=422,
            )
    if len(units) > 1:
        raise StudioError("alwayson_scripts.controlnet: more than one unit is enabled; one pose is drawn", status=422)
    where, unit = units[0]
    odd = [name for name, nothing in _UNREAD.items() if name in unit and unit[name] not in nothing]
    notes = (f"{where}: {', '.join(odd)} not read; the pose counts in every step and everywhere",) if odd else ()
    return Unit(_people(engine, unit, where), _weight(unit, where), notes)


def _listed(where: str, value: Any) -> list[dict[str, Any]]:
    """The units of a list, of one object in its place, or of `args` that holds either."""
    if isinstance(value, dict) and "args" in value:
        value = value["args"]
    if not value:
        return []
    units = [value] if isinstance(value, dict) else value
    if not isinstance(units, list) or not all(isinstance(unit, dict | None) for unit in units):
        raise StudioError(f'{where}: must be a list of units, as [{{"image": "...", "module": "none"}}]', status=422)
    return [unit or {} for unit in units]


def people_of_image(engine: Engine, text: str, module: str | None, field: str) -> People:
    """The people of a drawn OpenPose skeleton, or with an openpose module those of a photograph."""
    data = images.from_base64(text, field)
    image = images.rgb_image(data, field, engine.settings.limits.image_pixels)
    module = module.strip().lower() if isinstance(module, str) else module
    if module in DRAWN:
        people = people_of_drawing(image) or People.empty((image.shape[1], image.shape[0]))
        remedy = "send a drawing in the colors of OpenPose or HumanSD, or a photograph with module 'openpose'"
    elif isinstance(module, str) and "openpose" in module and "animal" not in module:
        people = engine.detect(image)
        remedy = "send one that shows people larger"
    else:
        raise StudioError(f"module: {str(module)[:40]!r} is not there; use {', '.join(MODULES)}", status=422)
    if not people.labelled.any():
        raise StudioError(f"{field}: nobody was found in the image; {remedy}", status=422)
    return people


def _used(unit: dict[str, Any]) -> bool:
    filled = bool(_image(unit) or unit.get("pose"))
    return bool(unit) and bool(unit.get("enabled", True)) and (filled or unit.get("model") != "None")


def _first(unit: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((unit[name] for name in names if unit.get(name) not in (None, "")), None)


def _image(unit: dict[str, Any]) -> Any:
    image = _first(unit, _IMAGES)
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    return image.get("image") if isinstance(image, dict) else image


def _people(engine: Engine, unit: dict[str, Any], where: str) -> People:
    pose = unit.get("pose")
    if pose is not None:
        if not isinstance(pose, dict | list):
            raise StudioError(f"{where}.pose: must be the JSON of a pose", status=422)
        return one_pose(pose, None, engine.settings.limits, f"{where}.pose")
    image = _image(unit)
    if not isinstance(image, str):
        raise StudioError(f"{where}.image: must be an image in base64", status=422)
    return people_of_image(engine, image, _first(unit, _MODULES), f"{where}.image").to_skeleton(COCO17)


def _weight(unit: dict[str, Any], where: str) -> float | None:
    weight = _first(unit, _WEIGHTS)
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 2:
        raise StudioError(f"{where}.weight: must be a number from 0 to 2", status=422)
    return None if weight == 1 else float(weight)
