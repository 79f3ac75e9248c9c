"""Line charts as SVG, for pages that need nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 150, 28, 44  # px around the plot; the names of the lines stand on the right
COLORS = ("#3b6ea8", "#c8553d", "#3a8f5c", "#8a5aa8", "#b88a1e", "#4aa3b5", "#7a7a7a", "#c45a94")
MOST_LABELS = 8
Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_title: str, lines: Mapping[str, Points], labels: Sequence[str] = ()) -> str:
    """An SVG of lines by name, each of points (x, y).

    labels: names of the places 0, 1, 2 ... on the x axis, where they are no numbers. Lines without points are left
    out; with no point at all the chart says so.
    """
    points = [point for line in lines.values() for point in line]
    head = f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>'
    if not points:
        return _svg(f'{head}<text x="{LEFT}" y="{TOP + 30}">no values</text>')
    x_ticks = [float(n) for n in range(len(labels))] or ticks(*_ends([x for x, _ in points]))
    y_ticks = ticks(*_ends([y for _, y in points]))
    scale = _Scale(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    names = _some(labels) or [_number(x) for x in x_ticks]
    parts = [head, *_grid(scale, list(zip(x_ticks, names, strict=True)), y_ticks)]
    parts.append(f'<text x="{LEFT + _plot_width() / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        if line:
            parts.append(_line(scale, line, COLORS[number % len(COLORS)], number >= len(COLORS)))
            parts.append(_legend(name, COLORS[number % len(COLORS)], number))
    return _svg("".join(parts))


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers from at or below `low` to at or above `high`."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


class _Scale:
    """From values to px of the SVG."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self._x, self._y = (x_low, (x_high - x_low) or 1.0), (y_low, (y_high - y_low) or 1.0)

    def x(self, value: float) -> float:
        return LEFT + _plot_width() * (value - self._x[0]) / self._x[1]

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - self._y[0]) / self._y[1]


def _some(labels: Sequence[str]) -> list[str]:
    """As many of them as there is room for; the others empty."""
    every = math.ceil(len(labels) / MOST_LABELS) or 1
    return [label if number % every == 0 else "" for number, label in enumerate(labels)]


def _plot_width() -> float:
    return float(WIDTH - LEFT - RIGHT)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _grid(scale: _Scale, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[float]) -> list[str]:
    parts = []
    for value in y_ticks:
        y = scale.y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--rule)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value, name in x_ticks:
        text = f'<text x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>'
        parts.append(text)
    return parts


def _line(scale: _Scale, line: Points, color: str, dashed: bool) -> str:
    places = [(scale.x(x), scale.y(y)) for x, y in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>{dots}'


def _legend(name: str, color: str, number: int) -> str:
    x, y = WIDTH - RIGHT + 12, TOP + 6 + 18 * number
    return (
        f'<line x1="{x}" x2="{x + 16}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="3"/>'
        f'<text x="{x + 22}" y="{y + 4}">{escape(name)}</text>'
    )


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"


def _svg(body: str) -> str:
    return f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg>'
