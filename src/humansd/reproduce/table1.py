"""Table 1 of HumanSD at another scale: ways of conditioning side by side, from one base, on the same data.

base -> `training.run` per method and seed -> `evaluate` -> one table, with learning curves, numbers by how many people
are asked for, and what a training sample and an image cost each method. Resumable: the same call goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from humansd.core.files import write_json, write_text
from humansd.core.names import present_name
from humansd.evaluation.tables import markdown_table
from humansd.inference.sampling import SamplingConfig
from humansd.reproduce.rows import (
    CURVE_POSES,
    curve_table,
    curve_validator,
    equal_flops_table,
    learning_curve,
    measure,
    people_table,
    row_differences,
    score_table,
)
from humansd.reproduce.runs import difference_table, find_inputs, plain_settings, side_by_side, standing, trained
from humansd.training.bases import part_config
from humansd.training.checkpoint import settle_config
from humansd.training.costs import method_costs
from humansd.training.loop_settings import LoopSettings
from humansd.training.presets import PRESETS
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
UNTAUGHT = ("ldm", "")  # losses that ask no estimator
PAPER = {  # HumanSD, table 1 and sec. 5.3: what HumanSD gains on the better dual-branch model
    "AP": "+72.6 %",
    "AP(m)": "+109.1 %",
    "CAP": "+3.3 %",
    "PCE": "-34.8 %",
}
PLACES = frozenset({"base_model", "data", "test", "estimator", "held_out"})
SHORT = {"batch_size": "32", "gradient_accumulation_steps": "1", "lr_warmup_steps": "100", "min_snr_gamma": "5.0"}


@dataclass(frozen=True)
class Table1Settings:
    """What is trained and measured.

    base_model: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model without its
        input for a pose.
    data, test: shards to train on and whose poses are drawn; "": `images` and `poses` of Atelier, rendered in the
        table's folder.
    estimator: folder of the HigherHRNet that the heatmap loss asks; "": the preset's.
    held_out: the estimator that measures, NAME or NAME=SOURCE.
    size: the presets METHOD-size: pocket, sd15 or sd21.
    rows: names of `ROWS`, "humansd" among them, which the others are measured against.
    steps: of each training. poses: that are drawn and measured. batch_size: images drawn at once.
    seeds: of the training. curve_steps: a learning curve has a point every so many steps, of `curve_poses` poses; 0:
        none.
    sampling: of all methods. overrides: further settings of every training, as `--set` takes them.
    """

    base_model: str = ""
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
    curve_poses: int = CURVE_POSES
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(15, 4.0, 1.0))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = [row for row in self.rows if row not in ROWS]
        if unknown or REFERENCE not in self.rows:
            raise ValueError(f"rows = {self.rows}: needs {REFERENCE}, which the others are compared with, of {[*ROWS]}")
        for name in ("images", "steps", "poses", "batch_size", "curve_poses"):
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
    settings = replace(settings, base_model=base, data=data, test=test)
    learning = [(row, seed) for row in settings.rows if row != "sd" for seed in settings.seeds]
    with side_by_side(jobs) as each:
        models = dict(zip(learning, each(_train, [(settings, out, *one) for one in learning]), strict=True))
        drawn = [(_name(row, seed), models[row, seed]) for row, seed in learning]
        drawn += [("sd", base)] if "sd" in settings.rows else []
        found = each(measure, [(settings, out, *one) for one in drawn])
        differences = row_differences(_names_of_rows(settings), REFERENCE, out, each)
    results = {
        "settings": plain_settings(settings),
        "scores": {name: score for (name, _), score in zip(drawn, found, strict=True)},
        "differences": differences,
        "curves": {_name(*one): learning_curve(out / "train" / _name(*one)) for one in learning},
        "costs": _costs(base, settings),
    }
    write_json(out / "table1.json", results)
    table = table1_markdown(results, settings)
    write_text(out / "table1.md", table)
    return table


def table1_markdown(results: dict[str, Any], settings: Table1Settings) -> str:
    """The table, its differences, numbers by how many people are asked for, costs and learning curves."""
    how = settings.sampling
    samples = settings.steps * samples_a_step(settings.size, settings.overrides)
    names = _names_of_rows(settings)
    pieces = [
        "# HumanSD, table 1: ways of conditioning side by side",
        f"All from {Path(settings.base_model).name}, {samples:,} samples each, training seeds "
        f"{', '.join(map(str, settings.seeds))}; {settings.poses} poses of {Path(settings.test).name}, found by "
        f"{settings.held_out}; {how.num_inference_steps} denoising steps, guidance {how.guidance_scale}, pose guidance "
        f"{how.pose_guidance_scale}. {standing(settings.seeds)}",
        score_table("method", results["scores"], names),
        f"## Against {REFERENCE}",
        difference_table(results["differences"]),
        "## By how many people are asked for: AP",
        people_table("method", results["scores"], names),
        "## What it costs",
        _cost_table(results["costs"], settings),
    ]
    if any(results["curves"].values()):
        flops = curve_flops(results)
        pieces += ["## Learning curves: AP of the same few poses", curve_table(results["curves"], flops)]
        pieces += ["At equal training FLOPs, on straight lines between those points:"]
        pieces += [equal_flops_table(results["curves"], flops)]
    gains = ", ".join(f"{name} {gain}" for name, gain in PAPER.items())
    pieces.append(f"The paper's HumanSD gains on the better dual-branch model, at full size: {gains}.")
    return "\n\n".join(pieces) + "\n"


def samples_a_step(size: str, overrides: Sequence[tuple[str, str]]) -> int:
    """The batch of every row alike, that of HumanSD's preset unless `overrides` say another."""
    given = {**(SHORT if size == "pocket" else {}), **dict(overrides)}
    preset = PRESETS[f"{REFERENCE}-{size}"]
    assert isinstance(preset, LoopSettings)
    return int(given.get("batch_size", preset.batch_size))


