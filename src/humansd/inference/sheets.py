"""Contact sheets of images that were drawn: the pose as the model saw it, then what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from humansd.inference.image_info import contact_sheet, write_png
from humansd.inference.kept import free_name
from humansd.pipelines.humansd import HumanSDPipeline

if TYPE_CHECKING:
    from humansd.inference.generate import Job

ROWS_PER_SHEET = 24


def write_sheets(pipeline: HumanSDPipeline, jobs: Sequence[Job], images: Sequence[Path], out: Path) -> list[Path]:
    """Sheets of `ROWS_PER_SHEET` rows, PNG with the names of the images inside: sheet.png, sheet-page2.png ...

    Args:
        jobs, images: as many of each. Neighbors of one `Job.row` and pose share a row; its skeleton has the size of
            the row's first image.
    """
    pairs = itertools.groupby(zip(jobs, images, strict=True), key=lambda pair: (pair[0].row, pair[0].pose.name))
    groups = [list(group) for _, group in pairs]
    sheets = []
    for page, start in enumerate(range(0, len(groups), ROWS_PER_SHEET), start=1):
        rows, names = [], []
        for group in groups[start : start + ROWS_PER_SHEET]:
            first = group[0][0]
            shown = [_opened(path) for _, path in group]
            skeleton = pipeline.draw(first.pose.pose, width=shown[0].width, height=shown[0].height)
            assert skeleton is not None  # every job has a pose
            rows.append((skeleton, shown, first.row))
            names.append([path.name for _, path in group])
        stem, info = "sheet" if page == 1 else f"sheet-page{page}", {"rows": names}
        sheets.append(write_png(free_name(out, stem, info), contact_sheet(rows), info))
    return sheets


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
