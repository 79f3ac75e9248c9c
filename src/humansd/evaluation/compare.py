"""Runs side by side on the same poses and seeds: `humansd compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.core.files import write_json, write_text
from humansd.core.plain import plain
from humansd.evaluation.doubts import doubts, read_text_check
from humansd.evaluation.records import TOLD, Record, Run, RunError, of_another_version, read_run
from humansd.evaluation.report import SIDE_PX, data_url, examples, html_page, html_table
from humansd.evaluation.resampling import Resampled, statistics
from humansd.evaluation.scores import score_run
from humansd.evaluation.sides import threshold_of
from humansd.evaluation.tables import COLORS, COLUMNS, color_title, distance_titles, markdown_table, shown
from humansd.metrics.bootstrap import Comparison, mean_statistic, paired_comparison
from humansd.pose.render import HUMANSD_STYLE, draw_people

# Settings that runs must share to be compared, but for names.
SAME = ("data", "seed", "estimator", "features", "clip", "min_joints")
BETTER_BELOW = ("pce", "frechet")  # metrics whose smaller values are better


def compare_runs(
    folders: Sequence[Path], out: Path | None = None, count_threshold: float | None = None
) -> dict[str, Any]:
    """Compares finished evaluations; the first is what the others are measured against.

    Every difference is over the same images drawn with replacement for both (`metrics.bootstrap.paired_comparison`).
    Writes compare.json, compare.md and compare.html where `out` names a folder. count_threshold: people found with at
    least this score are counted, 0..1; None: `threshold_of` the first.

    Raises:
        RunError: fewer than two runs, a folder that is none, or runs on other data, seeds or estimators.
        ValueError: a threshold out of range.
    """
    if count_threshold is not None and not 0 <= count_threshold <= 1:
        raise ValueError(f"count_threshold is {count_threshold}; it must be a score from 0 to 1")
    if len(folders) < 2:
        raise RunError("compare needs two runs or more, folders that `humansd evaluate --out` wrote")
    everything = [read_run(folder) for folder in folders]
    found = {record.key for run in everything for record in run.records} | _left_out(everything)
    runs = _of_shared_samples(everything)
    if not runs[0].records:
        raise RunError(f"{folders[0]}: not one of its samples has an image in every run; compare runs that share some")
    for run in runs[1:]:
        _check_same(runs[0], run)
    names = _names(runs)
    threshold = threshold_of(runs[0]) if count_threshold is None else count_threshold
    inception = [name for name in runs[0].features if name.startswith("inception")]
    scores = {name: score_run(run, threshold, inception) for name, run in zip(names, runs, strict=True)}
    differences = {name: _differences(run, runs[0], threshold) for name, run in zip(names[1:], runs[1:], strict=True)}
    results: dict[str, Any] = plain(
        {
            "reference": names[0],
            "count_threshold": threshold,
            "images": len(runs[0].records),
            "doubts": _doubts(runs, list(scores.values())),
            "left_out": len(found) - len(runs[0].records),
            "runs": scores,
            "differences": differences,
        }
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "compare.json", results)
        write_text(out / "compare.md", comparison_markdown(results))
        page = html_page("Runs side by side", _body(results, runs, names))
        write_text(out / "compare.html", page)
    return results


def seed_differences(
    runs: Sequence[Path], references: Sequence[Path], metrics: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The mean over `runs`, one method trained with several seeds, against the mean over `references`, by metric.

    metrics: beginnings of the names wanted ("ap", "cap", "pce", "clipsim", "frechet"). Each value is a Comparison, with
    `seeds`: run by run, against the reference in the same place, or the only one. Its interval is over images, drawn
    with replacement for all runs alike; how seeds differ is in `seeds` alone.

    Raises:
        RunError: no run, other than one reference or one for each run, or runs on other data, seeds or estimators.
    """
    if not runs or len(references) not in (1, len(runs)):
        raise RunError(f"{len(runs)} runs and {len(references)} references: needs one reference, or one for each run")
    everything = _of_shared_samples([read_run(folder) for folder in (*runs, *references)])
    ours, theirs = everything[: len(runs)], everything[len(runs) :]
    for run in (*ours, *theirs[1:]):
        _check_same(theirs[0], run)
    threshold = threshold_of(theirs[0])
    of_ours, of_theirs = ([statistics(run, threshold) for run in group] for group in (ours, theirs))
    n = len(theirs[0].records)
    found = {}
    for name in of_theirs[0]:
        if not name.startswith(tuple(metrics)) or not all(name in one for one in (*of_ours, *of_theirs)):
            continue
        found[name] = _seed_difference([one[name] for one in of_ours], [one[name] for one in of_theirs], n)
    return dict(plain(found))


