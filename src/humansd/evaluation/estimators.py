"""How well an estimator sees: AP overall, by scene and by number of people, and how well it counts.

shards or COCO files with images -> estimator -> `metrics.keypoint_ap` -> results.json, results.md and a sheet of the
best, middle and worst images.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from humansd.core.arrays import ImageArray
from humansd.core.files import write_json, write_text
from humansd.core.markdown import markdown_table
from humansd.core.plain import plain
from humansd.data.shards import count_samples, read_shards
from humansd.evaluation.coco_images import check_coco_images
from humansd.evaluation.overlay import likeness, overlay
from humansd.inference.detect import read_photo
from humansd.inference.image_info import contact_sheet, write_png
from humansd.metrics.keypoint_ap import keypoint_scores, person_scores
from humansd.models.digests import networks_digest
from humansd.models.estimators import PoseEstimator
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_image_records, read_poses
from humansd.pose.people import People, fit_box

PHOTO_LIKE = ("photo", "vintage_photo")
SILHOUETTES = ("shadow_play",)  # joints inside a black shape cannot be seen; listed, and left out of "overall"
SHEET_ROWS = 6
SHEET_SIDE_PX = 192
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
AP_TITLES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_medium": "AP(m)", "ap_large": "AP(l)"}


@dataclass(frozen=True, eq=False)
class Seen:
    """An image, at most `SHEET_SIDE_PX` a side, with its true people and those found, on the canvas of the whole one.

    image: uint8 RGB. truth: everyone annotated, with people without joints and crowds, which AP ignores. found: whom
    the estimator sees. scene: of the data.
    """

    image: ImageArray
    truth: People
    found: People
    scene: str

    @property
    def n_true(self) -> int:
        """People who can be counted: those with joints."""
        return self.clear_truth.n

    @property
    def clear_truth(self) -> People:
        return self.truth.select([not extra.get("iscrowd") for extra in self.truth.extras]).with_joints()


def score_estimator(
    estimator: PoseEstimator,
    data: Path,
    out: Path,
    *,
    images: Path | None = None,
    limit: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Runs `estimator` over the images of `data` and writes results.json, results.md and sheet.png to `out`.

    Args:
        data: shards (folder, .tar), or a COCO JSON file whose images lie in the folder `images`.
        limit: the first so many images; 0 = all.

    Returns: what results.json holds: a digest of the estimator's weights, AP and its parts in 0..1 for each group of
    images, and for each threshold of the person score the mean absolute error of the number of people.
    """
    if data.suffix == ".json":
        check_coco_images(data, images, limit)
    pairs = _coco_images(data, images) if data.suffix == ".json" else _shard_images(data)
    total = len(read_poses(data)) if data.suffix == ".json" else count_samples(data)
    if limit < 0:
        raise ValueError(f"limit is {limit}; give a number of images, or 0 for all")
    if limit:
        pairs, total = itertools.islice(pairs, limit), min(limit, total)
    seen = list(tqdm(look(estimator, pairs), total=total, unit="image", disable=not progress))
    if not seen:
        raise ValueError(f"{data}: holds no image")
    weights = networks_digest(estimator.networks)
    results = {"estimator": estimator.name, "weights": weights, "data": data.name, **summarise(seen)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results)
    write_text(out / "results.md", as_markdown(results))
    write_png(out / "sheet.png", sheet_of(seen), {"estimator": estimator.name, "data": data.name})
    return results


def look(
    estimator: PoseEstimator, images: Iterable[tuple[ImageArray, People, str]], batch_size: int = 32
) -> Iterator[Seen]:
    """Each (image, true people, scene) with what the estimator finds in it."""
    batch: list[tuple[ImageArray, People, str]] = []

    def flush() -> Iterator[Seen]:
        for (image, truth, scene), found in zip(batch, estimator.detect([p for p, _, _ in batch]), strict=True):
            yield Seen(_small(image), truth, found, scene)
        batch.clear()

    for one in images:
        batch.append(one)
        if len(batch) == batch_size:
            yield from flush()
    yield from flush()


