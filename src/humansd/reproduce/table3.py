"""Table 3 of HumanSD at another scale: on which data it learns.

`generated`: images that the base draws of composed prompts, with the people an estimator finds in them, the best kept
(as GHI). `photos`: the photo-like scenes of the data (as LAION-Human). `all`: the whole data and what was generated.
Every row takes the same number of steps from the same base. Resumable: the same call goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from humansd.build.ghi import GhiOptions, build_ghi
from humansd.build.subset import build_subset
from humansd.build.union import Part, build_union
from humansd.core.files import write_json, write_text
from humansd.data.shards import count_samples
from humansd.reproduce.humansd_rows import (
    PLACES,
    HumanSDSettings,
    lasting,
    names_of,
    table_markdown,
)
from humansd.reproduce.rows import measure, row_differences
from humansd.reproduce.runs import find_inputs, plain_settings, side_by_side, trained
from humansd.training.checkpoint import settle_config

ROWS = ("generated", "photos", "all")
REFERENCE = "all"
# Scenes that a camera could have seen: Atelier's, and Human-Art's natural ones.
PHOTO_SCENES = ("photo", "vintage_photo", "acrobatics", "cosplay", "dance", "drama", "movie")
PAPER = {  # HumanSD, table 3 (with the loss): AP, PCE, CLIPSIM
    "generated (GHI)": (23.66, 1.50, 33.61),
    "photos (LAION-Human)": (31.93, 1.60, 32.98),
    "all": (32.66, 1.56, 32.99),
}


@dataclass(frozen=True)
class Table3Settings(HumanSDSettings):
    """What is trained and measured, beside `HumanSDSettings`.

    generated: pairs that are kept of what the base draws.
    generated_data: shards that were drawn before, as by `humansd data build ghi`; `generated` does not count then.
    annotator: who finds people in what is drawn, NAME or NAME=SOURCE; not the one that measures.
    share: the best so many of the pairs that pass. integrity: share of a body that must be seen.
    generating_steps: denoising steps of their images.
    """

    generated: int = 1500
    generated_data: str = ""
    annotator: str = "higherhrnet"
    share: float = 0.3
    integrity: float = 0.6
    generating_steps: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generated", "generating_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.annotator == self.held_out:
            raise ValueError(f"annotator = {self.annotator!r} is who measures; name another with --annotator")


def reproduce_table3(settings: Table3Settings, out: Path, jobs: int = 1) -> str:
    """Makes the data, trains and evaluates in `out`; writes table3.json and table3.md there and returns the table.

    Raises:
        ValueError, OSError: as building, training and evaluation do; or `out` holds a table of other settings.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be 1 or more")
    settle_config(out, lasting(settings), PLACES)
    base, data, test = find_inputs(settings, out)
    settings = replace(settings, base_model=base, data=data, test=test)
    sets = _data_sets(settings, out)
    learning = [(row, sets[row], seed) for row in ROWS for seed in settings.seeds]
    names = names_of(ROWS, settings)
    with side_by_side(jobs) as each:
        models = each(_train, [(settings, out, *one) for one in learning])
        found = each(measure, [(settings, out, f"{one[0]}-{one[2]}", m) for one, m in zip(learning, models)])
        differences = row_differences(names, REFERENCE, out, each)
    results: dict[str, Any] = {
        "settings": plain_settings(settings),
        "images": {row: count_samples(sets[row]) for row in ROWS},
        "scores": {f"{row}-{seed}": score for (row, _, seed), score in zip(learning, found, strict=True)},
        "differences": differences,
    }
    write_json(out / "table3.json", results)
    table = _markdown(results, settings, names)
    write_text(out / "table3.md", table)
    return table


def _data_sets(settings: Table3Settings, out: Path) -> dict[str, str]:
    """Row -> shards."""
    sets = {row: str(out / "sets" / row) for row in ROWS}
    if settings.generated_data:
        sets["generated"] = settings.generated_data
    else:
        _generate(settings, sets["generated"])
    build_subset(settings.data, PHOTO_SCENES, sets["photos"])
    build_union([Part(sets["generated"]), Part(settings.data)], sets["all"])
    return sets


def _generate(settings: Table3Settings, out: str) -> None:
    """Pairs in the manner of GHI: the base draws, the annotator finds the people, the best are kept."""
    name, _, weights = settings.annotator.partition("=")
    options = GhiOptions(
        model=settings.base_model,
        estimator=name,
        weights=weights,
        steps=settings.generating_steps,
        guidance=settings.sampling.guidance_scale or 0.0,
        share=settings.share,
        integrity=settings.integrity,
        quality="certainty",
    )
    build_ghi(settings.generated, out, options)


def _train(settings: Table3Settings, out: Path, row: str, shards: str, seed: int) -> str:
    """The export of one training."""
    overrides = settings.training(seed, data=shards)
    return trained(settings.preset, overrides, out / "train" / f"{row}-{seed}", settings.steps)


def _markdown(results: dict[str, Any], settings: Table3Settings, names: dict[str, list[str]]) -> str:
    counts = ", ".join(f"{row} {count:,} images" for row, count in results["images"].items())
    drawn = "was drawn before"
    if not settings.generated_data:
        finder = settings.annotator.partition("=")[0]
        drawn = f"is drawn by the base, its people found by {finder}, the best {100 * settings.share:g} % kept"
    told = (
        f"HumanSD with the loss {settings.loss} from {Path(settings.base_model).name}, "
        f"{settings.steps * settings.samples_a_step:,} samples each, training seeds "
        f"{', '.join(map(str, settings.seeds))}. Data: {counts}. `generated` {drawn}; `photos` are the "
        "photo-like scenes of the data; `all` are the data and what was generated."
    )
    return table_markdown("HumanSD, table 3: on which data it learns", told, results, names, REFERENCE, PAPER)
