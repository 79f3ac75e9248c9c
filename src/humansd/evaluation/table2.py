"""Table 2 of HumanSD at another scale: the same start, data, steps and seeds, one loss after the other.

base -> `training.run` per loss and seed -> `evaluate` with poses and from the text alone -> one table. Every part is
resumable, so the same call after a kill goes on.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from humansd.atelier.dataset import write_atelier
from humansd.data.files import write_json
from humansd.evaluation.compare import compare_runs, verdict
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.evaluation.tables import COLUMNS, interval_text, markdown_table, shown
from humansd.models.pocket import PICTURE_SIZE
from humansd.pipelines.generate import Sampling
from humansd.pipelines.pretrained import load_pipeline, without_pose
from humansd.training.run import preset_settings, run_preset
from humansd.training.settings import DiffusionSettings, with_overrides

LOSSES = ("ldm", "heatmap", "reference", "skeleton-mask", "latent-heatmap")
CLAIM_SEEDS = 3  # training seeds from which on a difference may be claimed
BASE = "pocket-without-pose"
TEST_SEED = 900_001
METRICS = ("ap", "ap_medium", "cap", "pce", "clipsim")


@dataclass(frozen=True)
class Table2Settings:
    """What is trained and measured.

    base: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model without its input
    for a pose, which is what it draws from the text alone. data: shards or pack to train on; "": `pictures` of Atelier,
    rendered in the table's folder. test: shards whose poses are drawn; "": rendered there too, with another seed.
    estimator: folder of the HigherHRNet that the losses ask; "": the one that ships. judge: the estimator that
    measures, NAME or NAME=SOURCE. steps, head_steps: of each HumanSD, and of the latent heatmap head, which learns
    from the plain-loss HumanSD of the first seed. poses: how many of `test`. seeds: of the training. overrides:
    further settings of every training, as `--set` takes them. sampling: of all models, the base too; a guidance of
    None is the preset's.
    """

    base: str = ""
    data: str = ""
    test: str = ""
    pictures: int = 10_000
    estimator: str = ""
    judge: str = "judge"
    preset: str = "pocket-humansd"
    losses: tuple[str, ...] = LOSSES
    steps: int = 500
    head_steps: int = 300
    poses: int = 256
    seeds: tuple[int, ...] = (2,)
    sampling: Sampling = field(default_factory=lambda: Sampling(15))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        unknown = [loss for loss in self.losses if loss not in LOSSES]
        if unknown or "ldm" not in self.losses:
            raise ValueError(f"losses = {self.losses}: needs ldm, which the others are measured against, of {LOSSES}")
        for name in ("pictures", "steps", "head_steps", "poses"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.seeds:
            raise ValueError("seeds is empty; name one training seed or more")


def reproduce_table2(settings: Table2Settings, out: Path) -> str:
    """Trains and evaluates in `out`; writes table2.json and table2.md there and returns the table.

    Raises:
        ValueError, OSError: as training and evaluation do.
    """
    settings = _with_inputs(replace(settings, sampling=_sampling(settings)), out)
    first = settings.seeds[0]
    losses = ("ldm", *(loss for loss in settings.losses if loss != "ldm"))
    models = {(loss, seed): _train(settings, out, loss, seed) for seed in settings.seeds for loss in losses}
    posed = {key: _evaluate(settings, out, "-".join(map(str, key)), model) for key, model in models.items()}
    blind = {"base": _evaluate(settings, out, "base-text", settings.base, text_only=True)}
    blind |= {loss: _evaluate(settings, out, f"{loss}-text", models[loss, first], text_only=True) for loss in losses}
    runs = out / "evaluate"
    against = compare_runs([runs / f"{loss}-{first}" for loss in losses], out / "compare") if len(losses) > 1 else None
    forgotten = compare_runs([runs / "base-text", *(runs / f"{loss}-text" for loss in losses)], out / "compare-text")
    results = {
        "settings": _plain(settings),
        "posed": {f"{loss}-{seed}": one for (loss, seed), one in posed.items()},
        "differences": against["differences"] if against else {},
        "text_only": blind,
        "text_only_differences": forgotten["differences"],
    }
    write_json(out / "table2.json", results)
    table = table2_markdown(results, losses, settings)
    (out / "table2.md").write_text(table)
    return table


def table2_markdown(results: dict[str, Any], losses: Sequence[str], settings: Table2Settings) -> str:
    """The table of the losses, its differences from the plain loss, and what the models still know without a pose."""
    parts = [
        "# HumanSD, table 2: losses side by side",
        f"All from {Path(settings.base).name}, {settings.steps} steps, training seeds "
        f"{', '.join(map(str, settings.seeds))}; {settings.poses} poses of {Path(settings.test).name}, found by "
        f"{settings.judge}; {settings.sampling.steps} denoising steps, guidance {settings.sampling.guidance}, "
        f"pose guidance {settings.sampling.pose_guidance}. "
        f"{_standing(settings)}",
        markdown_table(["loss", *(c.title for c in _columns())], [_scores(results, loss, settings) for loss in losses]),
    ]
    if all(one["groups"]["all"]["generated"]["ap_medium"] is None for one in results["posed"].values()):
        parts.append("AP(m) is of people of 32^2 to 96^2 px in a picture of 512; here nobody is that small.")
    if results["differences"]:
        parts += ["## Against ldm", markdown_table(*_differences(results["differences"], METRICS))]
    text = {name: one["groups"]["all"]["generated"]["clipsim"] for name, one in results["text_only"].items()}
    far = {name: _distance(one) for name, one in results["text_only"].items()}
    parts += [
        "## Forgetting: drawn from the text alone, the pose dropped",
        markdown_table(
            ["model", "CLIPSIM", "Frechet distance"],
            [[name, shown(text[name], 1, 2), shown(far[name])] for name in text],
        ),
        markdown_table(*_differences(results["text_only_differences"], ("clipsim", "frechet"))),
        "Intervals: 95 %, the same pictures drawn with replacement.",
    ]
    return "\n\n".join(parts) + "\n"


def _with_inputs(settings: Table2Settings, out: Path) -> Table2Settings:
    """The settings with a base, data and a test, made in `out` where they name none."""
    base, data, test = settings.base, settings.data, settings.test
    if not base:
        base = str(out / BASE)
        if not (out / BASE / "model_index.json").exists():  # written last
            without_pose(load_pipeline("pocket", "cpu")).save_pretrained(out / BASE)
    if not data:
        data = str(out / "data")
        write_atelier(out / "data", settings.pictures, size=PICTURE_SIZE, seed=1)
    if not test:
        test = str(out / "test")
        write_atelier(out / "test", settings.poses, size=PICTURE_SIZE, seed=TEST_SEED)
    return replace(settings, base=base, data=data, test=test)


def _train(settings: Table2Settings, out: Path, loss: str, seed: int) -> str:
    """The export of one training."""
    overrides = dict(settings.overrides) | {
        "data": settings.data,
        "parts": settings.base,
        "base": settings.base,
        "loss": loss,
        "steps": str(settings.steps),
        "cooldown_steps": str(settings.steps // 4),
        "seed": str(seed),
    }
    if loss in ("heatmap", "reference"):
        overrides["estimator"] = settings.estimator
    if loss == "latent-heatmap":
        overrides["head"] = _train_head(settings, out)
    run_preset(settings.preset, overrides, out / "train" / f"{loss}-{seed}")
    return str(out / "train" / f"{loss}-{seed}" / "export")


def _train_head(settings: Table2Settings, out: Path) -> str:
    model = out / "train" / f"ldm-{settings.seeds[0]}" / "export"
    overrides = {
        "data": settings.data,
        "parts": settings.base,
        "base": str(model),
        "estimator": settings.estimator,
        "steps": str(settings.head_steps),
        "cooldown_steps": str(settings.head_steps // 3),
    }
    kept = {key: value for key, value in settings.overrides if key in ("batch_size", "device", "mixed_precision")}
    run_preset("pocket-latent-heatmap", kept | overrides, out / "train" / "head")
    return str(out / "train" / "head" / "export")


def _sampling(settings: Table2Settings) -> Sampling:
    preset = preset_settings(settings.preset)
    if not isinstance(preset, DiffusionSettings):
        raise ValueError(f"preset = {settings.preset!r}: is not one of a UNet; use pocket-humansd or humansd-sd15")
    own = with_overrides(preset, dict(settings.overrides))
    return settings.sampling.filled(own.guidance, own.pose_guidance)


def _evaluate(settings: Table2Settings, out: Path, name: str, model: str, *, text_only: bool = False) -> dict[str, Any]:
    how = EvaluationSettings(
        model=model,
        estimator=settings.judge,
        limit=settings.poses,
        sampling=settings.sampling,
        timing_runs=0,
        text_only=text_only,
    )
    return evaluate(how, Path(settings.test), out / "evaluate" / name)


def _columns() -> list[Any]:
    return [column for column in COLUMNS if column.key in METRICS]


def _scores(results: dict[str, Any], loss: str, settings: Table2Settings) -> list[str]:
    """Values of the first seed with their intervals, or mean and spread over the seeds."""
    runs = [results["posed"][f"{loss}-{seed}"] for seed in settings.seeds]
    row = [loss]
    for c in _columns():
        values = [run["groups"]["all"]["generated"][c.key] for run in runs]
        if len(runs) > 1 and None not in values:
            spread = c.scale * statistics.stdev(values)
            row.append(f"{c.scale * statistics.mean(values):.{c.digits}f} ± {spread:.{c.digits}f}")
        else:
            interval = interval_text(runs[0]["intervals"].get(c.key), c.scale, c.digits)
            row.append(shown(values[0], c.scale, c.digits) + ("" if interval == "-" else f" ({interval})"))
    return row


def _differences(found: dict[str, Any], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    titles = {c.key: (c.title, c.scale, c.digits) for c in COLUMNS}
    rows = []
    for name, by_metric in found.items():
        for metric, one in by_metric.items():
            if not metric.startswith(tuple(metrics)):
                continue
            title, scale, digits = titles.get(metric, (metric, 1, 2))
            ends = interval_text([one["low"], one["high"]], scale, digits)
            rows.append([name, title, shown(one["difference"], scale, digits), ends, verdict(metric, one)])
    return ["model", "metric", "difference", "95 % interval", "at 5 %"], rows


def _distance(results: dict[str, Any]) -> float | None:
    return next((one["frechet"] for one in results["distances"].values()), None)


def _standing(settings: Table2Settings) -> str:
    if len(settings.seeds) >= CLAIM_SEEDS:
        return f"Mean and standard deviation over {len(settings.seeds)} training seeds."
    return f"Preliminary: a claim needs {CLAIM_SEEDS} training seeds."


def _plain(settings: Table2Settings) -> dict[str, Any]:
    known = {**vars(settings), "test": Path(settings.test).name, "base": Path(settings.base).name}
    return {key: vars(value) if isinstance(value, Sampling) else value for key, value in known.items()}
