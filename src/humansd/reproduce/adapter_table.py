"""The table of the patent's figure 3: rows with intervals, differences, and adapters compared at equal AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from humansd.evaluation.pair_scores import METRICS, PairRecord, statistic_of
from humansd.evaluation.tables import markdown_table
from humansd.metrics.bootstrap import Draws, bootstrap_interval

REFERENCE = "primary"
RIVAL = "primary, shared attention"
EQUAL = ("mse", "psnr", "ssim")
NO_EQUAL = "No AP that all of them reach: each was drawn with one weight (see `--weight`), or their APs lie apart."
AIMS = "Aims: background MSE of the secondary at least 30 % below the primary's at no loss of AP; PSNR 27.2 dB or more."


def figure3_markdown(results: dict[str, Any], about: str) -> str:
    """The rows with their intervals, their differences from the primary, and the loss beside its limit. about: what was
    drawn, and how."""
    titles = ["", *(title for title, _, _ in METRICS.values())]
    rows = [[row, *(_cell(found[m], m) for m in METRICS)] for row, found in results["rows"].items()]
    less = [
        [row, _share(found["value"]), f"{_share(found['low'])} to {_share(found['high'])}"]
        for row, found in results["less_change"].items()
    ]
    pieces = [
        "# The patent's figure 3: one prompt and seed, another pose",
        about,
        markdown_table(titles, rows),
        f"## Against {REFERENCE}",
        _difference_table(results["differences"]),
        f"How much smaller the background's MSE is than the {REFERENCE}'s, in per cent:",
        markdown_table(["", "smaller by", "95 % interval"], less),
        AIMS,
        f"## Against {RIVAL}",
        _difference_table(results["against_rival"]),
        "## At equal AP, between the rows of an adapter's weights",
    ]
    if results["equal_ap"]:
        equal = [
            [name, f"{found['ap']:.1f}", *(_cell(found[metric], metric) for metric in EQUAL)]
            for name, found in results["equal_ap"].items()
        ]
        pieces += [markdown_table(["", "AP", *(METRICS[metric][0] for metric in EQUAL)], equal)]
    else:
        pieces += [NO_EQUAL]
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


def _difference_table(differences: dict[str, Any]) -> str:
    rows = [
        [row, METRICS[metric][0], *_difference(one, metric)]
        for row, found in differences.items()
        for metric, one in found.items()
    ]
    return markdown_table(["", "metric", "difference", "95 % interval", "p"], rows)


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f}"


def less_change(records: Sequence[PairRecord], reference: Sequence[PairRecord], draws: int = 1000) -> dict[str, float]:
    """1 - MSE / MSE of the reference, of the backgrounds of the same pairs, with the ends of its 95 % interval."""
    ours, theirs = statistic_of(records, "mse"), statistic_of(reference, "mse")

    def share(drawn: Draws) -> float:
        against = theirs(drawn)
        return 1 - ours(drawn) / against if against else float("nan")

    return asdict(bootstrap_interval(share, len(records), n_draws=draws))


def equal_ap(families: dict[str, list[list[PairRecord]]], draws: int = 1000) -> dict[str, dict[str, Any]]:
    """What each adapter's background is worth at the highest AP that all of them reach, on straight lines between its
    rows: `ap`, and of each of `EQUAL` the value with the ends of its 95 % interval over the pairs.

    families: adapter -> the records of its rows, at some weights. {} where there is one weight, or no AP that all have.
    """
    statistics = {
        name: [{m: statistic_of(row, m) for m in ("ap", *EQUAL)} for row in rows] for name, rows in families.items()
    }
    whole = {name: np.ones(len(rows[0]), np.int64) for name, rows in families.items()}
    reached = {name: [row["ap"](whole[name]) for row in rows] for name, rows in statistics.items()}
    low, high = max(map(min, reached.values())), min(map(max, reached.values()))
    if min(map(len, reached.values())) < 2 or low > high:
        return {}

    def between(name: str, metric: str) -> Any:
        def value(drawn: Draws) -> float:
            points = sorted((row["ap"](drawn), row[metric](drawn)) for row in statistics[name])
            known, values = zip(*points, strict=True)
            return float(np.interp(high, known, values))

        return value

    return {
        name: {
            "ap": high,
            **{m: asdict(bootstrap_interval(between(name, m), len(rows[0]), n_draws=draws)) for m in EQUAL},
        }
        for name, rows in families.items()
    }