def image_groups(seen: Sequence[Seen]) -> dict[str, list[Seen]]:
    """Everything but silhouettes ("overall"), by the number of people and by scene; a group may be empty."""
    groups: dict[str, list[Seen]] = {"overall": [], "single person, photo-like": [], "silhouettes": []}
    numbers: dict[int, list[Seen]] = {}
    scenes: dict[str, list[Seen]] = {}
    for one in seen:
        scenes.setdefault(one.scene, []).append(one)
        if one.scene in SILHOUETTES:
            groups["silhouettes"].append(one)
            continue
        groups["overall"].append(one)
        numbers.setdefault(one.n_true, []).append(one)
        if one.n_true == 1 and one.scene in PHOTO_LIKE:
            groups["single person, photo-like"].append(one)
    for number in sorted(numbers):
        groups[f"{number} people"] = numbers[number]
    for scene in sorted(scenes):
        groups[f"scene {scene}"] = scenes[scene]
    return groups


def summarise(seen: Sequence[Seen]) -> dict[str, Any]:
    """AP of the groups that issue from the images themselves, and the threshold that counts people best."""
    groups = image_groups(seen)
    clear = groups["overall"]
    scores = {}
    for name, members in groups.items():
        if members:
            found = keypoint_scores([(one.truth, one.found) for one in members])
            scores[name] = plain(dataclasses.asdict(found))
    counting = {str(threshold): count_error(clear, threshold) for threshold in THRESHOLDS}
    return {
        "scores": scores,
        "count_error": count_error(clear, 0.0) if clear else None,
        "count_error_by_threshold": counting,
        "best_count_threshold": float(min(counting, key=lambda key: counting[key])) if clear else None,
    }


def count_error(seen: Sequence[Seen], threshold: float) -> float:
    """Mean absolute difference between the number of people found at or above the score `threshold` and the truth."""
    gaps = [abs(int((person_scores(one.found) >= threshold).sum()) - one.n_true) for one in seen]
    return float(np.mean(gaps)) if gaps else float("nan")


def as_markdown(results: dict[str, Any]) -> str:
    """The table of results.json."""
    rows = []
    for name, one in results["scores"].items():
        scores = ["-" if one[key] is None else f"{100 * one[key]:.1f}" for key in AP_TITLES]
        rows.append([name, str(one["n_images"]), str(one["n_people"]), *scores])
    table = markdown_table(["images", "n", "people", *AP_TITLES.values()], rows)
    best = results["best_count_threshold"]
    text = f"# {results['estimator']} on {results['data']}\n\n{table}\n"
    if best is None:
        return text
    error = results["count_error_by_threshold"][str(best)]
    text += f"\nThe people that it reports are off by {results['count_error']:.3f} an image.\n"
    return text + f"They are counted best at a score of {best}: off by {error:.3f} an image.\n"


def sheet_of(seen: Sequence[Seen]) -> Image.Image:
    """The best, the middle and the worst images: true people | found people, drawn over the image."""
    ranked = sorted((o for o in seen if o.n_true), key=_likeness, reverse=True) or list(seen)
    middle = max(0, len(ranked) // 2 - SHEET_ROWS // 2)
    parts = {"best": ranked[:SHEET_ROWS], "median": ranked[middle : middle + SHEET_ROWS], "worst": ranked[-SHEET_ROWS:]}
    rows = []
    for name, members in parts.items():
        for one in members:
            wanted, found = (overlay(one.image, people, SHEET_SIDE_PX) for people in (one.truth, one.found))
            rows.append((wanted, [found], f"{name}: OKS {_likeness(one):.2f}, {one.scene}"))
    return contact_sheet(rows)


def _likeness(one: Seen) -> float:
    return likeness(one.truth, one.found)


def _shard_images(data: Path) -> Iterator[tuple[ImageArray, People, str]]:
    return ((sample.image, sample.people, sample.scene) for sample in read_shards(data))


def _coco_images(data: Path, images: Path | None) -> Iterator[tuple[ImageArray, People, str]]:
    if images is None:
        raise PoseError("the images of a COCO file are needed too", file=data, remedy="Name their folder: --images.")
    records = read_image_records(data)
    for name, people in read_poses(data).items():
        file = images / str(records[name]["file_name"])
        if not file.resolve().is_relative_to(images.resolve()):
            raise PoseError(
                f"names {file.name!r} outside {images}", file=data, field="file_name", remedy="Keep the images there."
            )
        yield read_photo(file), people, "photo"


def _small(image: ImageArray) -> ImageArray:
    height, width = image.shape[:2]
    if max(height, width) <= SHEET_SIDE_PX:
        return image
    size = fit_box((width, height), (SHEET_SIDE_PX, SHEET_SIDE_PX))[:2]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
