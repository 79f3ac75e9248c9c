"""The metrics of a run, for all images and for groups of them, beside the estimator's ceiling.

The ceiling is what the same estimator scores on the real images: nothing generated can be seen better than that.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.data.crop import MEASURED_WAYS
from humansd.evaluation.colors import TopColor
from humansd.evaluation.records import Record, Run
from humansd.metrics.bootstrap import Draws, Statistic, bootstrap_interval, mean_of
from humansd.metrics.counting import count_errors
from humansd.metrics.distances import Features, Moments, frechet_distance, kernel_distance, kernel_distance_of_subsets
from humansd.metrics.errors import MetricWarning
from humansd.metrics.keypoint_ap import KeypointState, keypoint_scores, with_ignored, with_published_area
from humansd.metrics.similarity_ap import SimilarityState, shuffled_pairs, shuffled_scores, similarity_scores
from humansd.pose.people import People

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
PAPER_BATCH = 10  # images of a batch of the published evaluation, over which its scores are averaged
WIDEST_DRAWN = 256  # a Frechet distance of wider features takes too long to be drawn a thousand times
DISTANCE_DRAWS = 200

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

Pairs = list[tuple[People, People]]


@dataclass(frozen=True)
class Side:
    """One side of the comparison, generated or real: what was wanted and found, text scores, by image."""

    pairs: Pairs
    texts: Float64s


def sides(records: Sequence[Record], min_joints: int = 1) -> tuple[Side, Side | None]:
    """What was found in the generated images, and in the real ones; None where there are none.

    People with fewer labelled joints than `min_joints` are ignored by AP (`keypoint_ap.with_ignored`).
    """
    wanted = [with_ignored(r.wanted, min_joints) for r in records]
    generated = Side([(w, r.found) for w, r in zip(wanted, records)], np.array([r.text_score for r in records], float))
    ceilings = [r.ceiling for r in records if r.ceiling is not None]
    if len(ceilings) < len(records):
        return generated, None
    texts = np.array([r.ceiling_text_score for r in records], float)
    return generated, Side(list(zip(wanted, ceilings, strict=True)), texts)


def sides_of(run: Run) -> tuple[Side, Side | None]:
    """`sides` of a run, people ignored as it was told to."""
    return sides(run.records, run.settings.get("min_joints", 1))


def threshold_of(run: Run) -> float:
    """The score from which people of a run are counted: what counts those of the real images best, or, without
    them, what the run has recorded."""
    real = sides_of(run)[1]
    return float(run.settings.get("count_threshold", 0.5)) if real is None else best_threshold(real.pairs)


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
        groups = {
            name: {
                "generated": _scores(_some(generated, rows), threshold),
                "ceiling": NO_SCORES if real is None else _scores(_some(real, rows), threshold),
            }
            for name, rows in group_rows(run.records).items()
        }
        results = {
            "settings": run.settings,
            "count_threshold": threshold,
            "real_images": real is not None,
            "groups": groups,
            "colors": _colors(run.records),
            "cuts": {way: sum(r.cut == way for r in run.records) for way in MEASURED_WAYS},
            "chance": {"cap": shuffled_scores(generated.pairs).cap},
            "intervals": intervals(run, threshold),
            "distances": {name: _distances(run, name, name in inception) for name in run.features},
            "paper": paper_scores(generated),
        }
    notes = sorted({str(one.message) for one in caught if issubclass(one.category, MetricWarning)})
    if real is None:
        notes.append("there are no real images, so ceilings and distances have no value")
    return dict(plain({**results, "notes": notes}))


def group_rows(records: Sequence[Record]) -> dict[str, list[int]]:
    """Rows of "all", of numbers of wanted people ("1 person" ..., "1 to 3 people", "4 to 8 people"), and of every
    scene ("scene NAME")."""
    groups: dict[str, list[int]] = {"all": list(range(len(records)))}
    counts = [int(r.wanted.labelled.any(axis=1).sum()) for r in records]
    for name, (least, most) in CROWDS.items():
        rows = [i for i, count in enumerate(counts) if least <= count <= most]
        if rows and (name != "1 to 3 people" or len({counts[i] for i in rows}) > 1):
            groups[name] = rows
    for scene in sorted({r.scene for r in records}):
        groups[f"scene {scene}"] = [i for i, r in enumerate(records) if r.scene == scene]
    return groups


def best_threshold(pairs: Pairs) -> float:
    """The score at and above which found people have to be counted to come nearest to the wanted numbers."""
    errors = {threshold: float(np.abs(count_errors(pairs, threshold)).mean()) for threshold in THRESHOLDS}
    return min(errors, key=lambda threshold: errors[threshold])


@dataclass(frozen=True)
class Resampled:
    """A metric over all images as a function of how often each is drawn.

    n_draws: how many it can afford. biased: as of `metrics.bootstrap.bootstrap_interval`.
    """

    statistic: Statistic
    n_draws: int = 1000
    biased: bool = False


def statistics(run: Run, threshold: float) -> dict[str, Resampled]:
    """Each metric of the generated images that can be drawn; what has no value of these images is left out."""
    generated, _ = sides_of(run)
    state = KeypointState.of(generated.pairs)
    found = {
        "ap": Resampled(state.statistic()),
        "ap_medium": Resampled(state.statistic("medium")),
        "cap": Resampled(SimilarityState.of(generated.pairs).cap),
        "pce": Resampled(mean_of(np.abs(count_errors(generated.pairs, threshold)))),
        "clipsim": Resampled(mean_of(generated.texts)),
    }
    for place in (0, 2):
        marks = [_of_place(r.colors, place) for r in run.records]
        right = np.array([sum(c.found == c.named for c in some) for some in marks])
        counts = np.array([len(some) for some in marks])
        found[f"color person {place}" if place else "color"] = Resampled(_share_of(right, counts))
    whole = np.ones(len(run.records), np.int64)
    for name in ("ap_medium", "clipsim", "color", "color person 2"):
        if math.isnan(found[name].statistic(whole)):
            del found[name]
    for name, (first, second) in run.features.items():
        if first.shape[1] <= WIDEST_DRAWN:
            found[f"frechet {name}"] = Resampled(_frechet_of(first, second), DISTANCE_DRAWS, biased=True)
    return found


def intervals(run: Run, threshold: float) -> dict[str, list[float]]:
    """The ends of each metric's 95 % interval over images drawn with replacement."""
    found = {}
    for name, one in statistics(run, threshold).items():
        interval = bootstrap_interval(one.statistic, len(run.records), n_draws=one.n_draws, biased=one.biased)
        found[name] = [interval.low, interval.high]
    return found


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
            "ap": _mean(keypoint_scores([(with_published_area(w), f) for w, f in batch]).ap for batch in batches),
            "cap": _mean(similarity_scores(batch, paper=True).cap for batch in batches),
            "cap_shuffled": _mean(similarity_scores(batch, paper=True).cap for batch in strangers),
            "pce": _mean(map(_published_count_error, batches)),
        }


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


