"""The HTML page of a data set: one file without anything from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.core.counting import people_text
from humansd.core.files import write_text
from humansd.data.sample import Sample
from humansd.pose.images import overlay

TILE_PX = 200
_STYLE = """\
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; color: #222; }
h2 { margin-top: 2em; } table { border-collapse: collapse; } td, th { padding: .15em .8em .15em 0; text-align: left; }
td.bar div { background: #4a90a4; height: .8em; } td.bar { width: 16em; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px; }
.sheet figure { margin: 0; } .sheet img { width: 100%; height: auto; } figcaption { font-size: 12px; color: #444; }
.thumbs img { margin: 2px; vertical-align: top; } .columns { display: flex; flex-wrap: wrap; gap: 3em; }
"""


def write_page(
    path: Path,
    title: str,
    numbers: Mapping[str, Any],
    samples: Sequence[Sample],
    left_out: Mapping[str, Sequence[bytes]],
) -> None:
    """Writes the page: numbers as tables with bars, the samples' images under their skeletons, what was left out."""
    tables = "".join(_table(name, value) for name, value in numbers.items() if name != "left out")
    figures = "".join(_figure(sample) for sample in samples)
    counts = numbers.get("left out", {})
    gone = "".join(_reason(name, counts.get(name, 0), images) for name, images in left_out.items())
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><div class=columns>{tables}</div>"
        f"<h2>Samples</h2><div class=sheet>{figures}</div>"
        f"<h2>Left out</h2>{gone or '<p>Nothing, or it is not on record.</p>'}</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def _table(name: str, value: Any) -> str:
    title = f"<h2>{html.escape(name)}</h2>"
    if not isinstance(value, dict):
        return f"<div>{title}<p>{html.escape(str(value))}</p></div>"
    total = max((_size(v) for v in value.values()), default=0) or 1
    rows = "".join(
        f"<tr><td>{html.escape(str(key) or '-')}<td>{html.escape(str(v).strip('[]'))}"
        f'<td class=bar><div style="width:{100 * _size(v) / total:.1f}%"></div>'
        for key, v in list(value.items())[:60]
    )
    return f"<div>{title}<table>{rows}</table></div>"


def _size(value: Any) -> float:
    """What the bar of a row is as long as: the number, or the first of several."""
    return float(value[0] if isinstance(value, list) else value)


def _figure(sample: Sample) -> str:
    words = f"{sample.key}: {sample.caption}"
    height, width = sample.image.shape[:2]
    facts = f"{people_text(sample.people.n)}, {sample.scene or 'no scene'}, {width} x {height}"
    return (
        f"<figure>{_img(_with_skeleton(sample))}<figcaption>{html.escape(words[:300])}<br>"
        f"<b>{html.escape(facts)}</b></figcaption></figure>"
    )


def _with_skeleton(sample: Sample) -> bytes:
    """The image, a little darkened, with its skeletons, as a JPEG of `TILE_PX` px."""
    height, width = sample.image.shape[:2]
    scale = TILE_PX / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = np.asarray(Image.fromarray(sample.image).resize(size, Image.Resampling.BOX))
    shown = overlay(image, sample.people.resize(*size), light=0.7)
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _reason(name: str, count: int, images: Sequence[bytes]) -> str:
    thumbs = "".join(_img(data) for data in images)
    return f"<h3>{html.escape(name)}: {count}</h3><div class=thumbs>{thumbs}</div>"


def _img(data: bytes) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
