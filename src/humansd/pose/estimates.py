"""What estimators and pose editors write: people with key points in many wrappers, without a file format's fuss."""

from __future__ import annotations

from typing import Any

from humansd.pose.assemble import Reading
from humansd.pose.beside import most, single_people
from humansd.pose.checks import shown
from humansd.pose.coco_read import image_stem
from humansd.pose.errors import PoseError
from humansd.pose.files import MAX_IMAGES
from humansd.pose.joints import ASSUMED, OPENPOSE_ORDERS, canonical, names_in_order, well_named
from humansd.pose.openpose import flat_points
from humansd.pose.people import MAX_PEOPLE
from humansd.pose.raw import RawFrame, RawPerson, canvas_of
from humansd.pose.skeleton import COCO17

_POINTS = ("pose_keypoints_2d", "pose_keypoints", "keypoints", "joints", "keypoints_2d", "landmarks", "pose_landmarks")
_SCORES = (
    *("keypoint_scores", "keypoints_scores", "joint_scores", "kp_score", "scores", "joints_vis", "keypoints_visible"),
    *("visibility", "visible", "confidence"),
)
_NAMES = ("keypoint_names", "joint_names", "keypoints_names", "names")
_GROUPS = ("people", "persons", "instances", "poses", "predictions", "detections", "objects", "skeletons")
_IMAGES = ("image_id", "image", "image_name", "image_path", "file_name", "filename", "img_name", "img_path", "frame_id")
_LANDMARKS = ("landmarks", "poseLandmarks", "pose_landmarks", "landmark", "normalized_landmarks")
_HANDS = {
    **dict.fromkeys(("leftHandLandmarks", "left_hand_landmarks"), "hand_left_keypoints_2d"),
    **dict.fromkeys(("rightHandLandmarks", "right_hand_landmarks"), "hand_right_keypoints_2d"),
}
# Estimators' own outputs of 17 joints are in COCO's order by their documentation.
_SURE = frozenset((17,))


def is_person(value: Any) -> bool:
    """Whether it is a dict with key points, or of joints by name."""
    if not isinstance(value, dict):
        return False
    return any(isinstance(value.get(k), (list, dict, str)) for k in _POINTS) or is_by_name(value) or _is_columns(value)


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether x and y are lists, of one number a joint each."""
    x, y = value.get("x"), value.get("y")
    return isinstance(x, list) and isinstance(y, list) and len(x) == len(y) >= min(ASSUMED)


def is_people(value: Any) -> bool:
    """People in any wrapper: a person, a list of them, a list or a dict of images with them."""
    if is_person(value):
        return True
    if isinstance(value, dict):
        grouped = any(most(value.get(key), is_person) or most(value.get(key), _is_frame) for key in _GROUPS)
        return grouped or most(list(value.values()), _is_frame)
    return most(value, is_person) or most(value, _is_frame)


def people_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """The images of whatever `is_people` knows."""
    if is_person(value):
        return [_frame(value, single_people(value), stem, "")]
    if isinstance(value, dict):
        group = next((key for key in _GROUPS if most(value.get(key), is_person)), None)
        if group:
            return [_frame(value, _singles(value[group]), stem, group)]
        listed = next((value[key] for key in _GROUPS if most(value.get(key), _is_frame)), None)
        if listed is not None:
            return people_frames(listed, stem, reading)
        return [_any_frame(v, image_stem(name), f"{name}", name) for name, v in value.items() if v]
    if most(value, is_person):
        return _by_image(_singles(value), stem)
    _check_count(value)
    return [_any_frame(v, f"{stem}_{i:04d}" if len(value) > 1 else stem, f"[{i}]") for i, v in enumerate(value)]


def bodies_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """OpenPose's first form: bodies with joints as x, y, score."""
    frame = _frame(value, value["bodies"] if isinstance(value["bodies"], list) else [], stem, "bodies")
    for person in frame.persons:
        person.orders, person.sure, person.third = OPENPOSE_ORDERS, frozenset((18, 25)), "score"
    return [frame]


def mmpose_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """mmpose's predictions of a video: frames with instances, joints named by `meta_info`."""
    meta = value.get("meta_info")
    listed = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    names = names_in_order(listed, "meta_info.keypoint_id2name") if listed else ()
    infos = value["instance_info"] if isinstance(value["instance_info"], list) else []
    _check_count(infos)
    frames = []
    for i, info in enumerate(infos):
        instances = info.get("instances") if isinstance(info, dict) else None
        if not isinstance(instances, list):
            reading.leave_out(PoseError("is missing or not a list", field=f"instance_info[{i}].instances"))
            continue
        number = info.get("frame_id", i)
        name = stem if len(infos) == 1 else f"{stem}_{number:04d}" if type(number) is int else f"{stem}_{i:04d}"
        frame = _frame(value, instances, name, f"instance_info[{i}].instances")
        for person in frame.persons:
            person.names = person.names or names
        frames.append(frame)
    return frames


