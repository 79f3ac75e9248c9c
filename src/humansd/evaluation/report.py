"""A run as one HTML page that needs nothing else: tables, bars, and the best, median and worst poses of each scene."""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.core.arrays import ImageArray
from humansd.core.files import write_text
from humansd.evaluation.doubts import doubts
from humansd.evaluation.overlay import likeness, overlay
from humansd.evaluation.records import Record, Run
from humansd.evaluation.scores import CROWDS
from humansd.evaluation.tables import (
    GROUP_HEAD,
    GROUP_NOTE,
    SUMMARY_HEAD,
    clip_text,
    cut_text,
    group_table,
    heading,
    shown,
    summary_rows,
    time_text,
)
from humansd.pose.render import HUMANSD_STYLE, draw_people

SIDE_PX = 128
EACH = 2  # best, median and worst images of a scene: so many of each
BAR_PX = 360

STYLE = """
:root { color-scheme: light dark; --bar: #3b6ea8; --line: #c33; --rule: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--rule);
text-align: right; } th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
figure { display: inline-block; margin: .3rem 1rem .9rem 0; width: 520px; max-width: 100%; vertical-align: top; }
figure img { width: 24%; } figcaption { font-size: 12px; } .note { opacity: .75; }
"""


def write_report(run: Run, results: dict[str, Any], file: Path, real: Iterable[tuple[str, ImageArray]]) -> None:
    """Writes the page. real: (key, image) of the data, of which only the shown ones are kept."""
    chosen = examples(run.records)
    wanted = {record.key for rows in chosen.values() for _, record in rows}
    images = {key: image for key, image in real if key in wanted}
    page = html_page(f"Evaluation of {results['settings']['model']['name']}", _body(run, results, chosen, images))
    write_text(file, page)


def examples(records: Sequence[Record]) -> dict[str, list[tuple[str, Record]]]:
    """Scene -> ("best", record) ..., by how alike wanted and found people are; images of nobody are left out."""
    scored: dict[str, list[tuple[float, Record]]] = {}
    for record in records:
        score = likeness(record.wanted, record.found)
        if not math.isnan(score):
            scored.setdefault(record.scene, []).append((score, record))
    chosen: dict[str, list[tuple[str, Record]]] = {}
    for scene in sorted(scored):
        ranked = [record for _, record in sorted(scored[scene], key=lambda pair: -pair[0])]
        middle = max(0, len(ranked) // 2 - EACH // 2)
        parts = {"best": ranked[:EACH], "median": ranked[middle : middle + EACH], "worst": ranked[-EACH:]}
        chosen[scene] = []
        for name, members in parts.items():
            chosen[scene] += itertools.product([name], members)
    return chosen


def _body(
    run: Run,
    results: dict[str, Any],
    chosen: dict[str, list[tuple[str, Record]]],
    images: dict[str, ImageArray],
) -> str:
    scenes, counts = {}, {}
    for name, one in results["groups"].items():
        if name.startswith("scene "):
            scenes[name.removeprefix("scene ")] = one
        elif name in CROWDS:
            counts[name] = one
    parts = [
        *(f"<p><strong>{escape(doubt)}</strong></p>" for doubt in doubts(results)),
        f"<p>{escape(heading(results))}</p>",
        f"<p>{escape(cut_text(results))}</p>",
        html_table(SUMMARY_HEAD, summary_rows(results)),
        f"<p>{escape(time_text(results.get('time')))}</p>",
        f"<p>{escape(clip_text(results))}</p>",
        "<h2>AP by number of people</h2>",
        bars(counts),
        "<h2>AP by scene</h2>",
        bars(scenes),
        '<p class="note">Bars: generated images. Red line: the ceiling, what the estimator scores on the real '
        "images.</p>",
        "<h2>All groups</h2>",
        f'<p class="note">{escape(GROUP_NOTE if results["real_images"] else "")}</p>',
        html_table(GROUP_HEAD, group_table(results)),
        "<h2>Images</h2>",
        '<p class="note">Wanted pose, generated image, people found in it, image of the data.</p>',
    ]
    for scene, rows in chosen.items():
        parts.append(f"<h3>{escape(scene)}</h3>")
        parts += [_figure(run, name, record, images.get(record.key)) for name, record in rows]
    parts += [f'<p class="note">{escape(note)}.</p>' for note in results["notes"]]
    return "\n".join(parts)


def bars(groups: dict[str, dict[str, Any]], key: str = "ap") -> str:
    """Horizontal bars of a score in 0..1, as SVG, with a line at the ceiling."""
    row, left = 22, 140
    lines = []
    for i, (name, one) in enumerate(groups.items()):
        value, ceiling = one["generated"][key] or 0.0, one["ceiling"][key]
        top = i * row
        lines.append(f'<text x="{left - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>')
        lines.append(
            f'<rect x="{left}" y="{top + 3}" width="{BAR_PX * value:.1f}" height="{row - 7}" fill="var(--bar)"/>'
        )
        if ceiling is not None:
            x = left + BAR_PX * ceiling
            lines.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 1}" y2="{top + row - 2}" '
                'stroke="var(--line)" stroke-width="2"/>'
            )
        text = shown(one["generated"][key], 100, 1)
        lines.append(f'<text x="{left + BAR_PX + 8}" y="{top + 15}">{text}</text>')
    width, height = left + BAR_PX + 60, row * len(groups)
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(lines)}</svg>'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table that scrolls sideways where it is too wide."""
    lines = [_html_row("th", head)]
    for row in rows:
        lines.append(_html_row("td", row))
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _figure(run: Run, name: str, record: Record, real: ImageArray | None) -> str:
    with Image.open(run.image(record.key), formats=("PNG",)) as file:
        image = np.array(file.convert("RGB"))
    cells = [
        draw_people(record.wanted.fit(SIDE_PX, SIDE_PX), HUMANSD_STYLE),
        image,
        overlay(image, record.found, SIDE_PX),
        *([] if real is None else [real]),
    ]
    images = "".join(f'<img src="{data_url(cell)}" alt="">' for cell in cells)
    text = f"{name}: OKS {likeness(record.wanted, record.found):.2f}, seed {record.seed}. {record.prompt}"
    return f"<figure>{images}<figcaption>{escape(text)}</figcaption></figure>"


def data_url(image: ImageArray) -> str:
    """The image, at most 2 * SIDE_PX a side, as a JPEG inside a URL."""
    small = Image.fromarray(image)
    small.thumbnail((2 * SIDE_PX, 2 * SIDE_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def html_page(title: str, body: str) -> str:
    """A whole page."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )
