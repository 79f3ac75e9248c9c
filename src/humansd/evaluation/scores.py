"""The eight metrics of a run, for all pictures and for groups of them, beside the estimator's ceiling.

The ceiling is what the same estimator scores on the real pictures: nothing generated can be seen better than that.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from humansd.data.crop import WAYS
from humansd.evaluation.records import Floats, Record, Run
from humansd.metrics.bootstrap import Draws, Statistic, bootstrap_interval, mean_of
from humansd.metrics.counting import count_errors
from humansd.metrics.distances import Features, Moments, frechet_distance, kernel_distance, kernel_distance_of_subsets
from humansd.metrics.errors import MetricWarning
from humansd.metrics.keypoint_ap import KeypointState, keypoint_scores, with_published_area
from humansd.metrics.similarity_ap import SimilarityState, shuffled_pairs, shuffled_scores, similarity_scores
from humansd.pose.people import People

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
PAPER_BATCH = 10  # pictures of a batch of the published evaluation, over which its scores are averaged
WIDEST_DRAWN = 256  # a Frechet distance of wider features takes too long to be drawn a thousand times
DISTANCE_DRAWS = 200

Pairs = list[tuple[People, People]]


@dataclass(frozen=True)
class Side:
    """One side of the comparison, generated or real: what was wanted and found, text scores, by picture."""

    pairs: Pairs
    texts: Floats


def sides(records: Sequence[Record]) -> tuple[Side, Side]:
    """What was found in the generated pictures, and in the real ones."""
    generated = Side([(r.wanted, r.found) for r in records], np.array([r.text_score for r in records], float))
    real = Side([(r.wanted, r.ceiling) for r in records], np.array([r.ceiling_text_score for r in records], float))
    return generated, real


def score_run(run: Run, count_threshold: float | None = None, inception: Sequence[str] = ()) -> dict[str, Any]:
    """All numbers of a run as plain JSON values, null for what has no value.

    Args:
        count_threshold: people found with at least this score are counted; None: what counts those of the real
            pictures best.
        inception: names of the features that are Inception-v3's with the published weights: only their distances are
            FID and KID.

    Returns: settings, `count_threshold`, `cuts` (how many real pictures were brought to the model's shape in which
    way), `groups` (name -> generated and ceiling scores), `intervals` (95 %) of the scores of all pictures, `distances`
    by features, `paper` (published definitions), `notes` (metrics without a value).
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MetricWarning)
        generated, real = sides(run.records)
        threshold = best_threshold(real.pairs) if count_threshold is None else count_threshold
        groups = {
            name: {
                "generated": _scores(_some(generated, rows), threshold),
                "ceiling": _scores(_some(real, rows), threshold),
            }
            for name, rows in group_rows(run.records).items()
        }
        results = {
            "settings": run.settings,
            "count_threshold": threshold,
            "groups": groups,
            "cuts": {way: sum(r.cut == way for r in run.records) for way in WAYS},
            "chance": {"cap": shuffled_scores(generated.pairs).cap},
            "intervals": intervals(run, threshold),
            "distances": {name: _distances(run, name, name in inception) for name in run.features},
            "paper": paper_scores(generated),
        }
    notes = sorted({str(one.message) for one in caught if issubclass(one.category, MetricWarning)})
    return plain({**results, "notes": notes})


def group_rows(records: Sequence[Record]) -> dict[str, list[int]]:
    """Rows of "all", of every number of wanted people ("1 person" ...), and of every scene ("scene NAME")."""
    groups: dict[str, list[int]] = {"all": list(range(len(records)))}
    counts = [int(r.wanted.labelled.any(axis=1).sum()) for r in records]
    for n in sorted(set(counts)):
        groups[f"{n} {'person' if n == 1 else 'people'}"] = [i for i, count in enumerate(counts) if count == n]
    for scene in sorted({r.scene for r in records}):
        groups[f"scene {scene}"] = [i for i, r in enumerate(records) if r.scene == scene]
    return groups


