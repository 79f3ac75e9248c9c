"""The metrics of a run, for all images and for groups of them, beside the estimator's ceiling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from humansd.core.arrays import Float64s
from humansd.core.plain import plain
from humansd.data.crop import MEASURED_WAYS
from humansd.evaluation.records import Record, Run
from humansd.evaluation.resampling import intervals, moments_of
from humansd.evaluation.sides import Pairs, Side, of_place, sides_of, threshold_of
from humansd.metrics.bootstrap import mean_of
from humansd.metrics.counting import count_errors
from humansd.metrics.distances import Features, frechet_distance, kernel_distance, kernel_distance_of_subsets
from humansd.metrics.errors import MetricWarning
from humansd.metrics.keypoint_ap import keypoint_scores, with_published_area
from humansd.metrics.similarity_ap import shuffled_pairs, shuffled_scores, similarity_scores

PAPER_BATCH = 10  # images of a batch of the published evaluation, over which its scores are averaged
# Groups of images by the number of wanted people: name -> fewest and most.
CROWDS = {
    "0 people": (0, 0),
    "1 person": (1, 1),
    "2 people": (2, 2),
    "3 people": (3, 3),
    "1 to 3 people": (1, 3),
    "4 to 8 people": (4, 8),
    "9 people or more": (9, 10**9),
}


def score_run(run: Run, count_threshold: float | None = None, inception: Sequence[str] = ()) -> dict[str, Any]:
    """All numbers of a run as plain JSON values, null for what has no value.

    Args:
        count_threshold: people found with at least this score are counted; None: see `threshold_of`.
        inception: names of the features that are Inception-v3's with the published weights: only their distances are
            FID and KID.

    Returns: settings, `count_threshold`, `real_images` (whether there are any), `cuts` (how many images were
    brought to the model's shape in which way), `groups` (name -> generated and ceiling scores), `colours` (of tops: of
    all, and by the person's place), `intervals` (95 %) of the scores of all images, `distances` by features, `paper`
    (published definitions), `notes` (metrics without a value).
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MetricWarning)
        generated, real = sides_of(run)
        threshold = threshold_of(run) if count_threshold is None else count_threshold
        groups = {}
        for name, rows in group_rows(run.records).items():
            ceiling = NO_SCORES if real is None else _scores(real.of(rows), threshold)
            groups[name] = {"generated": _scores(generated.of(rows), threshold), "ceiling": ceiling}
        results = {
            "settings": run.settings,
            "count_threshold": threshold,
            "real_images": real is not None,
            "groups": groups,
            "colors": _colors(run.records),
            "cuts": _cuts(run.records),
            "chance": {"cap": shuffled_scores(generated.pairs).cap},
            "intervals": intervals(run, threshold),
            "distances": {name: _distances(run, name, name in inception) for name in run.features},
            "paper": paper_scores(generated),
        }
    notes = sorted({str(one.message) for one in caught if issubclass(one.category, MetricWarning)})
    if real is None:
        notes.append("there are no real images, so ceilings and distances have no value")
    return dict(plain({**results, "notes": notes}))


def _cuts(records: Sequence[Record]) -> dict[str, int]:
    """How many images were brought to the model's shape in which way."""
    counts = dict.fromkeys(MEASURED_WAYS, 0)
    for record in records:
        if record.cut in counts:
            counts[record.cut] += 1
    return counts


def group_rows(records: Sequence[Record]) -> dict[str, list[int]]:
    """Rows of "all", of numbers of wanted people ("1 person" ..., "1 to 3 people", "4 to 8 people"), and of every
    scene ("scene NAME")."""
    groups: dict[str, list[int]] = {"all": list(range(len(records)))}
    counts = np.array([record.wanted.labelled.any(axis=1).sum() for record in records], int)
    for name, (least, most) in CROWDS.items():
        rows = np.flatnonzero((counts >= least) & (counts <= most))
        several = len(np.unique(counts[rows])) > 1
        if len(rows) and (several or name != "1 to 3 people"):  # of one number alone it would be that group again
            groups[name] = rows.tolist()
    scenes: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        scenes.setdefault(record.scene, []).append(row)
    for scene in sorted(scenes):
        groups[f"scene {scene}"] = scenes[scene]
    return groups