def curve_flops(results: dict[str, Any]) -> dict[str, float]:
    """FLOPs of a training sample of each run with a learning curve, in forward passes of the base's UNet; not of runs
    whose loss asks an estimator, which is not counted."""
    methods = {name: ROWS[name.rpartition("-")[0]] for name in results["curves"]}
    counted = {name: method for name, (method, loss) in methods.items() if loss in UNTAUGHT}
    return {name: results["costs"][method]["training"] for name, method in counted.items()}


def _name(row: str, seed: int) -> str:
    return row if row == "sd" else f"{row}-{seed}"


def _train(settings: Table1Settings, out: Path, row: str, seed: int) -> str:
    """The export of one training."""
    method, loss = ROWS[row]
    overrides = {
        **(SHORT if settings.size == "pocket" else {}),
        **dict(settings.overrides),
        "data": settings.data,
        "components": settings.base_model,
        "base_model": settings.base_model,
        "batch_size": str(samples_a_step(settings.size, settings.overrides)),
        "steps": str(settings.steps),
        "cooldown_steps": str(settings.steps // 4),
        "seed": str(seed),
        "loss": loss,
        **({"estimator": settings.estimator} if settings.estimator and loss == "heatmap" else {}),
        **({"validate_steps": str(settings.curve_steps)} if settings.curve_steps else {}),
    }
    preset = f"{method}-{settings.size}"
    curve = curve_validator(settings, settings.curve_poses) if settings.curve_steps else None
    return trained(preset, overrides, out / "train" / _name(row, seed), settings.steps, curve)


def _names_of_rows(settings: Table1Settings) -> dict[str, list[str]]:
    return {row: _names(row, settings) for row in settings.rows}


def _names(row: str, settings: Table1Settings) -> list[str]:
    return ["sd"] if row == "sd" else [_name(row, seed) for seed in settings.seeds]


def _costs(base: str, settings: Table1Settings) -> dict[str, Any]:
    methods = sorted({ROWS[row][0] for row in settings.rows} | {"sd"})
    return method_costs(part_config(base, "unet"), part_config(base, "vae"), methods)


def _cost_table(costs: dict[str, Any], settings: Table1Settings) -> str:
    rows = []
    samples = settings.steps * samples_a_step(settings.size, settings.overrides)
    for method in dict.fromkeys(ROWS[row][0] for row in settings.rows):
        one = costs[method]
        spent = 0 if method == "sd" else samples * one["training"]
        cells = (f"{one['learns']:,}", f"{one['training']:.2f}", f"{spent:,.0f}")
        rows.append([method, *cells, f"{one['step']:.3f}", f"{one['once']:.3f}"])
    titles = ["method", "parameters that learn", "FLOPs of a training sample", "of all training samples"]
    titles += ["of a sampling step", "once an image"]
    return (
        markdown_table(titles, rows)
        + "\n\nFLOPs in forward passes of the base's UNet for one sample; what a loss asks "
        "an estimator is not counted."
    )


def _lasting(settings: Table1Settings) -> dict[str, Any]:
    """What stays the same when a table goes on, which may be with more rows and seeds."""
    kept = {key: value for key, value in vars(settings).items() if key not in ("rows", "seeds", "batch_size")}
    overrides = {key: value for key, value in settings.overrides if key not in RESUMABLE}
    if settings.curve_poses == CURVE_POSES:
        del kept["curve_poses"]  # tables of before go on
    return {**kept, "sampling": settings.sampling.record(), "overrides": overrides}
