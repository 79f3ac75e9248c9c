"""Hundreds of images from a folder of poses and a table of prompts: `humansd generate --poses ... --prompts ...`."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from humansd.core.files import write_text
from humansd.core.lock import locked
from humansd.inference.generate import Generated, Job, Model, draw_images
from humansd.inference.pose_files import NamedPose, read_pose_files
from humansd.inference.prompt_table import PromptRow, read_prompt_table
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.inference.sheets import write_sheets
from humansd.inference.start_image import Beginning, Start, read_start
from humansd.inference.words import prepared_negatives, prepared_prompts
from humansd.models.estimators import PHOTO_ESTIMATOR, load_estimator
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.sizes import check_size

TABLE = "images.csv"
_SHOWN = 5  # pose names in a message


@dataclass(frozen=True)
class Batch:
    """What was drawn. made: images in the order of the table. left_out: line of the table -> what is wrong with it.
    table: CSV that names the image of every row, or what is wrong with it."""

    made: Generated
    left_out: Mapping[int, str]
    table: Path


def generate_batch(
    prompts: Path | str,
    poses: Path | str,
    out: Path | str,
    *,
    model: Model | str = "pocket",
    n: int = 1,
    seed: int = 0,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    begin: Beginning | None = None,
    pose_kind: str = "auto",
    canvas: tuple[int, int] | None = None,
    units: str | None = None,
    joints: str | None = None,
    estimator: str = PHOTO_ESTIMATOR,
    source: str = "",
    batch_size: int = 8,
    progress: bool = True,
) -> Batch:
    """Draws every row of a table (`read_prompt_table`) in its pose, and writes images, sheets and `TABLE` into `out`.

    A row without a pose is drawn in every pose of `poses`, a pose file or a folder of them; `n`, `seed` and `sampling`
    are for rows that do not say. Rows with the same settings are drawn together, whatever stands between them. Other
    arguments as of `generate_images`. The same call goes on after a stop.

    A row that cannot be drawn (a pose that is not there, a number out of its range ...) is left out and counted.

    Raises:
        ValueError, OSError: a table or a pose file that cannot be used at all, as of `read_prompt_table` and
            `generate_images`.
    """
    table = read_prompt_table(Path(prompts), sampling)
    left_out = dict(table.left_out)
    model = Model(model) if isinstance(model, str) else model
    seer = functools.cache(functools.partial(load_estimator, estimator, source, model.device))
    known = read_pose_files(Path(poses), kind=pose_kind, canvas=canvas, units=units, joints=joints, estimator=seer)
    start = None if begin is None else read_start(begin, seer)
    texts = prepared_prompts([row.prompt for row in table.rows], model.name)
    against = prepared_negatives([row.sampling.negative_prompt for row in table.rows], model.name)
    rows = [
        replace(row, sampling=replace(row.sampling, negative_prompt=text))
        for row, text in zip(table.rows, against, strict=True)
    ]
    pipeline = model.load()
    jobs: list[tuple[PromptRow, Job]] = []
    for row, text in zip(rows, texts, strict=True):
        try:
            wanted = _poses_of(row, known)
            _check_size(pipeline, row, start)
        except ValueError as error:
            left_out[row.line] = str(error)
            continue
        first = seed if row.seed is None else row.seed
        for pose in wanted:
            label = f"line {row.line}: {pose.name}: {text}"
            jobs += [(row, Job(pose, text, first + i, label)) for i in range(row.n or n)]
    if not jobs:
        line, problem = next(iter(sorted(left_out.items())))
        raise ValueError(f"{prompts}: no row can be drawn; line {line}: {problem}")
    with locked(Path(out), "images", wait=True):
        made = _draw(pipeline, jobs, Path(out), model, start, batch_size, progress)
        sheets = write_sheets(pipeline, [job for _, job in jobs], made.images, Path(out))
        listed = _write_table(Path(out) / TABLE, jobs, made.images, left_out)
    return Batch(replace(made, sheets=sheets), dict(sorted(left_out.items())), listed)


def _poses_of(row: PromptRow, known: Sequence[NamedPose]) -> list[NamedPose]:
    """Every pose, or the one that the row names: by its name, or that with the ending of a file."""
    if not row.pose:
        return list(known)
    for name in (row.pose, Path(row.pose).stem):
        found = [pose for pose in known if pose.name == name]
        if found:
            return found
    names = ", ".join(pose.name for pose in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    raise ValueError(f"there is no pose {row.pose!r}; there are {names}{more}")


def _check_size(pipeline: HumanSDPipeline, row: PromptRow, start: Start | None) -> None:
    if row.sampling.size is not None and start is None:
        check_size(pipeline, *row.sampling.size)


def _draw(
    pipeline: HumanSDPipeline,
    jobs: Sequence[tuple[PromptRow, Job]],
    out: Path,
    model: Model,
    start: Start | None,
    batch_size: int,
    progress: bool,
) -> Generated:
    """Those with the same settings together; the paths in the order of the jobs."""
    groups: dict[SamplingConfig, list[int]] = {}
    for number, (row, _) in enumerate(jobs):
        groups.setdefault(row.sampling, []).append(number)
    paths: dict[int, Path] = {}
    kept = 0
    for sampling, numbers in groups.items():
        with warnings.catch_warnings():
            # Each group would give the same note of a prompt that is too long.
            warnings.simplefilter("once")
            made = draw_images(
                pipeline, [jobs[number][1] for number in numbers], out, model, sampling, start, batch_size, progress
            )
        paths |= zip(numbers, made.images, strict=True)
        kept += made.kept
    return Generated([paths[number] for number in range(len(jobs))], [], kept)


def _write_table(
    path: Path, jobs: Sequence[tuple[PromptRow, Job]], images: Sequence[Path], left_out: Mapping[int, str]
) -> Path:
    lines: list[tuple[int, list[str]]] = [(line, ["", "", "", "", problem]) for line, problem in left_out.items()]
    for (row, job), image in zip(jobs, images, strict=True):
        lines.append((row.line, [job.pose.name, job.prompt, str(job.seed), image.name, ""]))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["line", "pose", "prompt", "seed", "image", "problem"])
    for line, group in itertools.groupby(sorted(lines, key=lambda one: one[0]), key=lambda one: one[0]):
        writer.writerows([line, *cells] for _, cells in group)
    write_text(path, stream.getvalue())
    return path
