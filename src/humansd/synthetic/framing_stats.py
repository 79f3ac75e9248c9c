"""How people are framed: measured on real poses (the committed table is made here) and on Atelier alike.

    python -m humansd.synthetic.framing_stats --poses FOLDER

writes `assets/framing.json`: counts alone, no pose, from COCO's annotations (CC BY 4.0) without the images that
`data.real_poses.real_pose_ids` keeps for evaluation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.data.real_poses import EVALUATION_COUNT, EVALUATION_SEED, load_real_poses, real_pose_ids
from humansd.pose.people import People
from humansd.synthetic.framing import ASSET, HEIGHTS, MIDDLES, SPOTS, VIEWS, crowd_class, size_class

# The rows of joints from head to foot, in COCO's order.
ROWS = {"head": slice(0, 5), "shoulders": slice(5, 7), "hips": slice(11, 13), "knees": slice(13, 15),
        "ankles": slice(15, 17)}  # fmt: skip
MOST = 8  # people; more count as 8


def view_of(labelled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index into VIEWS (n,) of people with these joints (n, 17): how far down they are seen."""
    seen = [labelled[:, ROWS[row]].any(axis=1) for row in ("ankles", "knees", "hips")]
    return np.asarray(np.select(seen, (0, 1, 2), 3))


def place_of(people: People) -> NDArray[np.float64]:
    """(n, 4): left, top, right, bottom of the labelled joints as shares of the frame."""
    return people.boxes() / np.array([*people.canvas, *people.canvas])


def measure(images: Iterable[People]) -> dict[str, Any]:
    """What the table and the page state: counts over `images`, people without a labelled joint left out.

    people_per_image [9]; joints [18] labelled joints of a person, seen [18] visible ones; view [4]; joint_labelled
    [17]; height, x, y [20] of the box of the labelled joints, in twentieths of the frame.
    """
    shown = [p for p in images if p.n]
    boxes = np.concatenate([place_of(p) for p in shown])
    labelled = np.concatenate([p.labelled for p in shown])
    seen = np.concatenate([p.visibility == 2 for p in shown])
    real = labelled.any(axis=1)
    boxes, labelled, seen = boxes[real], labelled[real], seen[real]
    counts = [min(int(p.labelled.any(axis=1).sum()), MOST) for p in shown]

    def bins(values: NDArray[np.float64]) -> list[int]:
        return np.bincount(np.clip((values * 20).astype(int), 0, 19), minlength=20).tolist()

    return {
        "images": len(shown),
        "people": int(real.sum()),
        "people_per_image": np.bincount(counts, minlength=MOST + 1).tolist(),
        "joints": np.bincount(labelled.sum(axis=1), minlength=18).tolist(),
        "seen": np.bincount(seen.sum(axis=1), minlength=18).tolist(),
        "view": np.bincount(view_of(labelled), minlength=len(VIEWS)).tolist(),
        "joint_labelled": labelled.sum(axis=0).tolist(),
        "joint_hidden": (labelled & ~seen).sum(axis=0).tolist(),
        "height": bins(boxes[:, 3] - boxes[:, 1]),
        "x": bins((boxes[:, 0] + boxes[:, 2]) / 2),
        "y": bins((boxes[:, 1] + boxes[:, 3]) / 2),
    }


def targets(images: Sequence[People]) -> dict[str, Any]:
    """What cameras are drawn from: counts of (view, height, middle) and of places across, by group.

    A group is the class of the number of people and, for all but the largest person of an image, the class of that
    person's height. frames[group] maps "view height middle" (bin numbers) to a count; across[group] [10].
    """
    frames: dict[str, dict[str, int]] = {}
    across: dict[str, list[int]] = {}
    for people in images:
        if not people.n:
            continue
        box, views = place_of(people), view_of(people.labelled)
        tall, middle, x = box[:, 3] - box[:, 1], (box[:, 1] + box[:, 3]) / 2, (box[:, 0] + box[:, 2]) / 2
        largest = int(np.argmax(tall))
        for i in range(people.n):
            group = crowd_class(people.n) + ("" if i == largest else f" {size_class(float(tall[largest]))}")
            key = f"{views[i]} {np.digitize(tall[i], HEIGHTS[1:-1])} {np.digitize(middle[i], MIDDLES[1:-1])}"
            cells = frames.setdefault(group, {})
            cells[key] = cells.get(key, 0) + 1
            across.setdefault(group, [0] * SPOTS)[min(int(x[i] * SPOTS), SPOTS - 1)] += 1
    return {"frames": {g: dict(sorted(c.items())) for g, c in sorted(frames.items())}, "across": across}


def table(folder: Path) -> dict[str, Any]:
    """The committed table, from the archive in `folder`."""
    poses = load_real_poses(folder)
    kept = set(real_pose_ids(poses.coco_id))
    used = [int(i) for i in poses.coco_id if int(i) not in kept]
    images = list(poses.squares(used))
    return {
        "source": "COCO train2017 annotations (T.-Y. Lin et al., ECCV 2014), CC BY 4.0; counts only",
        "left_out": {"seed": EVALUATION_SEED, "count": EVALUATION_COUNT},
        "real": measure(images),
        **targets(images),
    }


def main() -> None:
    """Command line of the table's builder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--poses", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ASSET)
    args = parser.parse_args()
    made = table(args.poses)
    if args.out.exists():  # edition 1 of Atelier, counted by `measure`, cannot be rendered any more
        made["before"] = json.loads(args.out.read_text())["before"]
    dump(made, args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes from {made['real']['people']} people")


def dump(made: dict[str, Any], path: Path) -> None:
    """Write the table with a line for each of its parts."""
    text = json.dumps(made, separators=(",", ":")).replace('},"', '},\n"').replace('],"', '],\n"')
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()
