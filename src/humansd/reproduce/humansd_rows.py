"""What tables 3 and 4 of HumanSD share: HumanSD alone, trained in several ways from one base, measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from humansd.evaluation.tables import markdown_table
from humansd.inference.sampling import SamplingConfig
from humansd.reproduce.rows import Names, people_table, score_table
from humansd.reproduce.runs import difference_table, standing
from humansd.reproduce.table1 import SHORT, samples_a_step
from humansd.training.settings import RESUMABLE

# What lies there is on record in every training and evaluation of the table, by digest.
PLACES = frozenset({"base_model", "data", "test", "estimator", "held_out", "annotator", "generated_data"})
LOSSES = ("ldm", "heatmap", "skeleton-mask", "reference")
PAPER_TITLES = ("AP", "PCE", "CLIPSIM")


@dataclass(frozen=True)
class HumanSDSettings:
    """What is trained and measured.

    base_model: diffusers folder of the Stable Diffusion that all start from; "": the shipped pocket model without its
        input for a pose.
    data, test: shards to train on and whose poses are drawn; "": `images` and `poses` of Atelier, rendered in the
        table's folder.
    estimator: folder of the HigherHRNet that the heatmap loss asks; "": the preset's.
    held_out: the estimator that measures, NAME or NAME=SOURCE.
    size: the preset humansd-SIZE: pocket, sd15 or sd21. loss: of all trainings.
    steps: of each training. poses: that are drawn and measured. batch_size: images drawn at once.
    seeds: of the training. sampling: of all models. overrides: further settings of every training, as `--set` takes
        them.
    """

    base_model: str = ""
    data: str = ""
    test: str = ""
    images: int = 10_000
    estimator: str = ""
    held_out: str = "centernet"
    size: str = "pocket"
    loss: str = "ldm"
    steps: int = 938
    poses: int = 512
    batch_size: int = 8
    seeds: tuple[int, ...] = (2,)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(15, 4.0, 1.0))
    overrides: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("images", "steps", "poses", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(f"seeds = {self.seeds}: name each once, and one or more")
        if self.loss not in LOSSES:
            raise ValueError(f"loss = {self.loss!r} is not known here; choose one of {', '.join(LOSSES)}")

    @property
    def preset(self) -> str:
        return f"humansd-{self.size}"

    @property
    def samples_a_step(self) -> int:
        return samples_a_step(self.size, self.overrides)

    def training(self, seed: int, **more: str) -> dict[str, str]:
        """The settings of one training, as `--set` takes them."""
        return {
            **(SHORT if self.size == "pocket" else {}),
            **dict(self.overrides),
            "data": self.data,
            "components": self.base_model,
            "base_model": self.base_model,
            "steps": str(self.steps),
            "cooldown_steps": str(self.steps // 4),
            "seed": str(seed),
            "loss": self.loss,
            **({"estimator": self.estimator} if self.estimator and self.loss in ("heatmap", "reference") else {}),
            **more,
        }


def lasting(settings: HumanSDSettings) -> dict[str, Any]:
    """What stays the same when a table goes on, which may be with more seeds."""
    kept = {key: value for key, value in vars(settings).items() if key not in ("seeds", "batch_size")}
    overrides = {key: value for key, value in settings.overrides if key not in RESUMABLE}
    return {**kept, "sampling": settings.sampling.record(), "overrides": overrides}


def names_of(rows: Iterable[str], settings: HumanSDSettings) -> dict[str, list[str]]:
    """Row -> the names of its runs."""
    return {row: [f"{row}-{seed}" for seed in settings.seeds] for row in rows}


def table_markdown(
    title: str, told: str, results: dict[str, Any], names: Names, reference: str, paper: Mapping[str, tuple[float, ...]]
) -> str:
    """The page of a table: scores with intervals, differences from `reference`, crowds, and the paper's own numbers
    (`PAPER_TITLES`), which are for information only."""
    numbers = [[row, *(f"{value:g}" for value in values)] for row, values in paper.items()]
    seeds = results["settings"]["seeds"]
    how = results["settings"]["sampling"]
    drawn = f"{how['num_inference_steps']} denoising steps, guidance {how['guidance_scale']}"
    pieces = [
        f"# {title}",
        f"{told} {results['settings']['poses']} poses of {results['settings']['test']}, found by "
        f"{results['settings']['held_out']}; {drawn}, pose guidance {how['pose_guidance_scale']}. {standing(seeds)}",
        score_table("HumanSD", results["scores"], names),
        f"## Against {reference}",
        difference_table(results["differences"]),
        "## By how many people are asked for: AP",
        people_table("HumanSD", results["scores"], names),
        "## The paper's numbers, of another world and scale",
        markdown_table(["HumanSD", *PAPER_TITLES], numbers),
    ]
    return "\n\n".join(pieces) + "\n"
