"""The page of docs/ that puts Atelier's framing beside that of real photographs: numbers and histograms.

    python -m humansd.synthetic.framing_page --docs docs

renders `--count` images of a seed that no set uses and writes `atelier.md` and `atelier-framing.png`. "Before" is
edition 1, counted once and kept in the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from humansd.core.markdown import markdown_table
from humansd.pose.people import People
from humansd.synthetic.framing import ASSET, FULL_SHARE, VIEWS, annotated, table
from humansd.synthetic.framing_stats import measure
from humansd.synthetic.render import EDITION, stage_image

SEED = 900_256
SIDE = 96
PANELS = {
    "people_per_image": "people in an image (8: or more)",
    "joints": "labelled joints of a person",
    "height": "height of a person, twentieths of the frame",
    "view": "seen to the feet, knees, hips, shoulders",
    "x": "place across, twentieths",
    "y": "place from the top, twentieths",
}
# OpenCV's order: blue, green, red.
COLORS = {"real": (60, 60, 60), "new": (190, 120, 30), "before": (70, 150, 240)}
TEXT = ASSET.parent / "framing_page.md"
Counts = Mapping[str, Any]


def ours(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """`framing_stats.measure` of `count` images as annotators would label them: of all, of those framed as real."""
    everything, framed, inside, flags = [], [], [], []
    rng = np.random.default_rng(SEED)
    for i in range(count):
        made = stage_image(np.random.default_rng((SEED, i)), SIDE)
        people = made.buffers.people
        noted = People.of(people.xy, people.canvas, visibility=annotated(people, rng))
        everything.append(noted)
        inside.append(people.labelled.all(axis=1))
        flags.append(made.framed)
        if made.framed:
            framed.append(noted)
    counts = measure(everything), measure(framed)
    whole = [np.concatenate(inside), np.concatenate([w for w, f in zip(inside, flags, strict=True) if f])]
    return ({**counts[0], "inside": f"{whole[0].mean():.0%}"}, {**counts[1], "inside": f"{whole[1].mean():.0%}"})


def shares(counts: Sequence[int]) -> np.ndarray:
    """Counts as shares of their sum."""
    return np.asarray(counts, float) / max(sum(counts), 1)


def distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Largest difference of two cumulative distributions (Kolmogorov, Smirnov), 0..1."""
    return float(np.abs(np.cumsum(shares(a)) - np.cumsum(shares(b))).max())


def chart(series: Mapping[str, Counts]) -> np.ndarray:
    """Histograms of `PANELS`, two a row, each with a bar for each series: uint8 BGR."""
    wide, tall = 460, 190
    image = np.full((tall * ((len(PANELS) + 1) // 2), 2 * wide, 3), 255, np.uint8)
    for i, (name, title) in enumerate(PANELS.items()):
        panel = image[(i // 2) * tall : (i // 2 + 1) * tall, (i % 2) * wide : (i % 2 + 1) * wide]
        _panel(panel, title, {who: shares(counts[name]) for who, counts in series.items()})
    for k, who in enumerate(series):
        _text(image, who, (wide - 230 + 70 * k, 34), COLORS[who])
    return image


def _text(image: np.ndarray, words: str, where: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(image, words, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)


def _panel(panel: np.ndarray, title: str, series: Mapping[str, np.ndarray]) -> None:
    height, width = panel.shape[:2]
    left, base, top = 12, height - 24, 44
    bars = len(next(iter(series.values())))
    most = max(float(values.max()) for values in series.values())
    step = (width - 2 * left) / bars
    for k, (who, values) in enumerate(series.items()):
        thick = step * 0.8 / len(series)
        for j, value in enumerate(values):
            x = left + j * step + k * thick
            y = base - value / most * (base - top)
            cv2.rectangle(panel, (round(x), round(y)), (round(x + thick) - 1, base), COLORS[who], -1)
    for j in range(0, bars, 1 if bars < 10 else 4):
        _text(panel, str(j), (round(left + j * step), height - 8), (90, 90, 90))
    _text(panel, f"{title} (highest bar {most:.0%})", (left, 16), (0, 0, 0))


def _quantiles(counts: Sequence[int]) -> str:
    """5th, 50th and 95th percentile of a histogram in twentieths, as shares."""
    total = np.cumsum(shares(counts))
    edges = [
        float(np.interp(q, np.concatenate([[0], total]), np.arange(len(counts) + 1))) / 20 for q in (0.05, 0.5, 0.95)
    ]
    return " / ".join(f"{edge:.2f}" for edge in edges)


def rows(series: Mapping[str, Counts]) -> list[list[str]]:
    """The table's lines, one value for each series."""
    lines: dict[str, list[str]] = {}

    def add(name: str, value: str) -> None:
        lines.setdefault(name, []).append(value)

    real = series["real"]
    for counts in series.values():
        joints, view = shares(counts["joints"]), shares(counts["view"])
        number = shares(counts["people_per_image"])
        add("people counted, in images", f"{counts['people']:,} in {counts['images']:,}")
        add("images with 1, 2 or 3, 4 to 8 or more people",
            f"{number[1]:.0%}, {number[2] + number[3]:.0%}, {number[4:].sum():.0%}")  # fmt: skip
        add("people with all 17 joints labelled", f"{joints[17]:.0%}")
        add("people with all 17 joints in the frame, hidden ones too", counts.get("inside", "unknown"))
        add("people with at most 8 joints", f"{joints[:9].sum():.0%}")
        for k, name in enumerate(VIEWS):
            add(f"seen down to: {name.replace('full', 'feet').replace('waist', 'hips')}", f"{view[k]:.0%}")
        add("height, share of the frame (5 / 50 / 95 %)", _quantiles(counts["height"]))
        add("place across (5 / 50 / 95 %)", _quantiles(counts["x"]))
        add("place from the top (5 / 50 / 95 %)", _quantiles(counts["y"]))
        for name in ("people_per_image", "joints", "height", "x", "y"):
            add(f"distance to real: {name.replace('_', ' ')}", f"{distance(counts[name], real[name]):.2f}")
    return [[name, *values] for name, values in lines.items()]


def page(series: Mapping[str, Counts]) -> str:
    """The page's text."""
    text = TEXT.read_text().replace("{table}", markdown_table(["", *series], rows(series)))
    return text.replace("{edition}", str(EDITION)).replace("{framed}", f"{1 - FULL_SHARE:.0%}")


def main() -> None:
    """Command line of the page's builder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    everything, framed = ours(args.count)
    made = table()
    series = {"real": made["real"], "framed": framed, "new": everything, "before": {**made["before"], "inside": "95%"}}
    (args.docs / "atelier.md").write_text(page(series))
    shown = {"real": made["real"], "new": framed, "before": made["before"]}
    cv2.imwrite(str(args.docs / "atelier-framing.png"), chart(shown), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{args.docs / 'atelier.md'}: {args.count} images counted")


if __name__ == "__main__":
    main()