def _share_of(right: NDArray[np.int64], counts: NDArray[np.int64]) -> Statistic:
    """The share of what is right of what there is, both (n_images,)."""

    def share(draws: Draws) -> float:
        total = draws @ counts
        return float(draws @ right / total) if total else float("nan")

    return share


def _of_place(colors: Sequence[TopColor], place: int) -> list[TopColor]:
    """Those of the person at `place`; of everyone for 0."""
    return [one for one in colors if place in (0, one.place)]


def _colors(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Share of tops with the colour that was named, by the person's place; {} where none was named and seen."""
    everyone = [one for record in records for one in record.colors]
    found: dict[str, dict[str, Any]] = {}
    for place in (0, *sorted({one.place for one in everyone})):
        some = _of_place(everyone, place)
        if some:
            real = [one.ceiling == one.named for one in some if one.ceiling is not None]
            found[f"person {place}" if place else "all"] = {
                "people": len(some),
                "generated": float(np.mean([one.found == one.named for one in some])),
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


def _some(side: Side, rows: Sequence[int]) -> Side:
    return Side([side.pairs[row] for row in rows], side.texts[list(rows)])


def _distances(run: Run, name: str, is_fid: bool) -> dict[str, Any]:
    """Over all images, of every scene, and the mean over the scenes that have a value (as the paper has it)."""
    generated, real = run.features[name]
    scenes = {
        group.removeprefix("scene "): _distance(generated[rows], real[rows])
        for group, rows in group_rows(run.records).items()
        if group.startswith("scene ")
    }
    means = {
        key: float(np.mean(values)) if (values := [s[key] for s in scenes.values() if not math.isnan(s[key])]) else None
        for key in ("frechet", "kernel")
    }
    spread = kernel_distance_of_subsets(Features.of(generated), Features.of(real))
    whole = {**_distance(generated, real), "kernel_std": spread.std}
    return {"is_fid": is_fid, **whole, "scene_mean": means, "scenes": scenes}


def _distance(generated: Float64s, real: Float64s) -> dict[str, float]:
    kernel = kernel_distance(Features.of(generated), Features.of(real))
    return {"frechet": frechet_distance(_moments(generated), _moments(real)), "kernel": kernel}


def _moments(features: Float64s) -> Moments:
    return Moments.empty(features.shape[1]).update(features)


def _frechet_of(generated: Float64s, real: Float64s) -> Statistic:
    def statistic(draws: Draws) -> float:
        rows = np.repeat(np.arange(len(draws)), draws)
        return frechet_distance(_moments(generated[rows]), _moments(real[rows]))

    return statistic


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NaN is null, numpy's numbers are Python's."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
