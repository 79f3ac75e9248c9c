"""Learning curves and numbers of people of a table 1 that was made here, as charts: AP over samples, over training
FLOPs, and by how many people are asked for."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humansd.core.files import write_json, write_text
from humansd.evaluation.report import html_page
from humansd.reproduce.charts import line_chart
from humansd.reproduce.runs import standing
from humansd.reproduce.table1 import curve_flops

CROWDS = ("1 person", "2 people", "3 people", "4 to 8 people")


def draw_figure7(table: Path, out: Path) -> dict[str, Any]:
    """Writes figure7.json and figure7.html to `out` from the folder of a table 1; returns what the JSON holds.

    Raises:
        ValueError: no table 1 in `table`, or a damaged one.
    """
    file = table / "table1.json"
    if not file.is_file():
        raise ValueError(
            f"{file}: no such table; make it with `humansd reproduce table1 --curve-steps N --out {table}`"
        )
    try:
        results = json.loads(file.read_text())
        values = figure7_values(results)
        seeds = results["settings"]["seeds"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: damaged ({error!r}); give the `humansd reproduce table1` command again") from None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "figure7.json", values)
    charts = [
        line_chart("AP by samples", "training samples", _points(values["samples"])),
        line_chart("AP by training FLOPs", "forward passes of the base's UNet", _points(values["flops"])),
        line_chart("AP by people asked for", "", _points(values["people"]), CROWDS),
    ]
    about = f"<p>Of {results['settings']['test']}, found by {results['settings']['held_out']}. {standing(seeds)}</p>"
    write_text(out / "figure7.html", html_page("HumanSD: learning curves and crowds", about + "\n".join(charts)))
    return values


def figure7_values(results: Mapping[str, Any]) -> dict[str, dict[str, list[list[float]]]]:
    """samples, flops: run -> [[samples, or forward passes of the base's UNet, AP in percent], ...]; flops without runs
    whose loss asks an estimator, which is not counted. people: row ->
    [[place in `CROWDS`, AP in percent, the mean over its runs], ...], of groups with a value."""
    flops = curve_flops(dict(results))
    curves = {name: [[n, 100 * ap] for n, ap in curve] for name, curve in results["curves"].items()}
    spent = {name: [[n * flops[name], ap] for n, ap in curve] for name, curve in curves.items() if name in flops}
    people: dict[str, list[list[float]]] = {}
    for row in results["settings"]["rows"]:
        runs = [one for name, one in results["scores"].items() if name == row or name.rpartition("-")[0] == row]
        people[row] = []
        for place, crowd in enumerate(CROWDS):
            found = [run["groups"][crowd]["generated"]["ap"] for run in runs if crowd in run["groups"]]
            if found and None not in found:
                people[row].append([place, 100 * statistics.mean(found)])
    return {"samples": curves, "flops": spent, "people": people}


def _points(lines: Mapping[str, list[list[float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [(x, y) for x, y in line] for name, line in lines.items()}
