"""What the pocket model promises, measured in one call: poses followed, colors, words, variety, calls and seconds.

Atelier's poses that no training has seen, with captions in the phrasings of training and in others; real poses that
no statistic of Atelier has used; `evaluate` on each; `measure_diversity`; the calls of the UNet, counted.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from humansd.benchmarks.diversity import measure_diversity
from humansd.benchmarks.pocket_lines import MIN_JOINTS, Line, table_lines
from humansd.core.files import write_json, write_text
from humansd.data.real_poses import EVALUATION_COUNT, EVALUATION_SEED
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.evaluation.pose_sets import read_pose_set
from humansd.evaluation.sources import Source
from humansd.evaluation.tables import interval_text, markdown_table, shown
from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import SamplingConfig
from humansd.inference.variants import read_variants
from humansd.models.features import load_extractor
from humansd.models.names import SHIPPED, weights_folder
from humansd.pipelines.guidance import Steering
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.synthetic.captions import Phrasing
from humansd.synthetic.dataset import write_atelier

TEST_SEED = 900_001  # of Atelier; no training uses it
FEW = "four-steps"  # the variant that the few-step lines are of
PHRASINGS: tuple[Phrasing, ...] = ("seen", "held_out")


@dataclass(frozen=True)
class PocketTableSettings:
    """What is measured.

    model: shipped name or folder. variant: of the model; "": its default. few: the variant of the few-step lines, which
        are left out where the model has none of that name.
    size: px of a side at which all is measured; a smaller model's images are enlarged.
    poses: of Atelier, for each phrasing. real_poses: archive or pose file of real people; None: those lines are left
        out. real_count: images drawn from it by the committed seed, 0: all.
    held_out: the estimator that measures, NAME or NAME=SOURCE. others: further ones, each with AP lines of its own, on
        the same images. clip: folder of the CLIP that measures; "": the shipped.
    prompts, seeds: of the diversity. timing_runs: images that are timed, 0: none.
    """

    model: str = "pocket"
    variant: str = ""
    few: str = FEW
    size: int = 256
    poses: int = 1000
    real_poses: Path | None = None
    real_count: int = EVALUATION_COUNT
    held_out: str = "centernet"
    others: tuple[str, ...] = ()
    clip: str = ""
    prompts: int = 16
    seeds: int = 16
    timing_runs: int = 20
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.poses < 1:
            raise ValueError(f"poses is {self.poses}; it must be 1 or more")
        if self.real_count < 0:
            raise ValueError(f"real_count is {self.real_count}; it must be 0 or more")


def benchmark_pocket(settings: PocketTableSettings, out: Path) -> str:
    """Measures in `out`, where the same call goes on after a stop; writes pocket.json and pocket.md there and returns
    the table.

    Raises:
        ValueError, OSError: as `evaluate`, `read_pose_set` and `load_pipeline` do.
    """
    pipeline = load_pipeline(settings.model, settings.device, dtype=settings.dtype, variant=settings.variant)
    pipeline.set_progress_bar_config(disable=True)
    found: dict[str, Any] = {"default": _of_variant(settings, settings.variant, out)}
    if settings.real_poses is not None:
        found["real"] = _on_real_poses(settings, out / "evaluate-real")
    few = _few(settings)
    if few is not None:
        found["few"] = _evaluated(settings, few, out / "atelier-seen", out / "few", timed=True)
        few_pipeline = load_pipeline(settings.model, settings.device, dtype=settings.dtype, variant=few)
        found["few_calls"] = unet_calls(few_pipeline)
    found["others"] = {one: _by_another(settings, one, found, out) for one in settings.others}
    extractor = load_extractor("pocket", "", pipeline.device)
    scores = measure_diversity(pipeline, extractor, prompts=settings.prompts, seeds=settings.seeds)
    lines = table_lines(found, asdict(scores), unet_calls(pipeline))
    told = {**asdict(settings), "real_poses": settings.real_poses.name if settings.real_poses else None}
    write_json(out / "pocket.json", {"settings": told, "lines": [asdict(line) for line in lines]})
    text = as_page(lines, settings, found)
    write_text(out / "pocket.md", text)
    return text


def unet_calls(pipeline: HumanSDPipeline) -> int:
    """Calls of the UNet for one image with a pose, at the model's own settings; a branch of a step is a call."""
    steering = Steering(pipeline.guidance.text, pipeline.guidance.pose)
    steps = pipeline.default_steps
    return sum(len(steering.at(step, steps, True).branches) for step in range(steps))


