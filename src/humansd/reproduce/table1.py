"""Table 1 of HumanSD at another scale: ways of conditioning side by side, from one base, on the same data.

base -> `training.run` per method and seed -> `evaluate` -> one table, with learning curves, numbers by how many people
are asked for, and what a training sample and an image cost each method. Resumable: the same call goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from humansd.core.files import write_json, write_text
from humansd.core.names import present_name
from humansd.evaluation.compare import seed_differences
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.evaluation.tables import COLUMNS, interval_text, markdown_table, shown
from humansd.evaluation.validator import first_samples, make_validator
from humansd.inference.sampling import SamplingConfig
from humansd.models.estimators import usable_device
from humansd.reproduce.runs import Each, difference_table, find_inputs, mean_text, side_by_side, standing, trained
from humansd.training.bases import part_config
from humansd.training.checkpoint import settle_config
from humansd.training.costs import method_costs
from humansd.training.devices import run_dtype
from humansd.training.settings import RESUMABLE

# Row -> (method, loss). "sd" is the base itself. HumanSD stands twice, with the plain loss and with the paper's.
ROWS = {
    "sd": ("sd", ""),
    "gligen": ("gligen", "ldm"),
    "t2i-adapter": ("t2i-adapter", "ldm"),
    "controlnet": ("controlnet", "ldm"),
    "humansd": ("humansd", "ldm"),
    "humansd-heatmap": ("humansd", "heatmap"),
    "joint-maps": ("joint-maps", "ldm"),
}
REFERENCE = "humansd"
CURVE_POSES = 128
METRICS = ("ap", "ap_medium", "cap", "pce", "clipsim", "frechet")
PAPER = {  # HumanSD, table 1 and sec. 5.3: what HumanSD gains on the better dual-branch model
    "AP": "+72.6 %",
    "AP(m)": "+109.1 %",
    "CAP": "+3.3 %",
    "PCE": "-34.8 %",
}
PLACES = frozenset({"base", "data", "test", "estimator", "held_out"})
SHORT = {"batch_size": "32", "gradient_accumulation_steps": "1", "lr_warmup_steps": "100", "min_snr_gamma": "5.0"}


@dataclass(frozen=True)
class Table1Settings:
    """What is trained and measured.

    base: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model without its input
        for a pose.
    data, test: shards to train on and whose poses are drawn; "": `images` and `poses` of Atelier, rendered in the
        table's folder.
    estimator: folder of the HigherHRNet that the heatmap loss asks; "": the preset's.
    held_out: the estimator that measures, NAME or NAME=SOURCE.
    size: the presets METHOD-size: pocket, sd15 or sd21.
    rows: names of `ROWS`, "humansd" among them, which the others are measured against.
    steps: of each training. poses: that are drawn and measured. batch_size: images drawn at once.
    seeds: of the training. curve_steps: a learning curve has a point every so many steps; 0: none.
    sampling: of all methods. overrides: further settings of every training, as `--set` takes them.
    """

    base: str = ""
    data: str = ""
    test: str = ""
    images: int = 10_000
    estimator: str = ""
    held_out: str = "centernet"
    size: str = "pocket"
    rows: tuple[str, ...] = tuple(ROWS)
    steps: int = 1875
    poses: int = 512
    batch_size: int = 8
    seeds: tuple[int, ...] = (2,)
    curve_steps: int = 0
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(15, 4.0, 1.0))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = [row for row in self.rows if row not in ROWS]
        if unknown or REFERENCE not in self.rows:
            raise ValueError(f"rows = {self.rows}: needs {REFERENCE}, which the others are compared with, of {[*ROWS]}")
        for name in ("images", "steps", "poses", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name, values in (("rows", self.rows), ("seeds", self.seeds)):
            if len(set(values)) < len(values) or not values:
                raise ValueError(f"{name} = {values}: name each once, and one or more")


def reproduce_table1(settings: Table1Settings, out: Path, jobs: int = 1) -> str:
    """Trains and evaluates in `out`; writes table1.json and table1.md there and returns the table.

    Raises:
        ValueError, OSError: as training and evaluation do; or `out` holds a table of other settings.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be 1 or more")
    settings = replace(settings, overrides=tuple((present_name(key), value) for key, value in settings.overrides))
    settle_config(out, _lasting(settings), PLACES)
    base, data, test = find_inputs(settings, out)
    settings = replace(settings, base=base, data=data, test=test)
    learning = [(row, seed) for row in settings.rows if row != "sd" for seed in settings.seeds]
    _train(settings, out, *learning[0])  # alone: it caches the latents for all
    with side_by_side(jobs) as each:
        models = dict(zip(learning, each(_train, [(settings, out, *one) for one in learning]), strict=True))
        drawn = [(_name(row, seed), models[row, seed]) for row, seed in learning]
        drawn += [("sd", base)] if "sd" in settings.rows else []
        found = each(_evaluate, [(settings, out, *one) for one in drawn])
        differences = _differences(settings, out, each)
    results = {
        "settings": _plain(settings),
        "scores": {name: score for (name, _), score in zip(drawn, found, strict=True)},
        "differences": differences,
        "curves": {_name(*one): _curve(out / "train" / _name(*one)) for one in learning},
        "costs": _costs(base, settings),
    }
    write_json(out / "table1.json", results)
    table = table1_markdown(results, settings)
    write_text(out / "table1.md", table)
    return table