def _seed_difference(ours: Sequence[Resampled], theirs: Sequence[Resampled], n_images: int) -> dict[str, Any]:
    """A Comparison of one metric, and its differences seed by seed."""
    whole = np.ones(n_images, np.int64)
    values = np.array([one.statistic(whole) for one in ours])
    against = np.array([one.statistic(whole) for one in theirs])  # of the only one, or of each seed's own
    return {**asdict(_compared(ours, theirs, n_images)), "seeds": (values - against).tolist()}


def _compared(ours: Sequence[Resampled], theirs: Sequence[Resampled], n_images: int) -> Comparison:
    """The mean of one metric over `ours` against that over `theirs`."""
    first = mean_statistic([one.statistic for one in ours])
    second = mean_statistic([one.statistic for one in theirs])
    return paired_comparison(first, second, n_images, n_draws=ours[0].n_draws, biased=ours[0].biased)


def comparison_markdown(results: dict[str, Any]) -> str:
    """The table of the scores, and of the differences with their intervals."""
    parts = [
        "# Runs side by side",
        markdown_table(*_score_table(results)),
        f"## Against {results['reference']}",
        markdown_table(*_difference_table(results)),
        "Intervals: 95 %, the same images drawn with replacement for both runs. p: two-sided, no difference.",
    ]
    parts[1:1] = _told(results)
    return "\n\n".join(parts) + "\n"


def _told(results: dict[str, Any]) -> list[str]:
    """What stands above the numbers: why not to believe them, and of how many images they are."""
    told = [f"**{doubt}**" for doubt in results.get("doubts", ())]
    left_out = results.get("left_out")
    without = f"; {left_out} samples have no image in some run and count in none" if left_out else ""
    return [*told, f"{results['images']} images of each{without}."] if "images" in results else told


def _doubts(runs: Sequence[Run], scores: Sequence[dict[str, Any]]) -> list[str]:
    """What the runs say above their own numbers, each sentence once."""
    return list(
        dict.fromkeys(
            doubt
            for run, score in zip(runs, scores, strict=True)
            for doubt in doubts({**score, "text_check": read_text_check(run.folder)})
        )
    )


def _of_shared_samples(runs: Sequence[Run]) -> list[Run]:
    """The runs without the samples that one of them has not: another tool drew no image of it, or it was to be of fewer
    samples of the same data (`--limit`)."""
    left_out = _left_out(runs)
    if len({_data(run, "digest") for run in runs}) == 1 and len({_data(run, "samples") for run in runs}) > 1:
        fewest = min(runs, key=lambda run: _data(run, "samples"))
        shared = {record.key for record in fewest.records}
        left_out |= {record.key for run in runs for record in run.records if record.key not in shared}
    return [run.without(left_out) for run in runs] if left_out else list(runs)


def _data(run: Run, name: str) -> Any:
    """What a run says of its data; of older versions, which named it alone, nothing."""
    data = run.settings.get("data")
    return data.get(name, 0) if isinstance(data, dict) else 0


def _left_out(runs: Sequence[Run]) -> frozenset[str]:
    return frozenset().union(*(run.left_out for run in runs))


def _check_same(first: Run, other: Run) -> None:
    for older, newer in ((first, other), (other, first)):
        if older.settings.get("protocol", 1) < newer.settings.get("protocol", 1):
            raise RunError(f"{of_another_version(older.folder, older.settings)} than {newer.folder}; evaluate it anew")
    for name in SAME:
        if _without_name(first, name) != _without_name(other, name):
            raise RunError(
                f"{other.folder}: {name} is {other.settings.get(name)!r}, in {first.folder} it is "
                f"{first.settings.get(name)!r}; evaluate both with the same {name}"
            )
    width, height = first.records[0].wanted.canvas
    other_width, other_height = other.records[0].wanted.canvas
    if width * other_height != height * other_width:
        raise RunError(
            f"{other.folder}: its images are {other_width} x {other_height} px, those of {first.folder} {width} x "
            f"{height}, so real images were cut otherwise; evaluate both with one --size"
        )
    if _asked(first) != _asked(other):
        raise RunError(
            f"{other.folder}: {len(other.records)} images are done, not those {len(first.records)} of "
            f"{first.folder}; let both evaluations finish"
        )


