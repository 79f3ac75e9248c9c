"""Table 2 of HumanSD at another scale: the same start, data, steps and seeds, one loss after the other.

base -> `training.run` per loss and seed -> `evaluate` with poses and from the text alone -> one table. Every part is
resumable, so the same call after a kill goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    Each,
    difference_table,
    find_inputs,
    mean_text,
    plain_settings,
    side_by_side,
    standing,
    trained,
)
from humansd.training.checkpoint import settle_config
from humansd.training.run import preset_settings
from humansd.training.settings import RESUMABLE, DiffusionSettings, with_overrides
from humansd.training.tasks.diffusion_settings import TAUGHT

LOSSES = ("ldm", "heatmap", "reference", "skeleton-mask", "latent-heatmap")
OPTIONS = {  # settings of a training that are the table's, and the option that changes them
    "data": "--data",
    "components": "--base-model",
    "base_model": "--base-model",
    "loss": "--loss",
    "steps": "--steps",
    "cooldown_steps": "--steps, of which it is a fourth",
    "seed": "--seed",
    "estimator": "--estimator",
    "head": "--head-steps; the table trains its own",
}
# Settings of a training that its head shares: what it sees of the data, and how it is computed.
HEADS_TOO = (
    "batch_size",
    "gradient_accumulation_steps",
    "device",
    "mixed_precision",
    "compile",
    "cache_text",
    "cached_augmentations",
)
# A training of the table is short; with these of the pocket preset its numbers were made.
SHORT = {
    "pocket-humansd": {
        "batch_size": "32",
        "gradient_accumulation_steps": "1",
        "lr_warmup_steps": "100",
        "min_snr_gamma": "5.0",
    }
}
# What lies there is on record in every training and evaluation of the table, by digest.
PLACES = frozenset({"base_model", "data", "test", "estimator", "held_out"})
TEXT = "-text"  # ends the name of what is drawn from the text alone
METRICS = ("ap", "ap_medium", "cap", "pce", "clipsim")


@dataclass(frozen=True)
class Table2Settings:
    """What is trained and measured.

    base_model: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model without its
    input for a pose, which is what it draws from the text alone. data: shards or pack to train on; "": `images` of
    Atelier, rendered in the table's folder. test: shards whose poses are drawn; "": rendered there too, with another
    seed. estimator: folder of the HigherHRNet that the losses ask; "": the preset's. held_out: the estimator that
    measures, NAME or NAME=SOURCE. steps, head_steps: of each HumanSD, and of the latent heatmap head, which learns
    from the plain-loss HumanSD of the first seed. poses: how many of `test`. batch_size: images drawn at once.
    seeds: of the training. overrides: further settings of every training, as `--set` takes them. sampling: of all
    models, the base too; a guidance of None is the preset's.
    """

    base_model: str = ""
    data: str = ""
    test: str = ""
    images: int = 10_000
    estimator: str = ""
    held_out: str = "centernet"
    preset: str = "pocket-humansd"
    losses: tuple[str, ...] = LOSSES
    steps: int = 500
    head_steps: int = 300
    poses: int = 256
    batch_size: int = 8
    seeds: tuple[int, ...] = (2,)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(15))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = [loss for loss in self.losses if loss not in LOSSES]
        if unknown or "ldm" not in self.losses:
            raise ValueError(f"losses = {self.losses}: needs ldm, which the others are measured against, of {LOSSES}")
        for name in ("images", "steps", "head_steps", "poses", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.seeds:
            raise ValueError("seeds is empty; name one training seed or more")
        for name, values in (("losses", self.losses), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} = {values}: name each once")
        for key, _ in self.overrides:
            if key in OPTIONS:
                raise ValueError(f"--set {key}: is the table's own; use {OPTIONS[key]}")


def reproduce_table2(settings: Table2Settings, out: Path, jobs: int = 1) -> str:
    """Trains and evaluates in `out`; writes table2.json and table2.md there and returns the table.

    jobs: so many models are trained, drawn and measured side by side, each in a process of its own; what comes out is
    the same. More than one is for a GPU, which a small model leaves idle half of the time.

    Raises:
        ValueError, OSError: as training and evaluation do; jobs below 1; `out` holds a table of other settings; or a
            training stopped at its time limit.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be 1 or more")
    overrides = tuple((present_name(key), value) for key, value in settings.overrides)
    settings = replace(settings, overrides=overrides, sampling=_sampling(settings))
    settle_config(out, _lasting(settings), PLACES)
    settings = _with_inputs(settings, out)
    losses = ("ldm", *(loss for loss in settings.losses if loss != "ldm"))
    if "latent-heatmap" in losses:
        _train(settings, out, "ldm", settings.seeds[0])  # alone: the head learns from it
        _train_head(settings, out)
    keys = [(loss, seed) for loss in reversed(losses) for seed in settings.seeds]
    with side_by_side(jobs) as each:
        models = each(_train, [(settings, out, *key) for key in keys])
        drawings = [("base", settings.base_model, True)]
        for (loss, seed), model in zip(keys, models, strict=True):
            drawings += [(f"{loss}-{seed}", model, False), (f"{loss}-{seed}", model, True)]
        scores = each(_evaluate, [(settings, out, *drawing) for drawing in drawings])
        differences = _differences(settings, out, losses, each)
    by_drawing = {(name, blind): score for (name, _, blind), score in zip(drawings, scores, strict=True)}
    results = {
        "settings": plain_settings(settings),
        "posed": {name: score for (name, blind), score in by_drawing.items() if not blind},
        "text_only": {name: score for (name, blind), score in by_drawing.items() if blind},
        **differences,
    }
    write_json(out / "table2.json", results)
    table = table2_markdown(results, losses, settings)
    write_text(out / "table2.md", table)
    return table