def paper_scores(side: Side) -> dict[str, Any]:
    """The published definitions, defects included, only to compare with old tables (docs/metrics.md).

    All are means over batches of `PAPER_BATCH` images; batches without a value are left out. ap: with the published
    areas; cap: the published similarity; cap_shuffled: of poses shuffled within the whole; pce: every detection counts
    as a person, in the first so many images of a batch as have people.
    """
    batches = _batches(side.pairs)
    strangers = _batches(shuffled_pairs(side.pairs)) if len(side.pairs) > 1 else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetricWarning)  # of a batch where nobody was wanted or found
        return {
            "ap": _mean(map(_published_ap, batches)),
            "cap": _mean(map(_published_cap, batches)),
            "cap_shuffled": _mean(map(_published_cap, strangers)),
            "pce": _mean(map(_published_count_error, batches)),
        }


def _published_ap(batch: Pairs) -> float:
    return keypoint_scores([(with_published_area(wanted), found) for wanted, found in batch]).ap


def _published_cap(batch: Pairs) -> float:
    return similarity_scores(batch, paper=True).cap


def _batches(pairs: Pairs) -> list[Pairs]:
    return [pairs[start : start + PAPER_BATCH] for start in range(0, len(pairs), PAPER_BATCH)]


def _published_count_error(batch: Pairs) -> float:
    """Over the first k images, where k have people; so one of nobody takes the place of a later one of somebody."""
    populated = sum(bool(wanted.labelled.any()) for wanted, _ in batch)
    return float(np.abs(count_errors(batch[:populated], 0.0)).mean()) if populated else float("nan")


def _mean(values: Iterable[float]) -> float:
    """Of those that are no NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _colors(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Share of tops with the color that was named, by the person's place; {} where none was named and seen."""
    everyone = [one for record in records for one in record.colors]
    found: dict[str, dict[str, Any]] = {}
    for place in (0, *sorted({one.place for one in everyone})):
        tops = of_place(everyone, place)
        if tops:
            real = [one.ceiling == one.named for one in tops if one.ceiling is not None]
            found[f"person {place}" if place else "all"] = {
                "people": len(tops),
                "generated": float(np.mean([one.found == one.named for one in tops])),
                "ceiling": float(np.mean(real)) if real else float("nan"),
            }
    return found


def _scores(side: Side, threshold: float) -> dict[str, Any]:
    ap, cap = keypoint_scores(side.pairs), similarity_scores(side.pairs)
    errors = count_errors(side.pairs, threshold)
    return {
        "images": ap.n_images,
        "people": ap.n_people,
        "ap": ap.ap,
        "ap50": ap.ap50,
        "ap75": ap.ap75,
        "ap_small": ap.ap_small,
        "ap_medium": ap.ap_medium,
        "ap_large": ap.ap_large,
        "cap": cap.cap,
        "pce": float(np.abs(errors).mean()),
        "surplus": float(errors.mean()),
        "clipsim": mean_of(side.texts)(np.ones(len(side.texts), np.int64)),
    }


_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "cap", "pce", "surplus", "clipsim")
NO_SCORES: dict[str, Any] = {"images": 0, "people": 0, **dict.fromkeys(_NAMES, float("nan"))}


def _distances(run: Run, name: str, is_fid: bool) -> dict[str, Any]:
    """Over all images, of every scene, and the mean over the scenes that have a value (as the paper has it)."""
    generated, real = run.features[name]
    scenes = {}
    for group, rows in group_rows(run.records).items():
        if group.startswith("scene "):
            scenes[group.removeprefix("scene ")] = _distance(generated[rows], real[rows])
    means: dict[str, float | None] = {}
    for key in ("frechet", "kernel"):
        mean = _mean(scene[key] for scene in scenes.values())
        means[key] = None if math.isnan(mean) else mean
    spread = kernel_distance_of_subsets(Features.of(generated), Features.of(real))
    whole = {**_distance(generated, real), "kernel_std": spread.std}
    return {"is_fid": is_fid, **whole, "scene_mean": means, "scenes": scenes}


def _distance(generated: Float64s, real: Float64s) -> dict[str, float]:
    kernel = kernel_distance(Features.of(generated), Features.of(real))
    return {"frechet": frechet_distance(moments_of(generated), moments_of(real)), "kernel": kernel}