def _asked(run: Run) -> list[tuple[str, int, str]]:
    """What each image was to be."""
    return [(record.key, record.seed, record.prompt) for record in run.records]


def _without_name(run: Run, setting: str) -> Any:
    """A setting of the run without what is only `TOLD`, and without the number of samples, which are made the same."""
    value = run.settings.get(setting)
    if not isinstance(value, dict):
        return value
    return {key: one for key, one in value.items() if f"{setting}.{key}" not in (*TOLD, "data.samples")}


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _differences(run: Run, reference: Run, threshold: float) -> dict[str, dict[str, float]]:
    theirs = statistics(reference, threshold)
    found = {}
    for name, one in statistics(run, threshold).items():
        if name in theirs:
            found[name] = asdict(_compared([one], [theirs[name]], len(run.records)))
    return found


def _score_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names, runs = list(results["runs"]), list(results["runs"].values())
    rows = []
    for c in COLUMNS:
        values = [run["groups"]["all"]["generated"][c.key] for run in runs]
        rows.append(_score_row(c.title, [*values, runs[0]["groups"]["all"]["ceiling"][c.key]], c.scale, c.digits))
    for key, one in runs[0]["colors"].items():
        values = [run["colors"].get(key, {}).get("generated") for run in runs]
        rows.append(_score_row(color_title(key), [*values, one["ceiling"]], 100, 1))
    for name, one in runs[0]["distances"].items():
        values = [run["distances"][name]["frechet"] for run in runs]
        rows.append([*_score_row(distance_titles(name, one["is_fid"])[0], values), "0"])
    return ["metric", *names, "ceiling"], rows


def _score_row(title: str, values: Sequence[float | None], scale: float = 1, digits: int = 2) -> list[str]:
    return [title, *(shown(value, scale, digits) for value in values)]


def _difference_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for run, metrics in results["differences"].items():
        for name, one in metrics.items():
            column = next((c for c in (*COLUMNS, *COLORS) if c.key == name), None)
            scale, digits = (column.scale, column.digits) if column else (1, 2)
            title = column.title if column else name.replace("frechet", "Frechet distance,")
            interval = f"{shown(one['low'], scale, digits)} to {shown(one['high'], scale, digits)}"
            difference = _signed(one["difference"], scale, digits)
            rows.append([run, title, difference, interval, _p(one["p"]), verdict(name, one)])
    return ["run", "metric", "difference", "95 % interval", "p", "at 5 %"], rows


def verdict(metric: str, difference: dict[str, Any]) -> str:
    """ "better", "worse" or "no difference shown" than the reference, at 5 %; "seeds disagree" where the means over
    several seeds differ, and a seed the other way."""
    if difference["p"] is None or difference["p"] >= 0.05:
        return "no difference shown"
    if any(seed * difference["difference"] < 0 for seed in difference.get("seeds", ())):
        return "seeds disagree"
    below = metric.startswith(BETTER_BELOW)
    return "better" if (difference["difference"] < 0) == below else "worse"


def _signed(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{scale * value:+.{digits}f}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _body(results: dict[str, Any], runs: Sequence[Run], names: Sequence[str]) -> str:
    parts = [
        *(f"<p><strong>{escape(doubt)}</strong></p>" for doubt in results["doubts"]),
        f'<p class="note">{results["images"]} images of each.</p>',
        html_table(*_score_table(results)),
        f"<h2>Against {escape(results['reference'])}</h2>",
        html_table(*_difference_table(results)),
        "<h2>Images</h2>",
        f'<p class="note">Wanted pose, then {escape(", ".join(names))}.</p>',
    ]
    for scene, rows in examples(runs[0].records).items():
        parts.append(f"<h3>{escape(scene)}</h3>")
        parts += [_figure(runs, record) for _, record in rows]
    return "\n".join(parts)


def _figure(runs: Sequence[Run], record: Record) -> str:
    cells = [draw_people(record.wanted.fit(SIDE_PX, SIDE_PX), HUMANSD_STYLE)]
    for run in runs:
        with Image.open(run.image(record.key), formats=("PNG",)) as file:
            cells.append(np.array(file.convert("RGB")))
    images = "".join(f'<img src="{data_url(cell)}" alt="">' for cell in cells)
    return f"<figure>{images}<figcaption>{escape(record.prompt)}</figcaption></figure>"
