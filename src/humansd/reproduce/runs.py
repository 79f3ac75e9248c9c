"""What the tables of the paper share: a start, data, trainings that go on, and how numbers are told."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from humansd.core.allocation import keep_memory
from humansd.evaluation.compare import verdict
from humansd.evaluation.tables import COLUMNS, interval_text, markdown_table, shown
from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import SamplingConfig
from humansd.models.names import SHIPPED
from humansd.pipelines.plain import without_pose
from humansd.pipelines.schedulers import make_scheduler
from humansd.synthetic.dataset import write_atelier
from humansd.training.bases import image_px
from humansd.training.loop import exported
from humansd.training.run import run_preset
from humansd.training.settings import DiffusionSettings

BASE = "pocket-without-pose"
_PLACES = ("base_model", "data", "test", "estimator")
TEST_SEED = 900_001
CLAIM_SEEDS = 3  # training seeds from which on a difference may be claimed


class Inputs(Protocol):
    """base_model: diffusers folder of the Stable Diffusion that all start from. data, test: shards to train on, and
    whose poses are drawn. images, poses: how many of each are rendered where none are named."""

    @property
    def base_model(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def images(self) -> int: ...
    @property
    def poses(self) -> int: ...


def find_inputs(settings: Inputs, out: Path) -> tuple[str, str, str]:
    """Base, data and test, made in `out` where the settings name none."""
    base = settings.base_model
    if base in ("", *SHIPPED):  # as training takes it for all but HumanSD: without its input for a pose
        base = str(out / BASE)
        if not (out / BASE / "model_index.json").exists():  # written last
            pipeline = load_pipeline("pocket", "cpu", variant="full")
            pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler)  # as what is trained from it
            without_pose(pipeline).save_pretrained(out / BASE)
    for folder, count, seed in (("data", settings.images, 1), ("test", settings.poses, TEST_SEED)):
        if not getattr(settings, folder):
            size = image_px(DiffusionSettings(base_model=base))
            if size is None:
                raise ValueError(f"base_model = {base!r}: its sizes are not known here; name shards with --{folder}")
            write_atelier(out / folder, count, size=size, seed=seed)
    return base, settings.data or str(out / "data"), settings.test or str(out / "test")


def plain_settings(settings: Any) -> dict[str, Any]:
    """A table's settings as JSON, places by their names alone."""
    known = {key: Path(value).name if key in _PLACES else value for key, value in vars(settings).items()}
    return {key: value.record() if isinstance(value, SamplingConfig) else value for key, value in known.items()}


Each = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]


@contextmanager
def side_by_side(jobs: int) -> Iterator[Each]:
    """A function that gives, in order, what some work returns for each of some arguments; `jobs` processes do it."""
    if jobs == 1:
        yield lambda work, arguments: [work(*one) for one in arguments]
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=keep_memory) as pool:
        yield lambda work, arguments: list(pool.map(work, *zip(*arguments, strict=True)))


def trained(
    preset: str,
    overrides: dict[str, str],
    run: Path,
    steps: int,
    make_validator: Callable[[Any], Any] | None = None,
) -> str:
    """The export of a finished run; done already, nothing happens. make_validator: as of `run_preset`."""
    run_preset(preset, overrides, run, make_validator=make_validator)
    if (step := exported(run).step) != steps:
        raise ValueError(f"{run}: stopped at step {step} of {steps} by max_minutes; give the same command to go on")
    return str(run / "export")


def mean_text(values: Sequence[float | None], scale: float, digits: int) -> str:
    """The mean, of several with their standard deviation; "-" where one has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    spread = f" ± {scale * statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{scale * statistics.mean(known):.{digits}f}{spread}"


def difference_table(found: dict[str, Any]) -> str:
    titles = {c.key: (c.title, c.scale, c.digits) for c in COLUMNS}
    rows = []
    for name, by_metric in found.items():
        for metric, one in by_metric.items():
            title, scale, digits = titles.get(metric, (metric, 1, 2))
            ends = interval_text([one["low"], one["high"]], scale, digits)
            seeds = " ".join(shown(seed, scale, digits) for seed in one["seeds"])
            rows.append([name, title, shown(one["difference"], scale, digits), ends, seeds, verdict(metric, one)])
    return markdown_table(["model", "metric", "difference", "95 % interval", "each seed", "at 5 %"], rows)


def standing(seeds: Sequence[int]) -> str:
    """What so many training seeds allow to say."""
    if len(seeds) >= CLAIM_SEEDS:
        return f"Mean and standard deviation over {len(seeds)} training seeds."
    return f"Preliminary: a claim needs {CLAIM_SEEDS} training seeds."
