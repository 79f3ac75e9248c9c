"""What WebUI's clients ask beside images: what there is, options, and the ControlNet extension's addresses."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from humansd.pose.render import OPENPOSE_STYLE, draw_people
from humansd.studio import bridge_poses, controlnet, images, webui_fields
from humansd.studio.errors import REFUSED, StudioError
from humansd.studio.serving import engine_of
from humansd.studio.wishes import one_pose

router = APIRouter(tags=["webui"])
MOST_IMAGES = 8  # of one request


class DetectRequest(BaseModel):
    """Of the ControlNet extension."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"controlnet_module": "openpose", "controlnet_input_images": ["<base64>"]}]},
    )
    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field(
        min_length=1,
        max_length=MOST_IMAGES,
        validation_alias=AliasChoices("controlnet_input_images", "controlnet_images"),
    )


class InfoRequest(BaseModel):
    """An image in base64."""

    image: str


@router.post("/sdapi/v1/png-info", responses=REFUSED)
def png_info(request: Request, wanted: InfoRequest) -> dict[str, Any]:
    """The text inside an image: how it was made, where it says so."""
    most = engine_of(request).settings.limits.image_pixels
    image = images.open_image(images.from_base64(wanted.image, "image"), "image", most)
    items = {str(name): value for name, value in image.info.items() if isinstance(value, str)}
    return {"info": items.get("parameters", ""), "items": items, "parameters": {}}


@router.get("/sdapi/v1/sd-models")
def sd_models(request: Request) -> list[dict[str, Any]]:
    """The models. No path of the server is told."""
    names = engine_of(request).models
    return [
        {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}
        for name in names
    ]


@router.get("/sdapi/v1/samplers")
def samplers() -> list[dict[str, Any]]:
    """WebUI's names of the samplers there are."""
    return [{"name": name, "aliases": [own], "options": {}} for name, own in webui_fields.SAMPLERS.items()]


@router.get("/sdapi/v1/schedulers")
def schedulers() -> list[dict[str, Any]]:
    """Schedules of noise; "karras" goes with DPM++ 2M."""
    return [
        {"name": name, "label": name.capitalize(), "aliases": None, "default_rho": -1, "need_inner_model": False}
        for name in webui_fields.SCHEDULES
    ]


@router.get("/sdapi/v1/upscalers")
@router.get("/sdapi/v1/latent-upscale-modes")
@router.get("/sdapi/v1/face-restorers")
@router.get("/sdapi/v1/hypernetworks")
@router.get("/sdapi/v1/loras")
@router.get("/sdapi/v1/sd-vae")
@router.get("/sdapi/v1/prompt-styles")
@router.get("/sdapi/v1/extensions")
def nothing() -> list[dict[str, Any]]:
    """What clients ask for at their start and there is none of here."""
    return []


@router.get("/sdapi/v1/embeddings")
def embeddings() -> dict[str, Any]:
    """None."""
    return {"loaded": {}, "skipped": {}}


@router.post("/sdapi/v1/refresh-checkpoints")
@router.post("/sdapi/v1/refresh-loras")
@router.post("/sdapi/v1/refresh-vae")
def refresh() -> None:
    """The models are those that the server was started with."""


@router.get("/sdapi/v1/scripts")
def scripts() -> dict[str, list[str]]:
    """What `alwayson_scripts` may hold; others are not run, as a note says."""
    return {"txt2img": ["controlnet"], "img2img": ["controlnet"]}


@router.get("/sdapi/v1/options")
def options(request: Request) -> dict[str, Any]:
    """The one option that clients look for."""
    return {"sd_model_checkpoint": next(iter(engine_of(request).models)), "sd_checkpoint_hash": ""}


@router.post("/sdapi/v1/options")
def set_options(request: Request, wanted: dict[str, Any]) -> None:
    """Options hold for all clients, so that one of them cannot change them: those that are as they are pass."""
    name = known_model(request, wanted.get("sd_model_checkpoint"), "sd_model_checkpoint")
    if name not in (None, next(iter(engine_of(request).models))):
        raise _for_all("sd_model_checkpoint")
    if webui_fields.clip_skip(wanted):
        raise _for_all("CLIP_stop_at_last_layers")


def _for_all(name: str) -> StudioError:
    told = f"{name}: holds for all clients of this server; send override_settings.{name} with each request instead"
    return StudioError(told, status=409, code="for_all")


@router.get("/controlnet/version")
def controlnet_version() -> dict[str, int]:
    """Of the extension whose requests are understood."""
    return {"version": 3}


@router.get("/controlnet/model_list")
def model_list(request: Request) -> dict[str, list[str]]:
    """Every model reads poses itself; a unit may name any of them."""
    return {"model_list": list(engine_of(request).models)}


@router.get("/controlnet/module_list")
def module_list() -> dict[str, Any]:
    """What a unit's image may be: a drawn skeleton ("none") or a photograph."""
    return {"module_list": list(controlnet.MODULES), "module_detail": {}}


@router.get("/controlnet/control_types")
def control_types(request: Request) -> dict[str, Any]:
    """What units are for: poses alone."""
    names, modules = list(engine_of(request).models), list(controlnet.MODULES)
    one = {"module_list": modules, "model_list": names, "default_option": modules[0], "default_model": names[0]}
    return {"control_types": {"All": one, "OpenPose": one}}


@router.get("/controlnet/settings")
def controlnet_settings() -> dict[str, int]:
    """How many units a request may have."""
    return {"control_net_unit_count": 1}


@router.post("/controlnet/detect", responses=REFUSED)
def detect(request: Request, wanted: DetectRequest) -> dict[str, Any]:
    """The people of images, drawn as OpenPose does and as its JSON."""
    engine = engine_of(request)
    drawn, poses = [], []
    for text in wanted.controlnet_input_images:
        people = controlnet.people_of_image(engine, text, wanted.controlnet_module, "controlnet_input_images")
        drawn.append(images.to_base64(images.png_bytes(draw_people(people, OPENPOSE_STYLE))))
        poses.append(
            json.loads(bridge_poses.write_pose_bytes({"pose": people.to_skeleton(controlnet.WRITTEN)}, "openpose"))
        )
    return {"images": drawn, "poses": poses, "info": "Success"}


@router.post("/controlnet/render_openpose_json", responses=REFUSED)
def render_openpose_json(
    request: Request, wanted: Annotated[list[dict[str, Any]], Body(min_length=1, max_length=MOST_IMAGES)]
) -> dict[str, Any]:
    """Poses as editors of OpenPose's JSON keep them, drawn each on its canvas."""
    limits, drawn = engine_of(request).settings.limits, []
    for number, pose in enumerate(wanted):
        people = one_pose(pose, None, limits, f"[{number}]")
        if people.canvas[0] * people.canvas[1] > limits.image_pixels:
            raise StudioError(f"[{number}].canvas: is too large to be drawn; make it smaller", status=413)
        drawn.append(images.to_base64(images.png_bytes(draw_people(people, OPENPOSE_STYLE))))
    return {"images": drawn, "info": "Success"}


def known_model(request: Request, name: Any, field: str) -> str | None:
    """The name of a model as a client gives it, None where it gives none. StudioError for another."""
    if name is None or (isinstance(name, str) and name in engine_of(request).models):
        return name
    raise StudioError(f"{field}: {str(name)[:80]!r} is not there; see /sdapi/v1/sd-models", status=404)
