"""What the pocket model promises, measured in one call: poses followed, colors, words, variety, calls and seconds.

Atelier's poses that no training has seen, with captions in the phrasings of training and in others; real poses that
no statistic of Atelier has used; `evaluate` on each; `measure_diversity`; the calls of the UNet, counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from humansd.benchmarks.diversity import measure_diversity
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
MIN_JOINTS = 8  # of real people who count for AP
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
    held_out: the estimator that measures, NAME or NAME=SOURCE. clip: folder of the CLIP that measures; "": the shipped.
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


@dataclass(frozen=True)
class Line:
    """A line of the table. value, low, high and beside (the ceiling) are in the line's own unit; None: no value.

    aim: in words; reached: whether the value does, None where there is no value or no aim.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    beside: float | None = None
    aim: str = ""
    reached: bool | None = None
    digits: int = 2


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
        found["real"] = _on_real_poses(settings, out)
    few = _few(settings)
    if few is not None:
        found["few"] = _evaluated(settings, few, out / "atelier-seen", out / "few", timed=True)
        few_pipeline = load_pipeline(settings.model, settings.device, dtype=settings.dtype, variant=few)
        found["few_calls"] = unet_calls(few_pipeline)
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
    found = {}
    for number, phrasing in enumerate(PHRASINGS):
        shards = out / f"atelier-{phrasing}"
        write_atelier(shards, settings.poses, size=settings.size, seed=TEST_SEED + number, phrasing=phrasing)
        timed = phrasing == "seen"
        found[phrasing] = _evaluated(settings, variant, shards, out / f"evaluate-{phrasing}", timed=timed)
    return found


def _on_real_poses(settings: PocketTableSettings, out: Path) -> dict[str, Any]:
    assert settings.real_poses is not None
    poses = read_pose_set(settings.real_poses, count=settings.real_count, seed=EVALUATION_SEED)
    return _evaluated(settings, settings.variant, poses, out / "evaluate-real")


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


def table_lines(found: Mapping[str, Any], diversity: Mapping[str, float], calls: int) -> list[Line]:
    """The lines of what was measured: `found` holds results of `evaluate`: default (by phrasing), real, few."""
    seen, other = found["default"]["seen"], found["default"]["held_out"]
    lines = [
        _share(seen, "ap", "AP as a share of the ceiling, Atelier's poses", 0.85),
        *_real_lines(found.get("real")),
        _plain(seen, "all", "ap_medium", "AP(m), Atelier's poses", None, scale=100),
        _plain(seen, "1 to 3 people", "pce", "PCE, 1 to 3 people", 0.25),
        _plain(seen, "4 to 8 people", "pce", "PCE, 4 to 8 people", 1.0),
        _color(seen, "all", "color", "torso color right, seen phrasings, %", 85),
        _color(other, "all", "color", "torso color right, held-out phrasings, %", 80),
        _color(seen, "person 2", "color person 2", "torso color right, second person, %", 70),
        _share(seen, "clipsim", "CLIPSIM as a share of the real pairs'", 0.95),
        _line("diversity, as a share of Atelier's renders", diversity["share"], 0.8, ends=_ends(diversity)),
        _line("UNet calls an image", calls, 8, below=True, digits=0),
    ]
    return lines + _few_lines(found)


def _real_lines(results: Mapping[str, Any] | None) -> list[Line]:
    if results is None:
        return []
    name = f"AP, real poses, people with {MIN_JOINTS} joints or more"
    return [
        _plain(results, "all", "ap", name, 40, scale=100, interval="ap", below=False),
        _plain(results, "all", "ap_medium", "AP(m), real poses", None, scale=100),
        _plain(results, "1 to 3 people", "pce", "PCE, real poses, 1 to 3 people", None),
        _plain(results, "4 to 8 people", "pce", "PCE, real poses, 4 to 8 people", None),
    ]


def _few_lines(found: Mapping[str, Any]) -> list[Line]:
    timed = found.get("few") or found["default"]["seen"]
    seconds = (timed.get("time") or {}).get("seconds")
    lines = [_line("seconds an image, batch 1, all in", seconds, 0.15, below=True, digits=3)]
    if "few" not in found:
        return lines
    few, whole = (_score(one, "all", "ap") for one in (found["few"], found["default"]["seen"]))
    share = None if not whole or few is None else few / whole
    return [
        _line("few steps: UNet calls an image", found["few_calls"], 4, below=True, digits=0),
        _line("few steps: AP as a share of the default variant's", share, 0.95),
        *(replace(one, name=f"few steps: {one.name}") for one in lines),
    ]


def _score(results: Mapping[str, Any], group: str, key: str, side: str = "generated") -> float | None:
    found = results["groups"].get(group, {}).get(side, {}).get(key)
    return None if found is None else float(found)


def _ends(one: Mapping[str, float]) -> tuple[float | None, float | None]:
    return one["low"], one["high"]


def _line(
    name: str,
    value: float | None,
    aim: float | None,
    *,
    ends: tuple[float | None, float | None] = (None, None),
    beside: float | None = None,
    below: bool = False,
    digits: int = 2,
) -> Line:
    """below: the aim is reached at or below it."""
    reached = None if value is None or aim is None else (value <= aim if below else value >= aim)
    told = "" if aim is None else f"{'<=' if below else '>='} {aim:g}"
    return Line(name, value, *ends, beside, told, reached, digits)


def _share(results: Mapping[str, Any], key: str, name: str, aim: float) -> Line:
    """A score as a share of the real images'; the interval is the score's own, against the ceiling as it is."""
    value, ceiling = (_score(results, "all", key, side) for side in ("generated", "ceiling"))
    if value is None or not ceiling:
        return _line(name, None, aim)
    low, high = results["intervals"].get(key) or (None, None)
    ends = (None, None) if low is None or high is None else (low / ceiling, high / ceiling)
    return _line(name, value / ceiling, aim, ends=ends, beside=1.0)


def _plain(
    results: Mapping[str, Any],
    group: str,
    key: str,
    name: str,
    aim: float | None,
    *,
    scale: float = 1,
    interval: str = "",
    below: bool = True,
) -> Line:
    value, ceiling = (_score(results, group, key, side) for side in ("generated", "ceiling"))
    ends = [None if one is None else scale * one for one in results["intervals"].get(interval) or (None, None)]
    beside = None if ceiling is None else scale * ceiling
    digits = 1 if scale == 100 else 2
    shown_value = None if value is None else scale * value
    return _line(name, shown_value, aim, ends=(ends[0], ends[1]), beside=beside, below=below, digits=digits)


def _color(results: Mapping[str, Any], group: str, key: str, name: str, aim: float) -> Line:
    found = results["colors"].get(group, {})
    value, ceiling = (None if found.get(side) is None else 100 * found[side] for side in ("generated", "ceiling"))
    ends = [None if one is None else 100 * one for one in results["intervals"].get(key) or (None, None)]
    return _line(name, value, aim, ends=(ends[0], ends[1]), beside=ceiling, digits=0)


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
