"""What a person carries beside the body joints, kept right when the image is resized, cropped or mirrored.

Of the extras in pixels, `bbox` ([x, y, w, h]) and OpenPose's hand and face points (flat x, y, score) move
with the person. `segmentation` cannot, so a geometric change leaves it out rather than keep it wrong.
"""

from __future__ import annotations

from typing import Any

POINT_KEYS = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")
_FACE_POINTS = 70


def move_extras(extras: dict[str, Any], scale: tuple[float, float], shift: tuple[float, float]) -> dict[str, Any]:
    """Extras after x' = x * scale + shift (pixel-centre coordinates); absent points (0, 0, 0) stay."""
    moved = {key: value for key, value in extras.items() if key != "segmentation"}
    for key in POINT_KEYS:
        if _is_points(moved.get(key)):
            moved[key] = [c for p in _triples(moved[key]) for c in _move_point(p, scale, shift)]
    if _is_box(moved.get("bbox")):
        x, y, w, h = moved["bbox"]
        left, top = x * scale[0] + shift[0], y * scale[1] + shift[1]
        moved["bbox"] = [left, top, w * scale[0], h * scale[1]]
    return moved


def mirror_extras(extras: dict[str, Any], width: int) -> dict[str, Any]:
    """Extras in the mirrored image: the hands trade places, the 70 face points are renumbered."""
    mirrored = {key: value for key, value in extras.items() if key != "segmentation"}
    points = {key: mirrored.pop(key) for key in POINT_KEYS if _is_points(mirrored.get(key))}
    swap = {"hand_left_keypoints_2d": "hand_right_keypoints_2d"}
    swap |= {right: left for left, right in swap.items()}
    for key, flat in points.items():
        triples = [_move_point(p, (-1.0, 1.0), (width - 1.0, 0.0)) for p in _triples(flat)]
        if key == "face_keypoints_2d" and len(triples) == _FACE_POINTS:
            triples = [triples[i] for i in _FACE_ORDER]
        mirrored[swap.get(key, key)] = [c for p in triples for c in p]
    if _is_box(mirrored.get("bbox")):
        x, y, w, h = mirrored["bbox"]
        mirrored["bbox"] = [width - 1.0 - x - w, y, w, h]
    return mirrored


def _is_points(value: Any) -> bool:
    return isinstance(value, list) and len(value) % 3 == 0 and all(map(_is_number, value))


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
