"""Poses: read any pose file, find people in a photograph, write pose files, compare an image with its pose."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, draw_people
from humansd.pose.skeleton import SKELETONS
from humansd.studio import bridge_poses, images, scoring
from humansd.studio.errors import REFUSED, StudioError
from humansd.studio.serving import engine_of
from humansd.studio.wishes import POSE_EXAMPLE, one_pose, shape_notes

router = APIRouter(prefix="/v1/poses", tags=["poses"])
MOST_POSES = 500  # that one answer holds
SkeletonName = Literal["coco17", "openpose18", "humanart21"]
Canvas = Annotated[
    str, Query(pattern=r"^$|^[1-9]\d{0,4}x[1-9]\d{0,4}$", description="WxH px, where the file says none.")
]
_FILE = {"application/json": {"example": POSE_EXAMPLE}, "application/octet-stream": {}}
_IMAGE: dict[str, Any] = {kind: {} for kind in ("image/png", "image/jpeg", "image/webp", "application/octet-stream")}
_MEDIA = {"npz": "application/octet-stream", "png": "image/png", "png-openpose": "image/png"}


class NamedPose(BaseModel):
    """A pose and its name. pose: JSON of any format that is read; `People.to_json()` where the server answers."""

    name: str = Field(default="pose", min_length=1, max_length=200)
    pose: dict[str, Any] | list[Any]


class PosesRead(BaseModel):
    """What a pose file holds. notes: what the reader remarks. left_out: poses beyond the most that an answer holds."""

    poses: list[NamedPose]
    notes: list[str]
    left_out: int = 0


class Detected(BaseModel):
    """The people of a photograph, on a canvas of its size. estimator: "drawing" where a drawn skeleton was read."""

    pose: dict[str, Any]
    people: int
    estimator: str


class ExportRequest(BaseModel):
    """Poses to write as a file. png: the drawing that HumanSD reads; png-openpose: that of ControlNet."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"poses": [{"name": "a", "pose": POSE_EXAMPLE}]}]})
    poses: list[NamedPose] = Field(min_length=1, max_length=MOST_POSES)
    format: Literal["coco", "openpose", "humanart", "npz", "humansd", "png", "png-openpose"] = "coco"


class CompareRequest(BaseModel):
    """An image and the pose it should show. estimator: "held_out" is one that no training used."""

    pose: dict[str, Any] | list[Any]
    image: str = Field(description="In base64.")
    estimator: Literal["default", "held_out"] = "default"


@router.post(
    "/read",
    response_model=PosesRead,
    responses=REFUSED,
    openapi_extra={"requestBody": {"content": _FILE, "required": True}},
)
async def read(request: Request, canvas: Canvas = "", skeleton: SkeletonName | None = None) -> PosesRead:
    """Any pose file that the package reads, as the body: COCO, OpenPose, Human-Art or humansd JSON, npz."""
    data = await request.body()
    return await run_in_threadpool(_read, data, canvas, skeleton)


@router.post(
    "/detect",
    response_model=Detected,
    responses=REFUSED,
    openapi_extra={"requestBody": {"content": _IMAGE, "required": True}},
)
async def detect(request: Request, skeleton: SkeletonName = "coco17", held_out: bool = False) -> Detected:
    """The people of a photograph, or of a skeleton drawn in OpenPose's or HumanSD's colors, sent as the body."""
    data = await request.body()
    return await run_in_threadpool(_detect, request, data, skeleton, held_out)


