"""What another tool needs to draw the same images: prompts as tables, poses as key points and as drawings."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from humansd.core.files import write_json, write_text, write_whole
from humansd.core.lock import locked
from humansd.evaluation.sources import Cut, Source
from humansd.pose.formats import write_poses
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, DrawStyle, draw_people
from humansd.pose.skeleton import COCO17, OPENPOSE18

FIELDS = ("key", "prompt", "scene", "people", "seed", "width", "height")
STYLES: dict[str, DrawStyle] = {"drawn-humansd": HUMANSD_STYLE, "drawn-openpose": OPENPOSE_STYLE}


def export_prompts(source: Source, out: Path, size: tuple[int, int], seed: int = 0) -> int:
    """Writes to `out`, and returns how many samples there are:

    prompts.jsonl and prompts.csv with `FIELDS`; for each key poses/KEY.json (our own form, COCO-17),
    openpose/KEY.json (OpenPose-18), and the drawings drawn-humansd/KEY.png and drawn-openpose/KEY.png; about.json,
    which names the data by their digest. Everything is cut to `size`, (width, height) px, as an evaluation cuts it.

    seed: of the first image, then one more each, as `humansd evaluate` counts them.

    Raises:
        ValueError: a source that holds nothing, or a damaged one. OSError: the disk does not take it.
    """
    total = source.total(size)
    with locked(out, "an export"):
        for folder in ("poses", "openpose", *STYLES):
            (out / folder).mkdir(parents=True, exist_ok=True)
        rows = [_export(cut, out, seed + number) for number, cut in enumerate(source.cuts(size))]
        write_text(out / "prompts.jsonl", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
        write_text(out / "prompts.csv", _table(rows))
        write_json(out / "about.json", {"data": source.record(size), "size": list(size), "seed": seed, "count": total})
    return len(rows)


def _export(cut: Cut, out: Path, seed: int) -> dict[str, Any]:
    people = cut.people.to_skeleton(COCO17)
    write_poses(out / "poses" / f"{cut.key}.json", {cut.key: people}, "humansd")
    write_poses(out / "openpose" / f"{cut.key}.json", {cut.key: people.to_skeleton(OPENPOSE18)}, "openpose")
    for folder, style in STYLES.items():
        _draw(people, style, out / folder / f"{cut.key}.png")
    width, height = people.canvas
    values = (cut.key, cut.caption, cut.scene, int(people.labelled.any(axis=1).sum()), seed, width, height)
    return dict(zip(FIELDS, values, strict=True))


def _draw(people: People, style: DrawStyle, file: Path) -> None:
    image = Image.fromarray(draw_people(people, style))
    write_whole(file, lambda stream: image.save(stream, format="PNG"))


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