def is_roboflow(value: Any) -> bool:
    """Whether it is an answer of Roboflow's inference with key points."""
    return isinstance(value, dict) and most(value.get("predictions"), is_person)


def roboflow_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """Roboflow's answer: predictions with a box by its centre and points with names as their class."""
    frame = _frame(value, value["predictions"], stem, "predictions")
    for person, one in zip(frame.persons, value["predictions"], strict=True):
        box: list[Any] = [one.get(key) for key in ("x", "y", "width", "height")] if isinstance(one, dict) else []
        if all(isinstance(v, (int, float)) for v in box) and box:
            x, y, w, h = box
            person.extras = {k: v for k, v in person.extras.items() if k not in ("x", "y", "width", "height")}
            person.extras["bbox"] = [x - w / 2, y - h / 2, w, h]
    return [frame]


def is_landmarks(value: Any) -> bool:
    """Whether it holds MediaPipe's landmarks: lists of 33 dicts with x and y."""
    if isinstance(value, dict):
        return any(_bodies(value.get(key)) for key in _LANDMARKS)
    return isinstance(value, list) and bool(_bodies(value) or most(value, is_landmarks))


def landmark_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """MediaPipe's answer for an image, or a list of them for a video; world landmarks, in metres, are not used."""
    if isinstance(value, list) and not _bodies(value):
        _check_count(value)
        return [_landmark_frame(v, f"{stem}_{i:04d}" if len(value) > 1 else stem) for i, v in enumerate(value)]
    return [_landmark_frame(value, stem)]


def _landmark_frame(value: Any, stem: str) -> RawFrame:
    key = next((k for k in _LANDMARKS if isinstance(value, dict) and _bodies(value.get(k))), "")
    bodies = _bodies(value[key] if key else value)
    extras = {
        ours: [v for p in value[theirs] for v in (p.get("x"), p.get("y"), 1.0)]
        for theirs, ours in _HANDS.items()
        if isinstance(value, dict) and _is_body(value.get(theirs)) and len(bodies) == 1
    }
    persons = [
        RawPerson(one, f"{key or 'landmarks'}[{i}]", key or "landmarks", sure=frozenset((33,)), extras=dict(extras))
        for i, one in enumerate(bodies)
    ]
    return RawFrame(stem, persons, canvas_of(value), image=stem)


def _bodies(value: Any) -> list[list[Any]]:
    """Lists of landmarks: of one person, of several, or {landmark: [...]} as protobuf writes it."""
    if isinstance(value, dict):
        value = value.get("landmark")
    if _is_body(value):
        return [value]
    inner: list[Any] = (
        [v.get("landmark") if isinstance(v, dict) else v for v in value] if isinstance(value, list) else []
    )
    return inner if inner and all(_is_body(v) for v in inner) else []


def _is_body(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 20 and all(isinstance(p, dict) and {"x", "y"} <= set(p) for p in value)
    )


def is_by_name(value: Any) -> bool:
    """Whether it is a dict of joints: {"nose": [x, y], "left_eye": {x, y} ...}."""
    if not isinstance(value, dict):
        return False
    known = [key for key, v in value.items() if isinstance(v, (list, dict)) and canonical(key)]
    return len(known) >= 3 and 2 * len(known) > len(value)


def _is_frame(value: Any) -> bool:
    if isinstance(value, dict):
        return is_person(value) or any(most(value.get(key), is_person) for key in (*_GROUPS, "bodies"))
    return most(value, is_person)


def _any_frame(value: Any, name: str, where: str, image: str = "") -> RawFrame:
    group: Any = value
    if isinstance(value, dict):
        key = next((k for k in (*_GROUPS, "bodies") if most(value.get(k), is_person)), None)
        group = value[key] if key else [value] if is_person(value) else []
    frame = _frame(value, _singles(group) if isinstance(group, list) else [], name, where)
    frame.image = image or frame.image
    if isinstance(value, dict) and {"people", "bodies"} & set(value):
        for person in frame.persons:
            person.orders, person.sure = OPENPOSE_ORDERS, frozenset((17, 18, 25))
    return frame


