"""What helps a small model to learn: from one start, at equal samples, one change of the training after the other.

base -> `training.run` per row and seed -> `evaluate` -> one table of AP, CLIPSIM and Frechet distance, each against the
plain training over the same images. Resumable: the same call goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from humansd.core.files import write_json, write_text
from humansd.core.names import present_name
from humansd.evaluation.compare import seed_differences
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.evaluation.tables import COLUMNS, interval_text, markdown_table
from humansd.inference.sampling import SamplingConfig
from humansd.reproduce.runs import (
    difference_table,
    find_inputs,
    mean_text,
    plain_settings,
    side_by_side,
    standing,
    trained,
)
from humansd.training.checkpoint import settle_config
from humansd.training.settings import RESUMABLE

# Row -> what differs from "plain".
ROWS: dict[str, dict[str, str]] = {
    "plain": {},
    "nearest-noise": {"noise_candidates": "8"},
    "aligned": {"align_weight": "0.5"},
    "muon": {"optimizer": "muon"},
}
REFERENCE = "plain"
METRICS = ("ap", "clipsim", "frechet")
PLACES = frozenset({"base_model", "data", "test", "held_out"})
SHORT = {"batch_size": "32", "gradient_accumulation_steps": "1", "lr_warmup_steps": "50"}


@dataclass(frozen=True)
class AblationSettings:
    """What is trained and measured.

    base_model: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model's full UNet
        without its input for a pose.
    data, test: shards of Atelier to train on, and whose poses are drawn; "": `images` and `poses` of it, rendered in
        the table's folder.
    held_out: the estimator that measures, NAME or NAME=SOURCE. clip: folder of the CLIP that measures.
    preset: how to train. rows: names of `ROWS`, "plain" among them.
    samples: that each training learns from. poses: that are drawn and measured. batch_size: images drawn at once.
    seeds: of the training. overrides: further settings of every training, as `--set` takes them.
    """

    base_model: str = ""
    data: str = ""
    test: str = ""
    images: int = 6000
    held_out: str = "centernet"
    clip: str = ""
    preset: str = "pocket-humansd"
    rows: tuple[str, ...] = tuple(ROWS)
    samples: int = 30_000
    poses: int = 512
    batch_size: int = 8
    seeds: tuple[int, ...] = (2,)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(15, 4.0, 1.0))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = [row for row in self.rows if row not in ROWS]
        if unknown or REFERENCE not in self.rows:
            raise ValueError(f"rows = {self.rows}: needs {REFERENCE}, which the others are compared with, of {[*ROWS]}")
        for name in ("images", "samples", "poses", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name, values in (("rows", self.rows), ("seeds", self.seeds)):
            if len(set(values)) < len(values) or not values:
                raise ValueError(f"{name} = {values}: name each once, and one or more")


def reproduce_ablation(settings: AblationSettings, out: Path, jobs: int = 1) -> str:
    """Trains and evaluates in `out`; writes ablation.json and ablation.md there and returns the table.

    Raises:
        ValueError, OSError: as training and evaluation do; or `out` holds a table of other settings.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be 1 or more")
    settings = replace(settings, overrides=tuple((present_name(key), value) for key, value in settings.overrides))
    settle_config(out, _lasting(settings), PLACES)
    base, data, test = find_inputs(settings, out)
    settings = replace(settings, base_model=base, data=data, test=test)
    learning = [(row, seed) for row in settings.rows for seed in settings.seeds]
    with side_by_side(jobs) as each:
        models = each(_train, [(settings, out, *one) for one in learning])
        drawn = [(_name(*one), model) for one, model in zip(learning, models, strict=True)]
        found = each(_evaluate, [(settings, out, *one) for one in drawn])
        rows = [row for row in settings.rows if row != REFERENCE]
        pairs = [(_runs(settings, out, row), _runs(settings, out, REFERENCE), METRICS) for row in rows]
        differences = dict(zip(rows, each(seed_differences, pairs), strict=True))
    results = {
        "settings": plain_settings(settings),
        "changes": {row: ROWS[row] for row in settings.rows},
        "scores": {name: score for (name, _), score in zip(drawn, found, strict=True)},
        "differences": differences,
    }
    write_json(out / "ablation.json", results)
    table = ablation_markdown(results, settings)
    write_text(out / "ablation.md", table)
    return table


