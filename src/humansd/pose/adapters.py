"""The table of pose formats: how each is recognised, and who writes it. Each adapter is one short function.

An adapter turns a parsed JSON value into `RawFrame`s; joints, units and odd entries are not its business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from humansd.pose import annotators, editors, estimates
from humansd.pose.assemble import Reading
from humansd.pose.beside import parsed_texts
from humansd.pose.coco import is_humanart
from humansd.pose.coco_read import coco_frames, result_frames
from humansd.pose.errors import PoseError
from humansd.pose.openpose import by_number, openpose_frames
from humansd.pose.raw import RawFrame

_WRAPPERS = 6  # dicts around what is known
_MAX_INSIDE = 1000  # values that are looked at in each
_SOLID = re.compile("world|3d", re.IGNORECASE)


@dataclass(frozen=True)
class Adapter:
    """One format. matches: whether a JSON value is of it; frames: its images (value, name of the file, reading)."""

    name: str
    writers: str
    looks: str
    matches: Callable[[Any], bool]
    frames: Callable[[Any, str, Reading], list[RawFrame]]


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def _all_have(value: Any, *keys: str) -> bool:
    """A list of which most entries have these keys; the others are odd entries."""
    if not isinstance(value, list) or not value:
        return False
    return 2 * sum(_has(v, *keys) for v in value) >= len(value)


def _is_coco(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return "annotations" in value or ("images" in value and not {"poses", "people"} & set(value))


def _is_openpose(value: Any) -> bool:
    if not (_has(value, "people") or _all_have(value, "people")):
        return False
    first = value if isinstance(value, dict) else next(v for v in value if _has(v, "people"))
    people = first["people"]  # joints by name have no list of points
    if isinstance(people, dict) and people:
        return by_number(people)
    return not (isinstance(people, list) and people and all(map(estimates.is_by_name, people)))


def _detect_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """sd-webui-controlnet's answer: `poses`, a list of OpenPose frames, beside images that are not looked at."""
    return openpose_frames(parsed_texts(value["poses"]), stem, reading)


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        "detect",
        "the detect call of sd-webui-controlnet",
        "{poses: [{people}]}",
        lambda v: _has(v, "poses") and _all_have(parsed_texts(v["poses"]), "people"),
        _detect_frames,
    ),
    Adapter(
        "humanart", "Human-Art", "{images, annotations: [{keypoints_21}]}",
        lambda v: _is_coco(v) and is_humanart(v), coco_frames,
    ),
    Adapter(
        "coco",
        "COCO, COCO-WholeBody, CrowdPose, PoseTrack, Halpe; exports of CVAT, Roboflow, Label Studio and most tools",
        "{images, annotations: [{keypoints}], categories}",
        lambda v: _is_coco(v) and not annotators.is_label_studio(v),
        coco_frames,
    ),
    Adapter(
        "openpose",
        "OpenPose 1.0 to now, DWPose, ComfyUI, pose editors",
        "{people: [{pose_keypoints_2d}], canvas_width, canvas_height}, or a list of such",
        _is_openpose,
        openpose_frames,
    ),
    Adapter(
        "bodies", "OpenPose 0.1, AlphaPose --format cmu", "{bodies: [{joints}]}",
        lambda v: _has(v, "bodies"), estimates.bodies_frames,
    ),
    Adapter(
        "mmpose", "mmpose, video", "{meta_info, instance_info: [{instances}]}",
        lambda v: _has(v, "instance_info"), estimates.mmpose_frames,
    ),
    Adapter(
        "labelstudio", "Label Studio, JSON and JSON-MIN", "[{data, annotations: [{result}]}]",
        annotators.is_label_studio, annotators.label_studio_frames,
    ),
    Adapter(
        "labelme", "labelme, X-AnyLabeling", "{shapes: [{label, points, group_id}], imageWidth, imageHeight}",
        annotators.is_labelme, annotators.labelme_frames,
    ),
    Adapter(
        "datumaro", "Datumaro, CVAT's export of that name", "{items: [{annotations: [{points}]}], categories}",
        lambda v: _has(v, "items") and _all_have(v["items"], "annotations"), annotators.datumaro_frames,
    ),
    Adapter(
        "roboflow", "Roboflow's inference", "{image: {width, height}, predictions: [{keypoints}]}",
        estimates.is_roboflow, estimates.roboflow_frames,
    ),
    Adapter(
        "mediapipe", "MediaPipe Pose", "{landmarks: [[{x, y, visibility}]]}",
        estimates.is_landmarks, estimates.landmark_frames,
    ),
    Adapter(
        "results", "detectors' COCO results, AlphaPose, Detectron2, torchvision",
        "[{image_id, keypoints, score}]", lambda v: _all_have(v, "image_id", "keypoints"), result_frames,
    ),
    Adapter(
        "editor", "older pose editors", "{width, height, keypoints: [[x, y]]}",
        lambda v: _has(v, "width", "height", "keypoints"), editors.editor_frames,
    ),
    Adapter(
        "presets", "older pose editors' presets", "{name: [[x, y]]} of 18 joints",
        editors.is_presets, editors.preset_frames,
    ),
    Adapter(
        "people",
        "ultralytics tojson, mmpose and rtmlib, MoveNet and PoseNet, OpenPifPaf, Hugging Face, MPII lists",
        "[{keypoints}], one or a list for each image; names or files as keys",
        estimates.is_people,
        estimates.people_frames,
    ),
)  # fmt: skip

# What is not JSON; `formats` tells these by their first bytes.
OTHER_FORMATS = {
    "humansd": ("this package", "our own JSON: {skeleton, canvas, people}"),
    "npz": ("this package, and HumanSD's release (read by an unpickler that runs nothing)", "*.npz"),
    "yolo": ("YOLO-pose labels: ultralytics, Roboflow, CVAT", "*.txt: class x y w h, then x y visibility a joint"),
    "cvat": ("CVAT for images and for video", "*.xml: <skeleton>, <points>"),
    "drawing": ("OpenPose's or HumanSD's drawing on black, white or grey", "*.png, *.jpg: read back to key points"),
}


def adapter_of(value: Any) -> tuple[Adapter, Any]:
    """The first adapter that knows the value, or what one wrapper holds; PoseError where none does."""
    level = [value]
    for _ in range(_WRAPPERS):
        found = [(adapter, one) for one in level if (adapter := _first(one)) is not None]
        if len(found) == 1 and (found[0][0] is not ADAPTERS[-1] or len(level) == 1):
            inner = _inside(found[0][1]) if found[0][0] is ADAPTERS[-1] else []
            single = [(adapter, one) for one in inner if (adapter := _first(one, ADAPTERS[:-1])) is not None]
            return single[0] if len(inner) == 1 and single else found[0]
        if found:
            return found[0]
        level = [v for one in level for v in _inside(one)][:_MAX_INSIDE]
    raise PoseError(
        "is JSON, but of no known pose format",
        remedy="Give COCO or Human-Art JSON ('images' and 'annotations'), OpenPose JSON ('people'), or npz; "
        "`humansd pose formats` lists the others.",
    )


def _first(value: Any, adapters: tuple[Adapter, ...] = ADAPTERS) -> Adapter | None:
    return next((adapter for adapter in adapters if adapter.matches(value)), None)


def _inside(value: Any) -> list[Any]:
    """What a dict holds that may be a pose file's content; not places in metres, which no image has."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return []
    listed = [parsed_texts(v) for k, v in list(value.items())[:50] if not _SOLID.search(k)]
    return [v for v in listed if isinstance(v, (dict, list))]
