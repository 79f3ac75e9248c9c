"""What a person carries beside the body joints, kept right when the image is resized, cropped or mirrored.

Of the extras in pixels these move with the person: boxes ([x, y, w, h]), points as flat lists of x, y, score
(OpenPose's hands, face and feet, COCO-WholeBody's, the rest of BODY_25), and `other_joints` (name -> [x, y, score]).
`segmentation` cannot, so a geometric change leaves it out rather than keep it wrong.
"""

from __future__ import annotations

from typing import Any

POINT_KEYS = (
    *("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "foot_keypoints_2d"),
    *("face_keypoints", "hand_left_keypoints", "hand_right_keypoints"),  # before OpenPose 1.2
    *("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts", "body_25_rest"),
)
BOX_KEYS = ("bbox", "box", "face_box", "lefthand_box", "righthand_box")
OTHER = "other_joints"  # joints that the skeleton lacks
_FACE_POINTS = 70
_SWAPPED = {
    "hand_left_keypoints_2d": "hand_right_keypoints_2d",
    "hand_left_keypoints": "hand_right_keypoints",
    "lefthand_kpts": "righthand_kpts",
    "lefthand_box": "righthand_box",
}
_SWAPPED |= {right: left for left, right in _SWAPPED.items()}
# The points of the mirrored person, by key and number of points; left and right foot have three each.
_FEET_ORDER = (3, 4, 5, 0, 1, 2)


def move_extras(extras: dict[str, Any], scale: tuple[float, float], shift: tuple[float, float]) -> dict[str, Any]:
    """Extras after x' = x * scale + shift (pixel-centre coordinates); absent points (0, 0, 0) stay."""
    moved = {key: value for key, value in extras.items() if key != "segmentation"}
    for key in POINT_KEYS:
        if _is_points(moved.get(key)):
            moved[key] = [c for p in _triples(moved[key]) for c in _move_point(p, scale, shift)]
    for key in BOX_KEYS:
        if _is_box(moved.get(key)) and any(moved[key]):
            x, y, w, h = moved[key]
            moved[key] = [x * scale[0] + shift[0], y * scale[1] + shift[1], w * scale[0], h * scale[1]]
    if _is_named(moved.get(OTHER)):
        moved[OTHER] = {name: _move_point(p, scale, shift) for name, p in moved[OTHER].items()}
    return moved


def mirror_extras(extras: dict[str, Any], width: int) -> dict[str, Any]:
    """Extras in the mirrored image: hands and feet trade places, the face points are renumbered."""
    mirrored = {key: value for key, value in extras.items() if key != "segmentation"}
    points = {key: mirrored.pop(key) for key in POINT_KEYS if _is_points(mirrored.get(key))}
    for key, flat in points.items():
        triples = [_mirror_point(p, width) for p in _triples(flat)]
        mirrored[_SWAPPED.get(key, key)] = [c for i in _order(key, len(triples)) for c in triples[i]]
    boxes = {key: mirrored.pop(key) for key in BOX_KEYS if _is_box(mirrored.get(key))}
    for key, (x, y, w, h) in boxes.items():
        mirrored[_SWAPPED.get(key, key)] = [width - 1.0 - x - w, y, w, h] if any((x, y, w, h)) else [x, y, w, h]
    if _is_named(mirrored.get(OTHER)):
        mirrored[OTHER] = {_other_side(name): _mirror_point(p, width) for name, p in mirrored[OTHER].items()}
    return mirrored


def _order(key: str, count: int) -> tuple[int, ...]:
    """Which point of a group takes each place in the mirror."""
    if key.startswith("face") and count in (_FACE_POINTS, _FACE_POINTS - 2):
        return _FACE_ORDER[:count]
    if key.startswith("foot") and count == len(_FEET_ORDER):
        return _FEET_ORDER
    if key == "body_25_rest" and count == 1 + len(_FEET_ORDER):
        return (0, *(1 + i for i in _FEET_ORDER))
    return tuple(range(count))


def _other_side(name: str) -> str:
    for side, other in (("left", "right"), ("right", "left")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def _mirror_point(p: list[float], width: int) -> list[float]:
    return _move_point(p, (-1.0, 1.0), (width - 1.0, 0.0))


def _is_points(value: Any) -> bool:
    return isinstance(value, list) and len(value) % 3 == 0 and all(map(_is_number, value))


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_points(p) and len(p) == 3 for p in value.values())


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _triples(flat: list[float]) -> list[list[float]]:
    return [flat[i : i + 3] for i in range(0, len(flat), 3)]


def _move_point(p: list[float], scale: tuple[float, float], shift: tuple[float, float]) -> list[float]:
    if not any(p):
        return p
    return [p[0] * scale[0] + shift[0], p[1] * scale[1] + shift[1], p[2]]


def _face_order() -> tuple[int, ...]:
    """The mirror numbering of OpenPose's 70 face points: symmetric runs reversed, eyes and pupils swapped."""
    order = list(range(_FACE_POINTS))
    for start, stop in ((0, 17), (17, 27), (31, 36), (48, 55), (55, 60), (60, 65), (65, 68), (68, 70)):
        order[start:stop] = reversed(range(start, stop))
    for left, right in ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)):
        order[left], order[right] = right, left
    return tuple(order)


_FACE_ORDER = _face_order()
