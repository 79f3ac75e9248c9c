"""The table of the patent's figure 3: rows with intervals, differences, and adapters compared at equal AP."""

from __future__ import annotations

from typing import Any

import numpy as np

from humansd.evaluation.pair_scores import METRICS, PairRecord, statistic_of
from humansd.evaluation.tables import markdown_table

REFERENCE = "primary"
AIMS = "Aims: background MSE of the secondary at least 30 % below the primary's at no loss of AP; PSNR 27.2 dB or more."


def figure3_markdown(results: dict[str, Any], about: str) -> str:
    """The rows with their intervals, their differences from the primary, and the loss beside its limit. about: what was
    drawn, and how."""
    titles = ["", *(title for title, _, _ in METRICS.values())]
    rows = [[row, *(_cell(found[m], m) for m in METRICS)] for row, found in results["rows"].items()]
    differences = [
        [row, METRICS[metric][0], *_difference(one, metric)]
        for row, found in results["differences"].items()
        for metric, one in found.items()
    ]
    pieces = [
        "# The patent's figure 3: one prompt and seed, another pose",
        about,
        markdown_table(titles, rows),
        f"## Against {REFERENCE}",
        markdown_table(["", "metric", "difference", "95 % interval", "p"], differences),
        AIMS,
    ]
    if results["equal_ap"]:
        equal = [[name, *(f"{found[key]:.3g}" for key in ("ap", "mse", "psnr", "ssim"))] for name, found in
                 results["equal_ap"].items()]  # fmt: skip
        titles = ["", "AP", *(METRICS[metric][0] for metric in ("mse", "psnr", "ssim"))]
        pieces += ["## At equal AP, between the rows of an adapter's weights", markdown_table(titles, equal)]
    if results["limit"]:
        names = list(next(iter(results["limit"].values())))
        limits = [[row, *(f"{found[name]:.4g}" for name in names)] for row, found in results["limit"].items()]
        pieces += [
            "## The loss of the 10 least noisy steps, and the least it can be",
            markdown_table(["", *names], limits),
        ]
    return "\n\n".join(pieces) + "\n"


def _cell(found: dict[str, float], metric: str) -> str:
    digits = METRICS[metric][1]
    if np.isnan(found["value"]):
        return "-"
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def _difference(found: dict[str, float], metric: str) -> list[str]:
    digits = METRICS[metric][1]
    if np.isnan(found["difference"]):
        return ["-", "-", "-"]
    ends = f"{found['low']:+.{digits}f} to {found['high']:+.{digits}f}"
    return [f"{found['difference']:+.{digits}f}", ends, f"{found['p']:.3f}"]


def equal_ap(families: dict[str, list[list[PairRecord]]]) -> dict[str, dict[str, float]]:
    """What each adapter's background is worth at the highest AP that all of them reach, between its rows.

    families: adapter -> the records of its rows, at some weights. {} where there is one weight, or no AP that all have.
    """
    curves = {}
    for name, rows in families.items():
        whole = np.ones(len(rows[0]), np.int64)
        points = [{m: statistic_of(row, m)(whole) for m in ("ap", "mse", "psnr", "ssim")} for row in rows]
        curves[name] = sorted(points, key=lambda point: point["ap"])
    low, high = max(c[0]["ap"] for c in curves.values()), min(c[-1]["ap"] for c in curves.values())
    if min(map(len, curves.values())) < 2 or low > high:
        return {}
    found = {}
    for name, points in curves.items():
        known = [point["ap"] for point in points]
        values = {m: float(np.interp(high, known, [point[m] for point in points])) for m in ("mse", "psnr", "ssim")}
        found[name] = {"ap": high, **values}
    return found