def best_threshold(pairs: Pairs) -> float:
    """The score at and above which found people have to be counted to come nearest to the wanted numbers."""
    errors = {threshold: float(np.abs(count_errors(pairs, threshold)).mean()) for threshold in THRESHOLDS}
    return min(errors, key=lambda threshold: errors[threshold])


@dataclass(frozen=True)
class Drawable:
    """A metric over all pictures as a function of how often each is drawn.

    n_draws: how many it can afford. biased: as of `metrics.bootstrap.bootstrap_interval`.
    """

    statistic: Statistic
    n_draws: int = 1000
    biased: bool = False


def statistics(run: Run, threshold: float) -> dict[str, Drawable]:
    """Each metric of the generated pictures that can be drawn; what has no value of these pictures is left out."""
    generated, _ = sides(run.records)
    state = KeypointState.of(generated.pairs)
    found = {
        "ap": Drawable(state.statistic()),
        "ap_medium": Drawable(state.statistic("medium")),
        "cap": Drawable(SimilarityState.of(generated.pairs).cap),
        "pce": Drawable(mean_of(np.abs(count_errors(generated.pairs, threshold)))),
        "clipsim": Drawable(mean_of(generated.texts)),
    }
    whole = np.ones(len(run.records), np.int64)
    for name in ("ap_medium", "clipsim"):
        if math.isnan(found[name].statistic(whole)):
            del found[name]
    for name, (first, second) in run.features.items():
        if first.shape[1] <= WIDEST_DRAWN:
            found[f"frechet {name}"] = Drawable(_frechet_of(first, second), DISTANCE_DRAWS, biased=True)
    return found


def intervals(run: Run, threshold: float) -> dict[str, list[float]]:
    """The ends of each metric's 95 % interval over pictures drawn with replacement."""
    found = {}
    for name, one in statistics(run, threshold).items():
        interval = bootstrap_interval(one.statistic, len(run.records), n_draws=one.n_draws, biased=one.biased)
        found[name] = [interval.low, interval.high]
    return found


def paper_scores(side: Side) -> dict[str, Any]:
    """The published definitions, defects included, only to compare with old tables (docs/metrics.md).

    All are means over batches of `PAPER_BATCH` pictures; batches without a value are left out. ap: with the published
    areas; cap: the published similarity; cap_shuffled: of poses shuffled within the whole; pce: every detection counts
    as a person, in the first so many pictures of a batch as have people.
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
    """Over the first k pictures, where k have people; so one of nobody takes the place of a later one of somebody."""
    populated = sum(bool(wanted.labelled.any()) for wanted, _ in batch)
    return float(np.abs(count_errors(batch[:populated], 0.0)).mean()) if populated else float("nan")


def _mean(values: Iterable[float]) -> float:
    """Of those that are no NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _scores(side: Side, threshold: float) -> dict[str, Any]:
    ap, cap = keypoint_scores(side.pairs), similarity_scores(side.pairs)
    errors = count_errors(side.pairs, threshold)
    return {
        "pictures": ap.n_pictures,
        "people": ap.n_people,
        "ap": ap.ap,
        "ap50": ap.ap50,
        "ap75": ap.ap75,
        "ap_medium": ap.ap_medium,
        "ap_large": ap.ap_large,
        "cap": cap.cap,
        "pce": float(np.abs(errors).mean()),
        "surplus": float(errors.mean()),
        "clipsim": mean_of(side.texts)(np.ones(len(side.texts), np.int64)),
    }


def _some(side: Side, rows: Sequence[int]) -> Side:
    return Side([side.pairs[row] for row in rows], side.texts[list(rows)])


def _distances(run: Run, name: str, is_fid: bool) -> dict[str, Any]:
    """Over all pictures, of every scene, and the mean over the scenes that have a value (as the paper has it)."""
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


def _distance(generated: Floats, real: Floats) -> dict[str, float]:
    kernel = kernel_distance(Features.of(generated), Features.of(real))
    return {"frechet": frechet_distance(_moments(generated), _moments(real)), "kernel": kernel}


def _moments(features: Floats) -> Moments:
    return Moments.empty(features.shape[1]).update(features)


def _frechet_of(generated: Floats, real: Floats) -> Statistic:
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