def table1_markdown(results: dict[str, Any], settings: Table1Settings) -> str:
    """The table, its differences, numbers by how many people are asked for, costs and learning curves."""
    how = settings.sampling
    samples = settings.steps * int({**SHORT, **dict(settings.overrides)}["batch_size"])
    columns = [column for column in COLUMNS if column.key in METRICS]
    pieces = [
        "# HumanSD, table 1: ways of conditioning side by side",
        f"All from {Path(settings.base).name}, {samples:,} samples each, training seeds "
        f"{', '.join(map(str, settings.seeds))}; {settings.poses} poses of {Path(settings.test).name}, found by "
        f"{settings.held_out}; {how.num_inference_steps} denoising steps, guidance {how.guidance_scale}, pose guidance "
        f"{how.pose_guidance_scale}. {standing(settings.seeds)}",
        markdown_table(
            ["method", *(one.title for one in columns)], [_row(results, settings, r) for r in settings.rows]
        ),
        f"## Against {REFERENCE}",
        difference_table(results["differences"]),
        "## By how many people are asked for: AP",
        _by_people(results, settings),
        "## What it costs",
        _cost_table(results["costs"], settings),
    ]
    if any(results["curves"].values()):
        pieces += ["## Learning curves: AP of the same few poses", _curve_table(results["curves"])]
    gains = ", ".join(f"{name} {gain}" for name, gain in PAPER.items())
    pieces.append(f"The paper's HumanSD gains on the better dual-branch model, at full size: {gains}.")
    return "\n\n".join(pieces) + "\n"


def _name(row: str, seed: int) -> str:
    return row if row == "sd" else f"{row}-{seed}"