def table2_markdown(results: dict[str, Any], losses: Sequence[str], settings: Table2Settings) -> str:
    """The table of the losses, its differences from the plain loss, and what the models still know without a pose."""
    drawn = settings.sampling
    parts = [
        "# HumanSD, table 2: losses side by side",
        f"All from {Path(settings.base_model).name}, {settings.steps} steps, training seeds "
        f"{', '.join(map(str, settings.seeds))}; {settings.poses} poses of {Path(settings.test).name}, found by "
        f"{settings.held_out}; {drawn.num_inference_steps} denoising steps, guidance {drawn.guidance_scale}, "
        f"pose guidance {drawn.pose_guidance_scale}. "
        f"{standing(settings.seeds)}",
        markdown_table(["loss", *(c.title for c in _columns())], [_scores(results, loss, settings) for loss in losses]),
    ]
    if all(one["groups"]["all"]["generated"]["ap_medium"] is None for one in results["posed"].values()):
        parts.append("AP(m) is of people of 32^2 to 96^2 px in an image of 512; here nobody is that small.")
    if results["differences"]:
        parts += ["## Against ldm", difference_table(results["differences"])]
    parts += [
        "## Forgetting: drawn from the text alone, the pose dropped",
        markdown_table(
            ["model", "CLIPSIM", "Frechet distance"],
            [["base", *_forgotten([results["text_only"]["base"]])]]
            + [[loss, *_forgotten(_of_seeds(results["text_only"], loss, settings))] for loss in losses],
        ),
        "Against base:",
        difference_table(results["text_only_differences"]),
        "Intervals: 95 %, the same images drawn with replacement"
        + (", for the mean over the seeds." if len(settings.seeds) > 1 else "."),
    ]
    return "\n\n".join(parts) + "\n"


def _differences(settings: Table2Settings, out: Path, losses: Sequence[str], each: Each) -> dict[str, Any]:
    """Every loss against "ldm", and every loss from the text alone against the base: means over the seeds."""

    def runs(loss: str, end: str = "") -> list[Path]:
        return [out / "evaluate" / f"{loss}-{seed}{end}" for seed in settings.seeds]

    others = [loss for loss in losses if loss != "ldm"]
    posed = [(runs(loss), runs("ldm"), METRICS) for loss in others]
    blind = [(runs(loss, TEXT), [out / "evaluate" / f"base{TEXT}"], ("clipsim", "frechet")) for loss in losses]
    found = each(seed_differences, [*posed, *blind])
    return {
        "differences": dict(zip(others, found[: len(others)], strict=True)),
        "text_only_differences": dict(zip(losses, found[len(others) :], strict=True)),
    }


def _with_inputs(settings: Table2Settings, out: Path) -> Table2Settings:
    base, data, test = find_inputs(settings, out)
    return replace(settings, base_model=base, data=data, test=test)


