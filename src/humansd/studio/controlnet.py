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
DRAWN = ("none", "None", "", None)
MODULES = ("none", "openpose", "openpose_full", "dw_openpose_full")  # the latter three: people of a photograph


@dataclass(frozen=True, eq=False)
class Unit:
    """What the units of a request say. weight: of the pose, None where it is not said."""

    people: People | None = None
    weight: float | None = None


def read_units(engine: Engine, scripts: dict[str, Any]) -> Unit:
    """The one enabled unit of `alwayson_scripts`; `Unit()` without any.

    Clients send units that nobody filled in, too: {}, `enabled: false`, or `model: "None"` without an image, as
    webuiapi does. Those are passed over.

    Raises:
        StudioError: more than one, one without an image or a pose, or one whose image or pose cannot be used.
    """
    found = next((value for name, value in scripts.items() if name.lower() == "controlnet"), None)
    args = found.get("args") if isinstance(found, dict) else None
    units = []
    for number, unit in enumerate(args if isinstance(args, list) else []):
        if isinstance(unit, dict) and _used(unit):
            if not _image(unit) and not unit.get("pose"):
                raise StudioError(
                    f"alwayson_scripts.controlnet.args[{number}].image: is missing; send a drawing in the colors of "
                    "OpenPose, a photograph with module 'openpose', or `pose` with the JSON of a pose; or set "
                    "`enabled` to false",
                    status=422,
                )
            units.append(unit)
    if not units:
        return Unit()
    if len(units) > 1:
        raise StudioError("alwayson_scripts.controlnet: more than one unit is enabled; one pose is drawn", status=422)
    return Unit(_people(engine, units[0]), _weight(units[0]))


def people_of_image(engine: Engine, text: str, module: str | None, field: str) -> People:
    """The people of a drawn OpenPose skeleton, or with an openpose module those of a photograph."""
    data = images.from_base64(text, field)
    image = images.rgb_image(data, field, engine.settings.limits.image_pixels)
    if module in DRAWN:
        people = people_of_drawing(image) or People.empty((image.shape[1], image.shape[0]))
        remedy = "send a drawing in the colors of OpenPose or HumanSD, or a photograph with module 'openpose'"
    elif isinstance(module, str) and "openpose" in module:
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


def _image(unit: dict[str, Any]) -> Any:
    image = unit.get("image") or unit.get("input_image")
    return image.get("image") if isinstance(image, dict) else image


def _people(engine: Engine, unit: dict[str, Any]) -> People:
    pose = unit.get("pose")
    if pose is not None:
        if not isinstance(pose, dict | list):
            raise StudioError("controlnet.pose: must be the JSON of a pose", status=422)
        return one_pose(pose, None, engine.settings.limits, "controlnet.pose")
    image = _image(unit)
    if not isinstance(image, str):
        raise StudioError("controlnet.image: must be an image in base64", status=422)
    module = unit.get("module", "none")
    return people_of_image(engine, image, module, "controlnet.image").to_skeleton(COCO17)


def _weight(unit: dict[str, Any]) -> float | None:
    weight = unit.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 2:
        raise StudioError("controlnet.weight: must be a number from 0 to 2", status=422)
    return None if weight == 1 else float(weight)
