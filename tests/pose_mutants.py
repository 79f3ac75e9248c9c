"""One known person in the forms that tools write, changed at random: names, order, unit, wrapper, fields, scores."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

CANVAS = (640, 480)
TRUTH = {
    "nose": (320, 90), "left_eye": (330, 80), "right_eye": (310, 80), "left_ear": (342, 86), "right_ear": (298, 86),
    "left_shoulder": (370, 150), "right_shoulder": (270, 150), "left_elbow": (400, 215), "right_elbow": (235, 205),
    "left_wrist": (420, 280), "right_wrist": (215, 140), "left_hip": (350, 280), "right_hip": (290, 280),
    "left_knee": (360, 360), "right_knee": (285, 360), "left_ankle": (365, 440), "right_ankle": (280, 440),
}  # fmt: skip
OTHERS = {
    "neck": (320, 150),
    "mid_hip": (320, 280),
    "head_top": (320, 55),
    "upper_neck": (320, 140),
    "thorax": (320, 150),
    "pelvis": (320, 280),
}
OPENPOSE = [
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
]
BODY25 = [*OPENPOSE[:8], "mid_hip", *OPENPOSE[8:], *["foot"] * 6]
COCO = list(TRUTH)
SHORT = {"shoulder": "sho", "elbow": "elb", "wrist": "wri", "ankle": "ank"}

TRIPLE = ("x", "y", "score")

Point = list[float]


def place(name: str) -> tuple[float, float]:
    """Where a joint of the known person is, px."""
    return TRUTH.get(name) or OTHERS.get(name) or (300.0, 450.0)


def spelled(rng: random.Random) -> Callable[[str], str]:
    """A way of writing joint names, as one tool has it."""

    def camel(name: str) -> str:
        return "".join(word.capitalize() for word in name.split("_"))

    def sided(name: str, short: dict[str, str]) -> tuple[str, str]:
        side, _, part = name.rpartition("_")
        return side, short.get(part, part)

    styles: list[Callable[[str], str]] = [
        lambda n: n,
        lambda n: n.replace("_", " "),
        lambda n: n.replace("_", "-").upper(),
        camel,
        lambda n: camel(n)[0].lower() + camel(n)[1:],
        lambda n: "_".join(filter(None, (sided(n, {})[0][:1], sided(n, {})[1]))),
        lambda n: sided(n, {})[0][:1].upper() + camel(sided(n, {})[1]),
        lambda n: "_".join(filter(None, (sided(n, SHORT)[1], sided(n, SHORT)[0]))),
        lambda n: "".join((sided(n, {})[0][:1], sided(n, {})[1])),
        lambda n: f"kp_{n}",
        lambda n: ".".join(filter(None, (sided(n, {})[1].capitalize(), sided(n, {})[0][:1].upper()))),
    ]
    return rng.choice(styles)


def in_unit(rng: random.Random, units: tuple[str, ...]) -> Callable[[tuple[float, float]], Point]:
    """A way of writing places."""
    width, height = CANVAS
    forms: dict[str, Callable[[tuple[float, float]], Point]] = {
        "pixels": lambda p: [*p],
        "shares": lambda p: [p[0] / width, p[1] / height],
        "signed": lambda p: [2 * p[0] / width - 1, 2 * p[1] / height - 1],
        "percent": lambda p: [100 * p[0] / width, 100 * p[1] / height],
    }
    return forms[rng.choice(units)]


def scores(rng: random.Random) -> Callable[[], Point]:
    """What stands behind x and y."""
    kinds: list[Callable[[], Point]] = [
        lambda: [1.0], lambda: [1], lambda: [round(rng.uniform(0.4, 1), 3)], lambda: [round(rng.uniform(0.7, 1.4), 4)],
    ]  # fmt: skip
    return rng.choice(kinds)


def _rows(rng: random.Random, order: list[str], units: tuple[str, ...] = ("pixels", "shares", "signed", "percent")):
    form, score = in_unit(rng, units), scores(rng)
    return [form(place(name)) + score() for name in order]


def _formed(rng: random.Random, rows: list[Point]) -> Any:
    """Rows as they are, flat, flat without scores, pairs, or as a text."""
    flat = [v for row in rows for v in row]
    pairs = [v for row in rows for v in row[:2]]
    return rng.choice((rows, flat, flat, flat, pairs, [row[:2] for row in rows], json.dumps(flat)))


def _people(rng: random.Random, person: dict[str, Any], key: str) -> list[Any]:
    """The person, at times beside entries that cannot be used."""
    odd: list[Any] = [{}, None, {key: None}, {key: []}, {key: [1, 2, 3]}, {key: "x"}, 7]
    return rng.choice(([person], [person], [person, rng.choice(odd)], [rng.choice(odd), person]))


def openpose(rng: random.Random) -> tuple[str, Any]:
    key = rng.choice(("pose_keypoints_2d", "pose_keypoints_2d", "pose_keypoints"))
    order = rng.choice((OPENPOSE, BODY25, COCO))
    person = {key: _formed(rng, _rows(rng, order))}
    person |= rng.choice(({}, {"face_keypoints_2d": None, "hand_left_keypoints_2d": []}, {"person_id": [-1]}))
    people = [p for p in _people(rng, person, key) if isinstance(p, dict) or p is None]
    size = rng.choice(({}, {"canvas_width": 640, "canvas_height": 480}, {"width": 640, "height": 480}))
    frame = {"people": people, "version": 1.3} | size
    return ".json", rng.choice((frame, [frame], {"poses": [frame], "images": ["aGk="]}, {"data": frame}))


def coco(rng: random.Random) -> tuple[str, Any]:
    order = [*COCO, *rng.choice(([], ["neck"], ["head_top", "neck"], ["mid_hip"]))]
    rng.shuffle(order)
    if rng.random() < 0.3:
        order = [name for name in order if rng.random() < 0.85 or "shoulder" in name]
    spell = spelled(rng)
    rows = _rows(rng, order)
    if rng.random() < 0.4:
        rows = [[*row[:2], 2] for row in rows]
    note = {"id": 3, "image_id": 9, "category_id": 1, "keypoints": _formed(rng, rows), "bbox": [215, 80, 205, 360]}
    for key in ("id", "bbox"):
        if rng.random() < 0.3:
            del note[key]
    image: dict[str, Any] = {"id": 9, "file_name": "some/a.jpg", "width": 640, "height": 480}
    if rng.random() < 0.2:
        del image["width"]
    category = {"id": 1, "name": "person", "keypoints": [spell(name) for name in order]}
    value = {"images": [image], "annotations": _people(rng, note, "keypoints"), "categories": [category]}
    return ".json", rng.choice((value, value, {"result": value}))


def results(rng: random.Random) -> tuple[str, Any]:
    image = rng.choice((1, "a.jpg", "000123"))
    entry = {"image_id": image, "category_id": 1, "keypoints": _formed(rng, _rows(rng, COCO)), "score": 2.3}
    entry |= rng.choice(({}, {"box": [1, 2, 3, 4]}, {"idx": [0.0]}))
    return ".json", _people(rng, entry, "keypoints")


def estimates(rng: random.Random) -> tuple[str, Any]:
    rows = _rows(rng, COCO)
    named = rng.random() < 0.5
    order = rng.sample(COCO, len(COCO)) if named else COCO
    spell = spelled(rng)
    by_name = dict(zip(COCO, rows, strict=True))
    columns = dict(zip("xy", zip(*[row[:2] for row in rows], strict=True), strict=True))
    label = rng.choice(("name", "part", "label", "class"))
    forms: list[Callable[[], dict[str, Any]]] = [
        lambda: {"keypoints": [row[:2] for row in rows], "keypoint_scores": [row[2] for row in rows]},
        lambda: {"keypoints": {k: list(v) for k, v in columns.items()} | {"visible": [row[2] for row in rows]}},
        lambda: {"keypoints": [{label: spell(n)} | dict(zip(TRIPLE, by_name[n], strict=True)) for n in order]},
        lambda: {"keypoints": {spell(n): by_name[n] for n in order}},
        lambda: {spell(n): dict(zip(("x", "y", "confidence"), by_name[n], strict=True)) for n in order},
        lambda: {"score": 0.9, "keypoints": [
            {"part": spell(n), "position": dict(zip("xy", by_name[n][:2], strict=True)), "score": 0.8} for n in order]},
    ]  # fmt: skip
    person = rng.choice(forms)()
    person |= rng.choice(({}, {"bbox": [[210, 70, 425, 450]], "bbox_score": 0.9}, {"track_id": 4}))
    frame = {"frame_id": 1, "instances": [person]}
    return ".json", rng.choice((
        [person], person, [[person]], {"predictions": [person]}, {"instances": [person]}, {"a.jpg": [person]},
        {"meta_info": {}, "instance_info": [frame]}, {"frames": [{"people": [person]}]},
    ))  # fmt: skip


def mediapipe(rng: random.Random) -> tuple[str, Any]:
    names = [
        "nose",
        ".",
        "left_eye",
        ".",
        ".",
        "right_eye",
        ".",
        "left_ear",
        "right_ear",
        ".",
        ".",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        ".",
        ".",
        ".",
        ".",
        ".",
        ".",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
        ".",
        ".",
        ".",
        ".",
    ]
    form = in_unit(rng, ("shares", "shares", "pixels"))
    body = [dict(zip("xy", form(place(n)), strict=True)) | {"z": -0.1, "visibility": 0.98} for n in names]
    if rng.random() < 0.3:
        body = [{"x": p["x"], "y": p["y"]} for p in body]
    return ".json", rng.choice((
        {"landmarks": [body], "worldLandmarks": [body]}, {"poseLandmarks": body}, {"pose_landmarks": [body]}, body,
        [body], {"pose_landmarks": {"landmark": body}}, [{"landmarks": [body]}], {"result": {"landmarks": [body]}},
    ))  # fmt: skip


def annotated(rng: random.Random) -> tuple[str, Any]:
    spell, order = spelled(rng), rng.sample(COCO, len(COCO))
    if rng.random() < 0.5:
        shapes = [
            {"label": spell(n), "points": [[*map(float, place(n))]], "group_id": 1, "shape_type": "point"}
            for n in order
        ]
        if rng.random() < 0.4:
            shapes.append(
                {"label": "person", "points": [[210, 70], [425, 450]], "group_id": 1, "shape_type": "rectangle"}
            )
        if rng.random() < 0.4:
            shapes = [shape | {"group_id": None} for shape in shapes if shape["shape_type"] == "point"]
        return ".json", {"shapes": shapes, "imagePath": "a.jpg", "imageWidth": 640, "imageHeight": 480}
    size = {"original_width": 640, "original_height": 480}
    percent = in_unit(rng, ("percent",))
    regions = [
        {
            "type": "keypointlabels",
            "value": dict(zip("xy", percent(place(n)), strict=True)) | {"keypointlabels": [spell(n)]},
        }
        | size
        for n in order
    ]
    whole = [{"id": 1, "data": {"image": "/data/a.jpg"}, "annotations": [{"result": regions}]}]
    least = [{"image": "/data/a.jpg", "kp": [r["value"] | size for r in regions]}]
    return ".json", rng.choice((whole, least))


def roboflow(rng: random.Random) -> tuple[str, Any]:
    spell = spelled(rng)
    points = [
        {"x": place(n)[0], "y": place(n)[1], "confidence": 0.9, "class_id": i, "class": spell(n)}
        for i, n in enumerate(rng.sample(COCO, len(COCO)))
    ]
    person = {
        "x": 317,
        "y": 260,
        "width": 210,
        "height": 380,
        "class": "person",
        "confidence": 0.9,
        "keypoints": points,
    }
    return ".json", {"image": {"width": 640, "height": 480}, "predictions": [person]}


def yolo(rng: random.Random) -> tuple[str, Any]:
    shares = in_unit(rng, ("shares",))
    behind: Point = rng.choice(([], [2], [0.93], [1]))
    numbers = [v for n in COCO for v in (*shares(place(n)), *behind)]
    tail = rng.choice(([], [0.88])) if behind else []
    line = " ".join(f"{v:.6f}" for v in (0.5, 0.54, 0.32, 0.79, *numbers, *tail))
    return ".txt", f"0 {line}\n" + rng.choice(("", "\n", "0 0.5 0.5 x\n"))


def cvat(rng: random.Random) -> tuple[str, Any]:
    spell = spelled(rng)
    points = "".join(
        f'<points label="{spell(n)}" source="manual" outside="0" occluded="0" points="{x:.2f},{y:.2f}"/>'
        for n, (x, y) in rng.sample(list(TRUTH.items()), len(TRUTH))
    )
    inside = rng.choice((f'<skeleton label="person" z_order="0">{points}</skeleton>', points))
    image = f'<image id="0" name="a.jpg" width="640" height="480">{inside}</image>'
    return ".xml", f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{image}</annotations>'


KINDS = (openpose, openpose, coco, coco, results, estimates, estimates, mediapipe, annotated, roboflow, yolo, cvat)


def mutant(seed: int, folder: Path) -> Path:
    """A file of the known person in a form chosen by the seed."""
    rng = random.Random(seed)
    kind = rng.choice(KINDS)
    suffix, value = kind(rng)
    path = folder / f"{seed}-{kind.__name__}{suffix}"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