def _train(settings: Table2Settings, out: Path, loss: str, seed: int) -> str:
    """The export of one training."""
    overrides = (
        SHORT.get(settings.preset, {})
        | dict(settings.overrides)
        | {
            "data": settings.data,
            "components": settings.base_model,
            "base_model": settings.base_model,
            "loss": loss,
            "steps": str(settings.steps),
            "cooldown_steps": str(settings.steps // 4),
            "seed": str(seed),
        }
    )
    if loss in TAUGHT and settings.estimator:
        overrides["estimator"] = settings.estimator
    if loss == "latent-heatmap":
        overrides["head"] = _train_head(settings, out)
    without = DiffusionSettings(loss=loss).unread(overrides)
    read = {key: value for key, value in overrides.items() if key not in without}
    return trained(settings.preset, read, out / "train" / f"{loss}-{seed}", settings.steps)


def _train_head(settings: Table2Settings, out: Path) -> str:
    model = str(out / "train" / f"ldm-{settings.seeds[0]}" / "export")
    overrides = {
        "data": settings.data,
        "components": model,  # with its noise schedule, and its text encoder where that learnt too
        "base_model": model,
        "estimator": settings.estimator or _preset(settings).estimator,
        "steps": str(settings.head_steps),
        "cooldown_steps": str(settings.head_steps // 3),
    }
    kept = {key: value for key, value in settings.overrides if key in HEADS_TOO}
    folder = out / "train" / "head"
    return trained("pocket-latent-heatmap", {"batch_size": "32"} | kept | overrides, folder, settings.head_steps)


def _lasting(settings: Table2Settings) -> dict[str, Any]:
    """What stays the same when a table goes on, which may be with more losses and seeds."""
    kept = {key: value for key, value in vars(settings).items() if key not in ("losses", "seeds", "batch_size")}
    overrides = {key: value for key, value in settings.overrides if key not in RESUMABLE}
    usual = vars(SamplingConfig())
    asked = ("num_inference_steps", "guidance_scale", "pose_guidance_scale", "negative_prompt")
    sampling = {key: value for key, value in vars(settings.sampling).items() if key in asked or value != usual[key]}
    return {**kept, "sampling": sampling, "overrides": overrides, "head_seed": settings.seeds[0]}


def _sampling(settings: Table2Settings) -> SamplingConfig:
    own = _preset(settings)
    return settings.sampling.with_guidance(own.guidance_scale, own.pose_guidance_scale)


def _preset(settings: Table2Settings) -> DiffusionSettings:
    preset = preset_settings(settings.preset)
    if not isinstance(preset, DiffusionSettings):
        raise ValueError(f"preset = {settings.preset!r}: is not one of a UNet; use pocket-humansd or humansd-sd15")
    return with_overrides(preset, dict(settings.overrides))


def _evaluate(settings: Table2Settings, out: Path, name: str, model: str, text_only: bool) -> dict[str, Any]:
    how = EvaluationSettings(
        model=model,
        estimator=settings.held_out,
        limit=settings.poses,
        sampling=settings.sampling,
        batch_size=settings.batch_size,
        timing_runs=0,
        text_only=text_only,
    )
    return evaluate(how, Path(settings.test), out / "evaluate" / (name + TEXT * text_only))


def _columns() -> list[Any]:
    return [column for column in COLUMNS if column.key in METRICS]


def _of_seeds(by_name: dict[str, Any], loss: str, settings: Table2Settings) -> list[dict[str, Any]]:
    return [by_name[f"{loss}-{seed}"] for seed in settings.seeds]


def _scores(results: dict[str, Any], loss: str, settings: Table2Settings) -> list[str]:
    """Values of the only seed with their intervals, or mean and spread over the seeds."""
    runs = _of_seeds(results["posed"], loss, settings)
    row = [loss]
    for c in _columns():
        interval = interval_text(runs[0]["intervals"].get(c.key), c.scale, c.digits) if len(runs) == 1 else "-"
        text = mean_text([run["groups"]["all"]["generated"][c.key] for run in runs], c.scale, c.digits)
        row.append(text + ("" if interval == "-" else f" ({interval})"))
    return row


def _forgotten(runs: Sequence[dict[str, Any]]) -> list[str]:
    """CLIPSIM and the first Frechet distance, means over the runs."""
    texts = [run["groups"]["all"]["generated"]["clipsim"] for run in runs]
    distances = [next((one["frechet"] for one in run["distances"].values()), None) for run in runs]
    return [mean_text(texts, 1, 2), mean_text(distances, 1, 2)]
