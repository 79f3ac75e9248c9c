"""Trained models as rows of a table: measured on the same poses and seeds, told with intervals and paired differences.

`names` is, throughout, row -> the names of its runs, one for each training seed, or a single one where the row is not
trained.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from humansd.core.markdown import markdown_table
from humansd.evaluation.compare import seed_differences
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.evaluation.tables import COLUMNS, interval_text, shown
from humansd.evaluation.validator import first_samples, make_validator
from humansd.inference.sampling import SamplingConfig
from humansd.models.estimators import usable_device
from humansd.reproduce.runs import Each, mean_text
from humansd.training.devices import run_dtype

METRICS = ("ap", "ap_medium", "cap", "pce", "clipsim", "frechet")
CURVE_POSES = 128
Names = Mapping[str, Sequence[str]]


class Measured(Protocol):
    """How the rows of a table are measured: the estimator, whose poses, how many, how they are drawn."""

    @property
    def held_out(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def poses(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def sampling(self) -> SamplingConfig: ...


def measure(settings: Measured, out: Path, name: str, model: str) -> dict[str, Any]:
    """The evaluation of a model in out/evaluate/NAME; what is done already is kept."""
    how = EvaluationSettings(
        model=model,
        estimator=settings.held_out,
        limit=settings.poses,
        sampling=settings.sampling,
        batch_size=settings.batch_size,
        timing_runs=0,
    )
    return evaluate(how, Path(settings.test), out / "evaluate" / name)


def curve_validator(settings: Measured, poses: int = CURVE_POSES) -> Callable[[Any], Any]:
    """What makes the validator of a training: the first `poses` of the test, sampled as the table's are."""
    samples = first_samples(Path(settings.test), min(poses, settings.poses))

    def make(task: Any) -> Any:
        device = usable_device("auto")
        dtype = run_dtype(task.settings)
        return make_validator(task, samples, settings.held_out, device, dtype, settings.sampling)

    return make


def row_differences(names: Names, reference: str, out: Path, each: Each) -> dict[str, Any]:
    """Every row against `reference`, means over the seeds, by metric."""
    runs = {row: [out / "evaluate" / name for name in some] for row, some in names.items()}
    many = len(runs[reference])
    rows = [row for row in runs if row != reference]
    same = [runs[row] * (many if len(runs[row]) == 1 else 1) for row in rows]
    found = each(seed_differences, [(ours, runs[reference], METRICS) for ours in same])
    return dict(zip(rows, found, strict=True))


def score_table(title: str, scores: Mapping[str, Any], names: Names) -> str:
    """Values of the only run with their intervals, or mean and spread over the runs."""
    columns = [column for column in COLUMNS if column.key in METRICS]
    rows = []
    for row, own in names.items():
        runs = [scores[name] for name in own]
        cells = [row]
        for column in columns:
            values = [run["groups"]["all"]["generated"].get(column.key) for run in runs]
            text = mean_text(values, column.scale, column.digits)
            ends = interval_text(runs[0]["intervals"].get(column.key), column.scale, column.digits)
            cells.append(text + (f" ({ends})" if len(runs) == 1 and ends != "-" else ""))
        distances = [next((one["frechet"] for one in run["distances"].values()), None) for run in runs]
        rows.append([*cells, mean_text(distances, 1, 2)])
    return markdown_table([title, *(one.title for one in columns), "Frechet distance"], rows)


def people_table(title: str, scores: Mapping[str, Any], names: Names) -> str:
    """AP by how many people are asked for, and what the estimator reaches on the true images."""
    first = next(iter(scores.values()))
    groups = [name for name in first["groups"] if name[0].isdigit()]
    rows = []
    for row, own in names.items():
        runs = [scores[name] for name in own]
        cells = [mean_text([run["groups"][name]["generated"]["ap"] for run in runs], 100, 1) for name in groups]
        rows.append([row, *cells])
    ceiling = [shown(first["groups"][name]["ceiling"]["ap"], 100, 1) for name in groups]
    titles = [f"{name} ({first['groups'][name]['generated']['images']} images)" for name in groups]
    return markdown_table([title, *titles], [*rows, ["true images", *ceiling]])


def learning_curve(run: Path) -> list[list[float]]:
    """[[samples, AP], ...] of a training."""
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [[one["samples"], one["validation_ap"]] for one in lines if one.get("validation_ap") is not None]


def curve_table(curves: Mapping[str, Sequence[Sequence[float]]], flops: Mapping[str, float]) -> str:
    """AP after so many samples, and after as many forward passes of the base's UNet as a sample of each run costs.

    flops: of a training sample of each run where they are known, in such passes.
    """
    points = sorted({int(samples) for curve in curves.values() for samples, _ in curve})
    rows = []
    for name, curve in curves.items():
        known = {int(samples): ap for samples, ap in curve}
        rows.append([name, shown(flops.get(name), 1, 2), *(shown(known.get(point), 100, 1) for point in points)])
    return markdown_table(["samples", "FLOPs of one", *(f"{point:,}" for point in points)], rows)


def equal_flops_table(curves: Mapping[str, Sequence[Sequence[float]]], flops: Mapping[str, float]) -> str:
    """AP at equal training FLOPs, read from the curves by straight lines between their points; "" without curves.

    The columns are quarters of what the cheapest run has spent in all. Runs without `flops` are left out.
    """
    known = {name: curve for name, curve in curves.items() if curve and name in flops}
    spent = {name: [(samples * flops[name], ap) for samples, ap in curve] for name, curve in known.items()}
    if not spent:
        return ""
    most = min(curve[-1][0] for curve in spent.values())
    points = [most * share for share in (0.25, 0.5, 0.75, 1.0)]
    rows = [[name, *(shown(_between(curve, point), 100, 1) for point in points)] for name, curve in spent.items()]
    return markdown_table(["forward passes of the base's UNet", *(f"{point:,.0f}" for point in points)], rows)


def _between(curve: Sequence[tuple[float, float]], place: float) -> float | None:
    """The value at `place` on straight lines between points; None before the first."""
    if place < curve[0][0] or place > curve[-1][0] * (1 + 1e-9):
        return None
    for (x, y), (further, value) in itertools.pairwise(curve):
        if place <= further:
            return y + (value - y) * (place - x) / (further - x)
    return curve[-1][1]
