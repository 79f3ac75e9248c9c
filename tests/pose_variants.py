"""The known person in forms that tools document, each written down once: what stands beside the random mutants.

A form is a file's suffix and content, and what reading has to give: how many people, or "refused". All are of
`pose_mutants.TRUTH` on 640 x 480 px.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pose_mutants import BODY25, COCO, OPENPOSE, TRUTH, place

MEDIAPIPE = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
    "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
BODY25B = [
    *COCO, "upper_neck", "head_top", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe",
    "right_heel",
]  # fmt: skip
CANVAS_KEYS = {"canvas_width": 640, "canvas_height": 480}
IMAGE = {"id": 9, "file_name": "a.jpg", "width": 640, "height": 480}


@dataclass(frozen=True)
class Form:
    """One file. people: how many it shows, the first of them the known one; 0: it is refused, with a remedy."""

    suffix: str
    content: Any
    people: int = 1
    least: int = 12  # joints
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else json.dumps(self.content)


FORMS: dict[str, Callable[[], Form]] = {}


def form(make: Callable[[], Form]) -> Callable[[], Form]:
    FORMS[make.__name__] = make
    return make


def share(name: str) -> tuple[float, float]:
    x, y = place(name)
    return x / 640, y / 480


def flat(order: Any, third: Any = 0.9, at: Callable[[str], tuple[float, float]] = place) -> list[float]:
    return [v for n in order for v in (*at(n), third)]


def pairs(order: Any, at: Callable[[str], tuple[float, float]] = place) -> list[list[float]]:
    return [[*map(float, at(n))] for n in order]


def shuffled(order: list[str], seed: int = 3) -> list[str]:
    return random.Random(seed).sample(order, len(order))


def moved(row: list[float], step: float) -> list[float]:
    """A second person beside the first, of a flat list of triples."""
    return [v + step * (i % 3 == 0) for i, v in enumerate(row)]


def coco_file(note: dict[str, Any], names: list[str] | None = None, **image: Any) -> dict[str, Any]:
    category = {"id": 1, "name": "person"} | ({"keypoints": names} if names else {})
    base = {"id": 1, "image_id": 9, "category_id": 1}
    return {"images": [IMAGE | image], "annotations": [base | note], "categories": [category]}


# --- OpenPose, ComfyUI, the detect answer, editors


@form
def openpose_part_candidates() -> Form:
    spots = [{str(i): [*place(n), 0.9] for i, n in enumerate(BODY25)}]
    person = {"person_id": [-1], "pose_keypoints_2d": flat(BODY25), "face_keypoints_2d": [], "pose_keypoints_3d": []}
    return Form(".json", {"version": 1.3, "people": [person], "part_candidates": spots})


@form
def openpose_body_25b() -> Form:
    return Form(".json", {"version": 1.3, "people": [{"pose_keypoints_2d": flat(BODY25B)}]} | CANVAS_KEYS)


@form
def openpose_neck_last() -> Form:
    return Form(".json", {"people": [{"pose_keypoints_2d": flat([*COCO, "neck"])}]} | CANVAS_KEYS)


@form
def openpose_keypoint_scale_3() -> Form:
    spots = flat(BODY25, at=share)
    spots[3 * 17 : 3 * 18] = [0, 0, 0]
    return Form(".json", {"version": 1.3, "people": [{"pose_keypoints_2d": spots}]})


@form
def openpose_keypoint_scale_4_with_a_joint_not_found() -> Form:
    spots = flat(OPENPOSE, at=lambda n: (2 * share(n)[0] - 1, 2 * share(n)[1] - 1))
    spots[3 * 17 : 3 * 18] = [0, 0, 0]
    return Form(".json", {"version": 1.2, "people": [{"pose_keypoints_2d": spots}]} | CANVAS_KEYS)


@form
def openpose_mpi_15() -> Form:
    order = ["head_top", *OPENPOSE[1:14], "mid_hip"]
    return Form(".json", {"version": 1.0, "people": [{"pose_keypoints": flat(order)}]}, least=11)


@form
def openpose_hand_scores_and_2nd_person_without_body() -> Form:
    hand = flat(["left_wrist"] * 21)
    ghost = {"pose_keypoints_2d": [0.0] * 54, "hand_left_keypoints_2d": hand}
    first = {"pose_keypoints_2d": flat(OPENPOSE), "hand_left_keypoints_2d": hand, "hand_right_keypoints_2d": None}
    return Form(".json", {"people": [first, ghost]} | CANVAS_KEYS, people=2)


@form
def comfyui_history_holds_json_as_text() -> Form:
    frame = [{"people": [{"pose_keypoints_2d": flat(OPENPOSE, at=share)}]} | CANVAS_KEYS]
    return Form(".json", {"outputs": {"7": {"openpose_json": [json.dumps(frame, indent=4)]}}})


@form
def comfyui_with_animals_beside() -> Form:
    frame = {"people": [{"pose_keypoints_2d": flat(OPENPOSE, 1.0, share), "face_keypoints_2d": None}], "animals": []}
    return Form(".json", [frame | {"canvas_height": 480, "canvas_width": 640}])


@form
def animal_pose() -> Form:
    return Form(".json", [{"version": "ap10k", "animals": [flat(COCO)]} | CANVAS_KEYS], people=0)


@form
def detect_answer_with_poses_as_text() -> Form:
    frame = {"people": [{"pose_keypoints_2d": flat(OPENPOSE)}], "animals": []} | CANVAS_KEYS
    return Form(".json", {"images": ["aGk="], "info": "Success", "poses": [json.dumps(frame)]})


@form
def detect_answer_with_an_image_of_nobody() -> Form:
    empty = {"people": [], "animals": []} | CANVAS_KEYS
    frame = {"people": [{"pose_keypoints_2d": flat(OPENPOSE)}]} | CANVAS_KEYS
    return Form(".json", {"images": ["aGk=", "aGk="], "poses": [frame, empty]})


@form
def editor_presets_by_name() -> Form:
    return Form(".json", {"standing": pairs(OPENPOSE)})


@form
def editor_two_people_in_a_row() -> Form:
    second = [[x + 90, y] for x, y in pairs(OPENPOSE)]
    return Form(".json", {"width": 640, "height": 480, "keypoints": [*pairs(OPENPOSE), *second]}, people=2)


@form
def editor_of_objects() -> Form:
    body = [{"x": place(n)[0], "y": place(n)[1], "visible": True} for n in OPENPOSE]
    return Form(".json", {"width": 640, "height": 480, "keypoints": body})


@form
def names_beside_the_people() -> Form:
    order = shuffled(COCO)
    return Form(".json", {"keypoint_names": order, "people": [{"keypoints": flat(order)}]} | CANVAS_KEYS)


@form
def names_beside_openpose_people() -> Form:
    order = shuffled(OPENPOSE)
    return Form(".json", {"joint_names": order, "people": [{"pose_keypoints_2d": flat(order)}]} | CANVAS_KEYS)


@form
def people_by_number() -> Form:
    return Form(".json", {"people": {"0": {"pose_keypoints_2d": flat(OPENPOSE)}}} | CANVAS_KEYS)


@form
def canvas_as_floats_and_texts() -> Form:
    size = {"canvas_width": 640.0, "canvas_height": "480"}
    return Form(".json", {"people": [{"pose_keypoints_2d": flat(OPENPOSE)}]} | size)


@form
def one_frame_a_line() -> Form:
    frame = {"people": [{"pose_keypoints_2d": flat(OPENPOSE)}]} | CANVAS_KEYS
    return Form(".json", "\n".join([json.dumps(frame)] * 2) + "\n")


# --- COCO and what exports it


@form
def coco_ids_as_texts() -> Form:
    return Form(".json", coco_file({"image_id": "9", "keypoints": flat(COCO, 2)}, COCO))


@form
def coco_category_ids_as_texts() -> Form:
    order = shuffled(COCO)
    return Form(".json", coco_file({"category_id": "1", "keypoints": flat(order, 2)}, order))


@form
def coco_with_two_kinds_of_category() -> Form:
    order = shuffled(COCO)
    value = coco_file({"category_id": 2, "keypoints": flat(order, 2)}, COCO)
    value["categories"] += [{"id": 2, "name": "dancer", "keypoints": order}]
    return Form(".json", value)


@form
def coco_joints_at_nothing_called_visible() -> Form:
    spots = flat(COCO, 2)
    spots[3:6] = [0, 0, 2]
    return Form(".json", coco_file({"keypoints": spots}, COCO))


@form
def coco_absent_as_minus_one() -> Form:
    rows = pairs(COCO)
    rows[3] = [-1, -1]
    return Form(".json", coco_file({"keypoints": rows}, COCO))


@form
def coco_roboflow_export() -> Form:
    value = coco_file({"category_id": 1, "keypoints": flat(COCO, 2), "segmentation": [], "iscrowd": 0}, COCO)
    value["categories"].insert(0, {"id": 0, "name": "people", "supercategory": "none"})
    value["images"][0] |= {"file_name": "a_jpg.rf.0123.jpg", "extra": {"name": "a.jpg"}, "license": 1}
    return Form(".json", value)


@form
def coco_boxes_of_others_between() -> Form:
    value = coco_file({"keypoints": flat(COCO, 2)}, COCO)
    value["annotations"].insert(0, {"id": 5, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12})
    value["categories"].append({"id": 7, "name": "chair"})
    return Form(".json", value)


@form
def coco_image_without_file_name() -> Form:
    value = coco_file({"keypoints": flat(COCO, 2)}, COCO)
    del value["images"][0]["file_name"]
    value["images"][0]["coco_url"] = "http://images.example.org/a.jpg"
    return Form(".json", value)


@form
def coco_points_as_objects() -> Form:
    spots = [{"name": n, "x": place(n)[0], "y": place(n)[1], "v": 2} for n in shuffled(COCO)]
    return Form(".json", coco_file({"keypoints": spots}))


@form
def halpe_136_of_coco() -> Form:
    names = [*COCO, "head", "neck", "mid_hip", *["toe"] * 6]
    return Form(".json", coco_file({"keypoints": flat([*names, *["x"] * 110], 2)}, COCO))


@form
def alphapose_halpe_26() -> Form:
    order = [*COCO, "head_top", "neck", "mid_hip", *["toe"] * 6]
    return Form(".json", [{"image_id": "a.jpg", "category_id": 1, "keypoints": flat(order), "score": 2.9, "idx": 1}])


@form
def alphapose_cmu_by_image() -> Form:
    bodies = [{"joints": flat(OPENPOSE)}]
    return Form(".json", {"a.jpg": {"version": "AlphaPose v0.3", "bodies": bodies}})


@form
def alphapose_open_by_image() -> Form:
    people = [{"pose_keypoints_2d": flat(OPENPOSE)}]
    return Form(".json", {"a.jpg": {"version": "AlphaPose v0.3", "people": people}})


@form
def alphapose_136() -> Form:
    order = [*COCO, "head_top", "neck", "mid_hip", *["toe"] * 6, *["x"] * 110]
    return Form(".json", [{"image_id": "a.jpg", "keypoints": flat(order), "score": 2.9, "box": [1, 2, 3, 4]}])


@form
def crowdpose_without_names() -> Form:
    order = [*COCO[5:], "head_top", "neck"]
    value = coco_file({"keypoints": flat(order, 2)})
    return Form(".json", value, people=0)


@form
def crowdpose_named_by_the_user() -> Form:
    order = [*COCO[5:], "head_top", "neck"]
    return Form(".json", coco_file({"keypoints": flat(order, 2)}), options={"joints": "crowdpose14"})


@form
def wholebody_results() -> Form:
    return Form(".json", [{"image_id": 9, "category_id": 1, "keypoints": flat([*COCO, *["x"] * 116]), "score": 0.7}])


@form
def wholebody_in_a_dict_of_lists() -> Form:
    body = pairs([*COCO, *["x"] * 116])
    return Form(".json", {"keypoints": [body], "scores": [[0.8] * 133], "bbox": [[1, 2, 3, 4]]})


# --- estimators


@form
def mmpose_video_without_meta() -> Form:
    person = {"keypoints": pairs(COCO), "keypoint_scores": [0.9] * 17, "bbox": [[1.0, 2, 3, 4]], "bbox_score": 0.9}
    return Form(".json", [{"frame_id": 0, "instances": [person]}, {"frame_id": 1, "instances": []}])


@form
def mmpose_own_order_in_meta() -> Form:
    order = shuffled(COCO)
    meta = {"dataset_name": "own", "keypoint_id2name": dict(zip(map(str, range(17)), order, strict=True))}
    person = {"keypoints": pairs(order), "keypoint_scores": [0.9] * 17}
    return Form(".json", {"meta_info": meta, "instance_info": [{"frame_id": 1, "instances": [person]}]})


@form
def mmpose_names_by_name2id() -> Form:
    order = shuffled(COCO)
    meta = {"dataset_name": "own", "keypoint_name2id": {n: i for i, n in enumerate(order)}}
    person = {"keypoints": pairs(order), "keypoint_scores": [0.9] * 17}
    return Form(".json", {"meta_info": meta, "instance_info": [{"frame_id": 1, "instances": [person]}]})


@form
def mmpose_inferencer_answer() -> Form:
    person = {"keypoints": pairs(COCO), "keypoint_scores": [0.9] * 17, "bbox": [[1.0, 2, 3, 4]]}
    return Form(".json", {"visualization": [], "predictions": [[person]]})


@form
def arrays_of_two_people() -> Form:
    one = pairs(COCO)
    two = [[x + 90, y] for x, y in one]
    return Form(".json", {"keypoints": [one, two], "scores": [[0.9] * 17, [0.8] * 17]}, people=2)


@form
def torchvision_keypoint_rcnn() -> Form:
    rows = [[*p, 1.0] for p in pairs(COCO)]
    about = {"boxes": [[1.0, 2, 3, 4]], "labels": [1], "scores": [0.99], "keypoints_scores": [[9.1] * 17]}
    return Form(".json", [about | {"keypoints": [rows]}])


@form
def torchvision_two_people() -> Form:
    rows = [[*p, 1.0] for p in pairs(COCO)]
    two = [[x + 90, y, v] for x, y, v in rows]
    about = {"boxes": [[1.0, 2, 3, 4]] * 2, "labels": [1, 1], "scores": [0.99, 0.8], "keypoints": [rows, two]}
    return Form(".json", about, people=2)


@form
def transformers_vitpose() -> Form:
    person = {"keypoints": pairs(COCO), "scores": [0.9] * 17, "labels": [*range(17)], "bbox": [1.0, 2, 3, 4]}
    return Form(".json", [[person]])


@form
def transformers_vitpose_some_joints() -> Form:
    kept = [i for i in range(17) if i not in (3, 4)]
    person = {"keypoints": pairs([COCO[i] for i in kept]), "scores": [0.9] * 15, "labels": kept, "bbox": [1, 2, 3, 4]}
    return Form(".json", [[person]])


@form
def ultralytics_weak_joints_are_zero() -> Form:
    x, y = ([0.0 if n == "left_ear" else place(n)[axis] for n in COCO] for axis in (0, 1))
    seen = [0.31 if n == "left_ear" else 0.93 for n in COCO]
    box = {"x1": 210.0, "y1": 70.0, "x2": 425.0, "y2": 450.0}
    person = {"name": "person", "class": 0, "confidence": 0.9, "box": box}
    return Form(".json", [person | {"keypoints": {"x": x, "y": y, "visible": seen}}])


@form
def ultralytics_normalized() -> Form:
    x, y = ([share(n)[axis] for n in COCO] for axis in (0, 1))
    box = {"x1": 0.3, "y1": 0.1, "x2": 0.7, "y2": 0.9}
    person = {"name": "person", "class": 0, "confidence": 0.9, "box": box}
    return Form(".json", [person | {"keypoints": {"x": x, "y": y, "visible": [0.9] * 17}}])


@form
def ultralytics_of_two_images() -> Form:
    x, y = ([place(n)[axis] for n in COCO] for axis in (0, 1))
    person = {"name": "person", "class": 0, "confidence": 0.9, "keypoints": {"x": x, "y": y}}
    return Form(".json", [[person], [person]])


@form
def columns_in_the_person() -> Form:
    x, y = ([place(n)[axis] for n in COCO] for axis in (0, 1))
    return Form(".json", [{"x": x, "y": y, "score": [0.9] * 17}])


@form
def tfjs_pose_detection() -> Form:
    spots = [{"x": place(n)[0], "y": place(n)[1], "score": 0.9, "name": n} for n in COCO]
    return Form(".json", [{"score": 0.9, "keypoints": spots, "box": {"xMin": 1, "yMin": 2, "width": 3, "height": 4}}])


@form
def blazepose_tfjs() -> Form:
    spots = [{"x": place(n)[0], "y": place(n)[1], "z": -0.3, "score": 0.9, "name": n} for n in MEDIAPIPE]
    solid = [{"x": 0.1, "y": 0.2, "z": 0.3, "score": 0.9, "name": n} for n in MEDIAPIPE]
    return Form(".json", [{"score": 0.9, "keypoints": spots, "keypoints3D": solid}])


@form
def movenet_raw_tensor() -> Form:
    rows = [[share(n)[1], share(n)[0], 0.9] for n in COCO]  # y first
    return Form(".json", [[rows]], people=0)


@form
def depth_where_a_score_is_usual() -> Form:
    rows = [[*place(n), -0.4 + 0.05 * i] for i, n in enumerate(COCO)]
    return Form(".json", [{"keypoints": rows}], least=17)


@form
def scores_in_percent() -> Form:
    return Form(".json", [{"image_id": "a.jpg", "keypoints": flat(COCO, 93.5), "score": 97.0}])


# --- YOLO-pose


def yolo_line(order: list[str], third: list[float], head: str = "0 0.5 0.54 0.32 0.79") -> str:
    return head + " " + " ".join(f"{v:.6f}" for n in order for v in (*share(n), *third))


@form
def yolo_box_of_another_class_first() -> Form:
    return Form(".txt", "3 0.5 0.5 0.2 0.2\n" + yolo_line(COCO, [2]) + "\n")


@form
def yolo_windows_lines_and_tabs() -> Form:
    return Form(".txt", "\ufeff" + yolo_line(COCO, [2]).replace(" ", "\t") + "\r\n")


@form
def yolo_pairs_with_a_score_behind() -> Form:
    return Form(".txt", yolo_line(COCO, []) + " 0.913\n")


@form
def yolo_tracked() -> Form:
    return Form(".txt", yolo_line(COCO, [0.93]) + " 0.913 4\n")


@form
def yolo_absent_joint() -> Form:
    words = yolo_line(COCO, [2]).split()
    words[5 + 9 : 5 + 12] = ["0", "0", "0"]
    return Form(".txt", " ".join(words) + "\n")


@form
def yolo_segments() -> Form:
    outline = " ".join(f"{0.3 + 0.01 * i:.3f} {0.2 + 0.013 * i:.3f}" for i in range(29))
    return Form(".txt", f"0 {outline}\n", people=0)


# --- MediaPipe


def landmarks(*more: str) -> list[dict[str, float]]:
    return [
        dict(zip("xy", share(n), strict=True)) | {"z": -0.1, "visibility": 0.98} | dict.fromkeys(more, 0.9)
        for n in MEDIAPIPE
    ]


@form
def mediapipe_tasks() -> Form:
    solid = [{"x": 0.1, "y": -0.5, "z": 0.2, "visibility": 0.9} for _ in MEDIAPIPE]
    body = landmarks("presence")
    return Form(".json", {"pose_landmarks": [body], "pose_world_landmarks": [solid], "segmentation_masks": None})


@form
def mediapipe_rows_of_four() -> Form:
    return Form(".json", {"landmarks": [[*share(n), -0.2, 0.98] for n in MEDIAPIPE]})


@form
def mediapipe_rows_of_three() -> Form:
    rows = [[*share(n), -0.2 + 0.01 * i] for i, n in enumerate(MEDIAPIPE)]
    return Form(".json", {"pose_landmarks": rows}, least=17)


@form
def mediapipe_by_name() -> Form:
    spots = {f"PoseLandmark.{n.upper()}": dict(zip("xyz", (*share(n), -0.1), strict=True)) for n in MEDIAPIPE}
    return Form(".json", spots)


@form
def mediapipe_frames() -> Form:
    frames = [{"frame": i, "timestamp": 33 * i, "landmarks": landmarks()} for i in range(2)]
    return Form(".json", {"frames": frames, "fps": 30})


@form
def mediapipe_world_alone() -> Form:
    return Form(".json", {"worldLandmarks": [[{"x": 0.1, "y": -0.5, "z": 0.2} for _ in MEDIAPIPE]]}, people=0)


@form
def mediapipe_holistic() -> Form:
    hand = [{"x": 0.6, "y": 0.5, "z": 0.0} for _ in range(21)]
    value = {"poseLandmarks": landmarks(), "leftHandLandmarks": hand, "faceLandmarks": hand * 22}
    return Form(".json", value | {"image": {"width": 640, "height": 480}})


# --- annotation tools


def studio_regions(order: list[str]) -> list[dict[str, Any]]:
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    about = {"type": "keypointlabels", "from_name": "kp", "to_name": "image"} | size
    return [
        about
        | {
            "id": f"r{i}",
            "value": {"x": 100 * share(n)[0], "y": 100 * share(n)[1], "width": 0.4, "keypointlabels": [n]},
        }
        for i, n in enumerate(order)
    ]


@form
def label_studio_local_files() -> Form:
    task = {
        "id": 1,
        "data": {"image": "/data/local-files/?d=set/a.jpg"},
        "annotations": [{"result": studio_regions(COCO)}],
    }
    return Form(".json", [task])


@form
def label_studio_two_annotators() -> Form:
    other = [r | {"value": r["value"] | {"x": r["value"]["x"] + 4}} for r in studio_regions(COCO)]
    both = [{"id": 1, "was_cancelled": False, "result": studio_regions(COCO)}, {"id": 2, "result": other}]
    return Form(".json", [{"id": 1, "data": {"image": "a.jpg"}, "annotations": both}])


@form
def label_studio_cancelled_first() -> Form:
    other = [r | {"value": r["value"] | {"x": 50}} for r in studio_regions(COCO)]
    both = [{"id": 1, "was_cancelled": True, "result": other}, {"id": 2, "result": studio_regions(COCO)}]
    return Form(".json", [{"id": 1, "data": {"image": "a.jpg"}, "annotations": both}])


@form
def label_studio_with_a_box_as_parent() -> Form:
    box = {"id": "b1", "type": "rectanglelabels", "value": {"x": 30, "y": 10, "width": 40, "height": 80,
           "rectanglelabels": ["person"]}, "original_width": 640, "original_height": 480}  # fmt: skip
    inside = [r | {"parentID": "b1"} for r in studio_regions(shuffled(COCO))]
    return Form(".json", [{"id": 1, "data": {"img": "s3://x/a.jpg"}, "annotations": [{"result": [box, *inside]}]}])


def labelme_shapes(order: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"label": n, "points": [[*map(float, place(n))]], "shape_type": "point", **more} for n in order]


@form
def labelme_without_groups() -> Form:
    value = {"version": "5.4.1", "flags": {}, "shapes": labelme_shapes(shuffled(COCO), group_id=None, flags={})}
    return Form(
        ".json", value | {"imagePath": "..\\x\\a.jpg", "imageData": None, "imageHeight": 480, "imageWidth": 640}
    )


@form
def x_anylabeling() -> Form:
    box = {"label": "person", "points": [[210, 70], [425, 70], [425, 450], [210, 450]], "group_id": 0,
           "shape_type": "rectangle"}  # fmt: skip
    shapes = [box, *labelme_shapes(COCO, group_id=0, description="", difficult=False, attributes={})]
    return Form(
        ".json", {"version": "2.4.0", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640}
    )


@form
def labelme_one_line_of_joints() -> Form:
    shape = {"label": "person", "points": pairs(COCO), "group_id": None, "shape_type": "linestrip"}
    return Form(".json", {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640}, people=0)


def cvat_points(order: list[str], names: list[str] | None = None) -> str:
    return "".join(
        f'<points label="{label}" outside="0" occluded="0" points="{place(n)[0]:.2f},{place(n)[1]:.2f}"></points>'
        for n, label in zip(order, names or order, strict=True)
    )


def cvat_image(inside: str) -> str:
    image = f'<image id="0" name="set/a.jpg" width="640" height="480" subset="default" task_id="3">{inside}</image>'
    meta = "<meta><task><id>3</id><labels><label><name>person</name></label></labels></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>{meta}{image}</annotations>'


@form
def cvat_numbered_sublabels() -> Form:
    order = shuffled(COCO)
    numbers = [str(COCO.index(n) + 1) for n in order]
    return Form(".xml", cvat_image(f'<skeleton label="person" z_order="0">{cvat_points(order, numbers)}</skeleton>'))


@form
def cvat_skeleton_with_attributes() -> Form:
    inside = f'<skeleton label="person"><attribute name="id">3</attribute>{cvat_points(shuffled(COCO))}</skeleton>'
    box = '<box label="chair" xtl="1" ytl="2" xbr="30" ybr="40" z_order="0"></box>'
    return Form(".xml", cvat_image(box + inside))


@form
def cvat_points_in_one() -> Form:
    spots = ";".join(f"{x:.2f},{y:.2f}" for x, y in map(place, COCO))
    return Form(".xml", cvat_image(f'<points label="person" points="{spots}"></points>'))


@form
def cvat_video_of_skeletons() -> Form:
    def at(frame: int, gone: int) -> str:
        head = f'<skeleton frame="{frame}" outside="{gone}" occluded="0" keyframe="1" z_order="0">'
        return f"{head}{cvat_points(COCO)}</skeleton>"

    track = f'<track id="0" label="person" source="manual">{at(0, 0)}{at(1, 0)}{at(2, 1)}</track>'
    size = "<meta><job><original_size><width>640</width><height>480</height></original_size></job></meta>"
    return Form(".xml", f"<annotations><version>1.1</version>{size}{track}</annotations>")


@form
def cvat_video_of_single_points() -> Form:
    tracks = "".join(
        f'<track id="{i}" label="{n}"><points frame="0" outside="0" points="{place(n)[0]},{place(n)[1]}"/></track>'
        for i, n in enumerate(COCO)
    )
    size = "<meta><task><original_size><width>640</width><height>480</height></original_size></task></meta>"
    return Form(".xml", f"<annotations>{size}{tracks}</annotations>")


def roboflow_person(names: list[str], order: list[str]) -> dict[str, Any]:
    spots = [
        {"x": place(n)[0], "y": place(n)[1], "confidence": 0.9, "class_id": COCO.index(n), "class": label}
        for n, label in zip(order, names, strict=True)
    ]
    return {"x": 317, "y": 260, "width": 210, "height": 380, "class": "person", "confidence": 0.9, "keypoints": spots}


@form
def roboflow_workflow() -> Form:
    inner = {"image": {"width": 640, "height": 480}, "predictions": [roboflow_person(COCO, COCO)]}
    return Form(".json", [{"predictions": inner, "output_image": {"type": "base64", "value": "aGk="}}])


@form
def roboflow_unnamed_points_out_of_order() -> Form:
    order = shuffled(COCO)
    person = roboflow_person([f"new-point-{COCO.index(n)}" for n in order], order)
    return Form(".json", {"image": {"width": 640, "height": 480}, "predictions": [person]})


@form
def roboflow_of_a_batch() -> Form:
    one = {"image": {"width": "640", "height": "480"}, "predictions": [roboflow_person(shuffled(COCO), shuffled(COCO))]}
    return Form(".json", [one, one])


@form
def datumaro_skeleton() -> Form:
    labels = [{"name": "person", "parent": ""}, *({"name": n, "parent": "person"} for n in COCO)]
    parts = [{"type": "points", "label_id": 1 + COCO.index(n), "points": [*place(n)], "visibility": [2]} for n in COCO]
    item = {
        "id": "a",
        "annotations": [{"type": "skeleton", "label_id": 0, "elements": parts}],
        "image": {"size": [480, 640]},
    }
    return Form(".json", {"info": {}, "categories": {"label": {"labels": labels}}, "items": [item]})


def all_forms() -> dict[str, Form]:
    return {name: make() for name, make in FORMS.items()}


assert set(TRUTH) == set(COCO)