def _train(settings: Table1Settings, out: Path, row: str, seed: int) -> str:
    """The export of one training."""
    method, loss = ROWS[row]
    overrides = {
        **(SHORT if settings.size == "pocket" else {}),
        **dict(settings.overrides),
        "data": settings.data,
        "parts": settings.base,
        "base": settings.base,
        "steps": str(settings.steps),
        "cooldown_steps": str(settings.steps // 4),
        "seed": str(seed),
        "loss": loss,
        **({"estimator": settings.estimator} if settings.estimator and loss == "heatmap" else {}),
        **({"validate_steps": str(settings.curve_steps)} if settings.curve_steps else {}),
    }
    preset = f"{method}-{settings.size}"
    curve = _validated(settings) if settings.curve_steps else None
    return trained(preset, overrides, out / "train" / _name(row, seed), settings.steps, curve)


def _validated(settings: Table1Settings) -> Callable[[Any], Any]:
    """What makes the validator of a training: the first poses of the test, sampled as the table's are."""
    samples = first_samples(Path(settings.test), min(CURVE_POSES, settings.poses))

    def make(task: Any) -> Any:
        return make_validator(task, samples, settings.held_out, usable_device("auto"), run_dtype(task.settings))

    return make


def _evaluate(settings: Table1Settings, out: Path, name: str, model: str) -> dict[str, Any]:
    how = EvaluationSettings(
        model=model,
        estimator=settings.held_out,
        limit=settings.poses,
        sampling=settings.sampling,
        batch_size=settings.batch_size,
        timing_runs=0,
    )
    return evaluate(how, Path(settings.test), out / "evaluate" / name)


def _differences(settings: Table1Settings, out: Path, each: Each) -> dict[str, Any]:
    """Every row against `REFERENCE`, means over the seeds, by metric."""

    def runs(row: str) -> list[Path]:
        return [out / "evaluate" / name for name in _names(row, settings)]

    rows = [row for row in settings.rows if row != REFERENCE]
    same = [[*runs(row)] * (len(settings.seeds) if row == "sd" else 1) for row in rows]
    found = each(seed_differences, [(ours, runs(REFERENCE), METRICS) for ours in same])
    return dict(zip(rows, found, strict=True))


def _names(row: str, settings: Table1Settings) -> list[str]:
    return ["sd"] if row == "sd" else [_name(row, seed) for seed in settings.seeds]


def _row(results: dict[str, Any], settings: Table1Settings, row: str) -> list[str]:
    """Values of the only seed with their intervals, or mean and spread over the seeds."""
    runs = [results["scores"][name] for name in _names(row, settings)]
    cells = [row]
    for column in COLUMNS:
        if column.key not in METRICS:
            continue
        text = mean_text([_value(run, column.key) for run in runs], column.scale, column.digits)
        ends = interval_text(runs[0]["intervals"].get(column.key), column.scale, column.digits)
        cells.append(text + (f" ({ends})" if len(runs) == 1 and ends != "-" else ""))
    return cells


def _value(run: dict[str, Any], key: str) -> float | None:
    if key == "frechet":
        return next((one["frechet"] for one in run["distances"].values()), None)
    return run["groups"]["all"]["generated"].get(key)


def _by_people(results: dict[str, Any], settings: Table1Settings) -> str:
    first = next(iter(results["scores"].values()))
    groups = [name for name in first["groups"] if name[0].isdigit()]
    rows = []
    for row in settings.rows:
        runs = [results["scores"][name] for name in _names(row, settings)]
        cells = [mean_text([run["groups"][name]["generated"]["ap"] for run in runs], 100, 1) for name in groups]
        rows.append([row, *cells])
    ceiling = [shown(first["groups"][name]["ceiling"]["ap"], 100, 1) for name in groups]
    titles = [f"{name} ({first['groups'][name]['generated']['images']} images)" for name in groups]
    return markdown_table(["method", *titles], [*rows, ["true images", *ceiling]])


def _costs(base: str, settings: Table1Settings) -> dict[str, Any]:
    methods = sorted({ROWS[row][0] for row in settings.rows} | {"sd"})
    return method_costs(part_config(base, "unet"), part_config(base, "vae"), methods)


def _cost_table(costs: dict[str, Any], settings: Table1Settings) -> str:
    rows = []
    for method in dict.fromkeys(ROWS[row][0] for row in settings.rows):
        one = costs[method]
        rows.append(
            [method, f"{one['learns']:,}", f"{one['training']:.2f}", f"{one['step']:.3f}", f"{one['once']:.3f}"]
        )
    titles = ["method", "parameters that learn", "FLOPs of a training sample", "of a sampling step", "once an image"]
    return markdown_table(titles, rows) + "\n\nFLOPs in shares of a forward pass of the base's UNet."


def _curve(run: Path) -> list[list[float]]:
    """[[samples, AP], ...] of a training."""
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [[one["samples"], one["validation_ap"]] for one in lines if one.get("validation_ap") is not None]


def _curve_table(curves: dict[str, list[list[float]]]) -> str:
    points = sorted({int(samples) for curve in curves.values() for samples, _ in curve})
    rows = []
    for name, curve in curves.items():
        known = {int(samples): ap for samples, ap in curve}
        rows.append([name, *(shown(known.get(point), 100, 1) for point in points)])
    return markdown_table(["samples", *(f"{point:,}" for point in points)], rows)


def _lasting(settings: Table1Settings) -> dict[str, Any]:
    """What stays the same when a table goes on, which may be with more rows and seeds."""
    kept = {key: value for key, value in vars(settings).items() if key not in ("rows", "seeds", "batch_size")}
    overrides = {key: value for key, value in settings.overrides if key not in RESUMABLE}
    return {**kept, "sampling": vars(settings.sampling), "overrides": overrides}


def _plain(settings: Table1Settings) -> dict[str, Any]:
    known = {**vars(settings), "test": Path(settings.test).name, "base": Path(settings.base).name}
    return {key: vars(value) if isinstance(value, SamplingConfig) else value for key, value in known.items()}