@router.post(
    "/export", responses={**REFUSED, 200: {"content": {"application/json": {}, "application/octet-stream": {}}}}
)
def export(request: Request, wanted: ExportRequest) -> Response:
    """A pose file."""
    limits = engine_of(request).settings.limits
    poses: dict[str, People] = {}
    for one in wanted.poses:
        if one.name in poses:
            raise StudioError(f"poses: {one.name!r} is there twice; give every pose another name", status=422)
        poses[one.name] = one_pose(one.pose, None, limits, f"poses.{one.name}")
    first = next(iter(poses.values()))
    if wanted.format.startswith("png"):
        style = HUMANSD_STYLE if wanted.format == "png" else OPENPOSE_STYLE
        if first.canvas[0] * first.canvas[1] > limits.image_pixels:
            raise StudioError("canvas: is too large to be drawn; make it smaller", status=413, code="too_large")
        data = images.png_bytes(draw_people(first, style))
    else:
        data = bridge_poses.write_pose_bytes(poses, wanted.format)
    ending = "npz" if wanted.format == "npz" else "png" if wanted.format.startswith("png") else "json"
    return Response(
        data,
        media_type=_MEDIA.get(wanted.format, "application/json"),
        headers={"content-disposition": f'attachment; filename="pose.{ending}"'},
    )


@router.post("/compare", responses=REFUSED)
def compare(request: Request, wanted: CompareRequest) -> dict[str, Any]:
    """What the estimator sees in an image, and how far every joint is from the wished pose (see `scoring.compare`)."""
    engine = engine_of(request)
    limits = engine.settings.limits
    image = images.rgb_image(images.from_base64(wanted.image, "image"), "image", limits.image_pixels)
    size = (image.shape[1], image.shape[0])
    wished = one_pose(wanted.pose, size, limits, "pose")
    notes = shape_notes(wished, size)
    wished = wished.fit(*size)
    name = bridge_poses.HELD_OUT_ESTIMATOR if wanted.estimator == "held_out" else bridge_poses.DRAWN_ESTIMATOR
    found = engine.detect(image, name)
    return {"found": found.to_skeleton(wished.skeleton).to_json(), **scoring.compare(wished, found), "notes": notes}


@router.get("/presets", response_model=PosesRead)
def presets() -> PosesRead:
    """The example poses and the library of named ones."""
    return _presets()


def _read(data: bytes, canvas: str, skeleton: str | None) -> PosesRead:
    size = None if not canvas else tuple(map(int, canvas.split("x")))
    remedy = f"{bridge_poses.IN_THE_POSE}, or add ?canvas=WIDTHxHEIGHT to the address."
    poses, notes = bridge_poses.read_pose_bytes(data, size, remedy)  # type: ignore[arg-type]
    shown = list(poses.items())[:MOST_POSES]
    if skeleton is not None:
        shown = [(name, people.to_skeleton(SKELETONS[skeleton])) for name, people in shown]
    named = [NamedPose(name=name[:200] or "pose", pose=people.to_json()) for name, people in shown]
    return PosesRead(poses=named, notes=notes, left_out=len(poses) - len(shown))


def _detect(request: Request, data: bytes, skeleton: str, held_out: bool) -> Detected:
    engine = engine_of(request)
    image = images.rgb_image(data, "the body", engine.settings.limits.image_pixels)
    drawn = bridge_poses.people_of_drawing(image)
    if drawn is not None:
        return Detected(pose=drawn.to_skeleton(SKELETONS[skeleton]).to_json(), people=drawn.n, estimator="drawing")
    if bridge_poses.is_drawn_skeleton(image):
        raise StudioError(
            "the image looks like a drawn skeleton, and its colors are not known; use it as `pose_image`, or read its "
            "pose file",
            status=422,
        )
    people = engine.detect(image, bridge_poses.HELD_OUT_ESTIMATOR if held_out else "")
    name = bridge_poses.HELD_OUT_ESTIMATOR if held_out else engine.settings.estimator or bridge_poses.DEFAULT_ESTIMATOR
    return Detected(pose=people.to_skeleton(SKELETONS[skeleton]).to_json(), people=people.n, estimator=name)


@lru_cache(maxsize=1)
def _presets() -> PosesRead:
    found: dict[str, People] = bridge_poses.example_poses()
    library = Path(str(resources.files("humansd.studio"))) / "presets.json"
    if library.is_file():
        found |= {name: People.from_json(value) for name, value in json.loads(library.read_text("utf-8")).items()}
    poses = [NamedPose(name=name, pose=people.to_json()) for name, people in found.items()]
    return PosesRead(poses=poses, notes=[])