def _singles(persons: list[Any]) -> list[Any]:
    return [single for one in persons for single in single_people(one)]


def _frame(about: Any, persons: list[Any], name: str, where: str) -> RawFrame:
    if len(persons) > MAX_PEOPLE:  # before any of them is looked at
        raise PoseError(f"{len(persons)} people, the limit is {MAX_PEOPLE}", field=where or None, remedy="Split it.")
    read = [_person(one, f"{where}[{i}]" if where else "person") for i, one in enumerate(persons)]
    return RawFrame(name, read, canvas_of(about), image=name)


def _person(one: Any, where: str) -> RawPerson:
    if not isinstance(one, dict):
        return RawPerson(None, where, key="person", broken="is not a dict")
    key = next((k for k in _POINTS if isinstance(one.get(k), (list, dict, str))), None)
    if key is None and is_by_name(one):
        return RawPerson({k: v for k, v in one.items() if canonical(k)}, where, key="joints")
    if key is None and _is_columns(one):
        return RawPerson(one, where, "x", names=_indexed(one, "x"), sure=_SURE)
    key = key or "keypoints"
    scores = next((k for k in _SCORES if isinstance(one.get(k), list)), None)
    listed = next((one[k] for k in _NAMES if isinstance(one.get(k), (list, dict))), None)
    names = names_in_order(listed) if listed and all(isinstance(n, str) for n in listed) and well_named(listed) else ()
    names = names or _indexed(one, key)
    extras = {k: flat_points(k, v) for k, v in one.items() if k not in (key, scores, *_NAMES)}
    return RawPerson(
        one.get(key), where, key, names=names, orders=ASSUMED, sure=_SURE, scores=one.get(scores) if scores else None,
        extras=_boxed(extras),
    )  # fmt: skip


def _indexed(one: dict[str, Any], key: str) -> tuple[str, ...]:
    """COCO's names of the points of which `labels` tells the numbers, as ViTPose leaves weak ones out."""
    labels, points = one.get("labels"), one.get(key)
    if not isinstance(labels, list) or not isinstance(points, list) or len(points) != len(labels) > 1:
        return ()
    numbers = all(type(label) is int and 0 <= label < len(COCO17) for label in labels)
    return tuple(COCO17.joints[label] for label in labels) if numbers and len(set(labels)) == len(labels) else ()


def _boxed(extras: dict[str, Any]) -> dict[str, Any]:
    """Boxes of corners (a dict of x1 ..., or a list in a list, as mmpose has it) as [x, y, w, h] in `bbox`."""
    box = extras.get("box")
    if isinstance(box, dict) and all(isinstance(box.get(k), (int, float)) for k in ("x1", "y1", "x2", "y2")):
        extras = {k: v for k, v in extras.items() if k != "box"}
        return extras | {"bbox": [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]]}
    box = extras.get("bbox")
    inner = box[0] if isinstance(box, list) and len(box) == 1 and isinstance(box[0], list) else None
    if inner is not None and len(inner) == 4 and all(isinstance(v, (int, float)) for v in inner):
        return extras | {"bbox": [inner[0], inner[1], inner[2] - inner[0], inner[3] - inner[1]]}
    return extras


def _by_image(entries: list[Any], stem: str) -> list[RawFrame]:
    """People of a list, those of one image together where they say which."""
    grouped: dict[Any, list[tuple[int, Any]]] = {}
    for i, one in enumerate(entries):
        named = (one.get(key) for key in _IMAGES) if isinstance(one, dict) else iter(())
        key = next((v for v in named if isinstance(v, (str, int)) and not isinstance(v, bool)), None)
        grouped.setdefault(key, []).append((i, one))
    _check_count(list(grouped))
    frames = []
    for key, group in grouped.items():
        name = stem if key is None else image_stem(key)
        about: Any = next((one for _, one in group if canvas_of(one)), {})
        persons = [_person(one, f"[{i}]") for i, one in group]
        frames.append(RawFrame(name, persons, _image(about), image=name if key is None else str(key)))
    return frames


def _image(about: Any) -> Any:
    """The image's size beside a person; a box's width and height are not that."""
    return canvas_of({k: v for k, v in about.items() if k not in ("width", "height")}) if about else None


def _check_count(frames: list[Any]) -> None:
    if len(frames) > MAX_IMAGES:
        raise PoseError(f"{shown(len(frames))} frames, the limit is {MAX_IMAGES}", remedy="Split the file.")
