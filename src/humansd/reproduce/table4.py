"""Table 4 of HumanSD at another scale: how long it learns.

One run a seed with a constant learning rate, as the paper's, measured at three lengths; the run goes on from each to
the next. Resumable: the same call goes on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from humansd.core.files import write_json, write_text
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

SHARES = {"short": 50 / 150, "middle": 95 / 150, "long": 1.0}  # of the longest: the paper's 50K, 95K and 150K
REFERENCE = "middle"
PAPER = {  # HumanSD, table 4 (with the loss): AP, PCE, CLIPSIM
    "short (50K)": (25.47, 1.58, 32.39),
    "middle (95K)": (32.66, 1.56, 32.99),
    "long (150K)": (32.17, 1.55, 32.51),
}


@dataclass(frozen=True)
class Table4Settings(HumanSDSettings):
    """As `HumanSDSettings`; `steps` are those of the longest training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len({*lengths(self.steps).values()}) < len(SHARES):
            raise ValueError(f"steps is {self.steps}: too few for three lengths; it must be 3 or more")


def lengths(steps: int) -> dict[str, int]:
    """Row -> steps, of which `steps` are the most."""
    return {row: max(1, round(share * steps)) for row, share in SHARES.items()}


def reproduce_table4(settings: Table4Settings, out: Path, jobs: int = 1) -> str:
    """Trains and evaluates in `out`; writes table4.json and table4.md there and returns the table.

    Raises:
        ValueError, OSError: as training and evaluation do; or `out` holds a table of other settings.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be 1 or more")
    settle_config(out, lasting(settings), PLACES)
    base, data, test = find_inputs(settings, out)
    settings = replace(settings, base_model=base, data=data, test=test)
    names = names_of(SHARES, settings)
    with side_by_side(jobs) as each:
        each(_train, [(settings, out, seed) for seed in settings.seeds])
        runs = [name for some in names.values() for name in some]
        found = each(measure, [(settings, out, name, str(out / "models" / name)) for name in runs])
        differences = row_differences(names, REFERENCE, out, each)
    results: dict[str, Any] = {
        "settings": plain_settings(settings),
        "samples": {row: steps * settings.samples_a_step for row, steps in lengths(settings.steps).items()},
        "scores": dict(zip(runs, found, strict=True)),
        "differences": differences,
    }
    write_json(out / "table4.json", results)
    samples = ", ".join(f"{row} {count:,} samples" for row, count in results["samples"].items())
    told = (
        f"HumanSD with the loss {settings.loss} from {Path(settings.base_model).name}, training seeds "
        f"{', '.join(map(str, settings.seeds))}, a constant learning rate: {samples}."
    )
    table = table_markdown("HumanSD, table 4: how long it learns", told, results, names, REFERENCE, PAPER)
    write_text(out / "table4.md", table)
    return table


def _train(settings: Table4Settings, out: Path, seed: int) -> None:
    """Trains to each length in turn and keeps the model of each in out/models."""
    for row, steps in lengths(settings.steps).items():
        kept = out / "models" / f"{row}-{seed}"
        if kept.exists():
            continue
        overrides = settings.training(seed, steps=str(steps), cooldown_steps="0")
        export = trained(settings.preset, overrides, out / "train" / str(seed), steps)
        part = kept.with_name(f".{kept.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(export, part)
        part.rename(kept)