def ablation_markdown(results: dict[str, Any], settings: AblationSettings) -> str:
    """The table of the rows, and their differences from the plain training."""
    how = settings.sampling
    titles = ["training", "what differs", *(column.title for column in _columns()), "Frechet distance"]
    pieces = [
        "# What helps a small model to learn",
        f"All from {Path(settings.base_model).name} by {settings.preset}, {settings.samples:,} samples each, training "
        f"seeds {', '.join(map(str, settings.seeds))}; {settings.poses} poses of {Path(settings.test).name}, found by "
        f"{settings.held_out.partition('=')[0]}; {how.num_inference_steps} denoising steps, guidance "
        f"{how.guidance_scale}, pose guidance {how.pose_guidance_scale}. {standing(settings.seeds)}",
        markdown_table(titles, [_row(results, settings, row) for row in settings.rows]),
        f"## Against {REFERENCE}",
        difference_table(results["differences"]),
        "Intervals: 95 %, the same images drawn with replacement for both. What ships takes a change only where its "
        "interval does not hold 0.",
    ]
    return "\n\n".join(pieces) + "\n"


def _columns() -> list[Any]:
    return [column for column in COLUMNS if column.key in METRICS]


def _name(row: str, seed: int) -> str:
    return f"{row}-{seed}"


def _runs(settings: AblationSettings, out: Path, row: str) -> list[Path]:
    return [out / "evaluate" / _name(row, seed) for seed in settings.seeds]


def _train(settings: AblationSettings, out: Path, row: str, seed: int) -> str:
    """The export of one training."""
    overrides = {**SHORT, **dict(settings.overrides)}
    steps = max(1, round(settings.samples / int(overrides["batch_size"])))
    own = {
        "data": settings.data,
        "components": settings.base_model,
        "base_model": settings.base_model,
        "steps": str(steps),
        "cooldown_steps": str(steps // 4),
        "seed": str(seed),
    }
    return trained(settings.preset, {**overrides, **own, **ROWS[row]}, out / "train" / _name(row, seed), steps)


def _evaluate(settings: AblationSettings, out: Path, name: str, model: str) -> dict[str, Any]:
    how = EvaluationSettings(
        model=model,
        estimator=settings.held_out,
        clip=settings.clip,
        limit=settings.poses,
        sampling=settings.sampling,
        batch_size=settings.batch_size,
        timing_runs=0,
    )
    return evaluate(how, Path(settings.test), out / "evaluate" / name)


def _row(results: dict[str, Any], settings: AblationSettings, row: str) -> list[str]:
    """Values of the only seed with their intervals, or mean and spread over the seeds."""
    runs = [results["scores"][_name(row, seed)] for seed in settings.seeds]
    cells = [row, ", ".join(f"{key}={value}" for key, value in ROWS[row].items()) or "-"]
    for column in _columns():
        text = mean_text([one["groups"]["all"]["generated"][column.key] for one in runs], column.scale, column.digits)
        ends = interval_text(runs[0]["intervals"].get(column.key), column.scale, column.digits)
        cells.append(text + (f" ({ends})" if len(runs) == 1 and ends != "-" else ""))
    distances = [next((one["frechet"] for one in run["distances"].values()), None) for run in runs]
    return [*cells, mean_text(distances, 1, 2)]


def _lasting(settings: AblationSettings) -> dict[str, Any]:
    """What stays the same when a table goes on, which may be with more rows and seeds."""
    kept = {key: value for key, value in vars(settings).items() if key not in ("rows", "seeds", "batch_size")}
    overrides = {key: value for key, value in settings.overrides if key not in RESUMABLE}
    return {**kept, "sampling": settings.sampling.record(), "overrides": overrides}