def _few(settings: PocketTableSettings) -> str | None:
    folder = weights_folder(settings.model) if settings.model in SHIPPED else Path(settings.model)
    return settings.few if settings.few in read_variants(folder).named else None


def _of_variant(settings: PocketTableSettings, variant: str, out: Path) -> dict[str, Any]:
    """Results of both phrasings, by phrasing."""
    found: dict[str, Any] = {}
    for number, phrasing in enumerate(PHRASINGS):
        shards = out / f"atelier-{phrasing}"
        write_atelier(shards, settings.poses, size=settings.size, seed=TEST_SEED + number, phrasing=phrasing)
        timed = phrasing == "seen"
        found[phrasing] = _evaluated(settings, variant, shards, out / f"evaluate-{phrasing}", timed=timed)
    return found


def _on_real_poses(settings: PocketTableSettings, out: Path) -> dict[str, Any]:
    """Of the run in the folder `out`."""
    assert settings.real_poses is not None
    poses = read_pose_set(settings.real_poses, count=settings.real_count, seed=EVALUATION_SEED)
    return _evaluated(settings, settings.variant, poses, out)


def _by_another(settings: PocketTableSettings, estimator: str, found: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Results of another estimator on the images that are there."""
    folder = out / "others" / hashlib.sha256(estimator.encode()).hexdigest()[:8]
    images = {"seen": out / "evaluate-seen", "real": out / "evaluate-real"}
    for name, drawn in images.items():
        if (drawn / "images").is_dir() and not (folder / name / "images").is_dir():
            shutil.copytree(drawn / "images", folder / name / "images")
    settings = replace(settings, held_out=estimator)
    results = {"seen": _evaluated(settings, settings.variant, out / "atelier-seen", folder / "seen")}
    if "real" in found:
        results["real"] = _on_real_poses(settings, folder / "real")
    return results


def _evaluated(
    settings: PocketTableSettings, variant: str, data: Path | Source, out: Path, *, timed: bool = False
) -> dict[str, Any]:
    real = not isinstance(data, Path)
    how = EvaluationSettings(
        model=settings.model,
        variant=variant,
        estimator=settings.held_out,
        clip=settings.clip,
        min_joints=MIN_JOINTS if real else 1,
        sampling=SamplingConfig(size=(settings.size, settings.size)),
        enlarged=True,
        batch_size=settings.batch_size,
        timing_runs=settings.timing_runs if timed else 0,
        device=settings.device,
        dtype=settings.dtype,
    )
    return evaluate(how, data, out)


def as_page(lines: list[Line], settings: PocketTableSettings, found: Mapping[str, Any]) -> str:
    """The table with what it was measured on."""
    rows = []
    for line in lines:
        reached = {True: "yes", False: "no", None: ""}[line.reached]
        numbers = [shown(line.value, 1, line.digits), interval_text([line.low, line.high], 1, line.digits)]
        rows.append([line.name, *numbers, shown(line.beside, 1, line.digits), line.aim, reached])
    head = ["", "measured", "95 % interval", "real images", "aim", "reached"]
    variant = settings.variant or "its default"
    about = [
        f"{settings.model}, variant {variant}; {settings.poses} poses of Atelier for each phrasing, measured at "
        f"{settings.size} px by {settings.held_out.partition('=')[0]}; diversity of {settings.prompts} prompts with "
        f"{settings.seeds} seeds each."
    ]
    if settings.real_poses is not None:
        told = f"{settings.real_count} images" if settings.real_count else "all images"
        about.append(f"Real poses: {told} of {settings.real_poses.name}, drawn by seed {EVALUATION_SEED}.")
    text_model = found["default"]["seen"].get("text_model") or {}
    if text_model.get("shared"):
        about.append(
            "The text half of the CLIP that measures CLIPSIM is the model's own, or was trained from the same weights: "
            "name another with --clip (`humansd train pocket-held-out-clip` makes one)."
        )
    return "\n\n".join(["# The pocket model, line by line", markdown_table(head, rows), *about]) + "\n"
