"""The numbers of a run, and of runs side by side, as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from humansd.core.markdown import markdown_table
from humansd.evaluation.doubts import doubted, doubts


@dataclass(frozen=True)
class Column:
    """How a score is shown: its `key` in the results under the `title`, `scale` times its value, with `digits`;
    `share`: against the ceiling as a share."""

    key: str
    title: str
    scale: float
    digits: int
    share: bool


COLUMNS = (
    Column("ap", "AP", 100, 1, True),
    Column("ap_small", "AP(s)", 100, 1, True),
    Column("ap_medium", "AP(m)", 100, 1, True),
    Column("ap_large", "AP(l)", 100, 1, True),
    Column("cap", "CAP", 100, 1, True),
    Column("pce", "PCE", 1, 2, False),
    Column("clipsim", "CLIPSIM", 1, 2, False),
)

COLORS = (
    Column("color", "colour of tops right", 100, 1, True),
    Column("color person 2", "colour of tops right, person 2", 100, 1, True),
)


def color_title(group: str) -> str:
    """What the share of right colours of a group ("all", "person 2" ...) is called."""
    return COLORS[0].title + ("" if group == "all" else f", {group}")


def shown(value: float | None, scale: float = 1, digits: int = 2) -> str:
    """A number for a table, "-" where there is none."""
    return "-" if value is None else f"{scale * value:.{digits}f}"


def against_ceiling(column: Column, generated: float | None, ceiling: float | None) -> str:
    """AP and CAP as a share of the ceiling, the others as the difference from it."""
    if generated is None or ceiling is None or (column.share and not ceiling):
        return "-"
    if column.share:
        return f"{100 * generated / ceiling:.0f} %"
    return f"{generated - ceiling:+.{column.digits}f}"


def distance_titles(name: str, is_fid: bool) -> tuple[str, str]:
    """Names of the Frechet and the kernel distance: FID and KID only on the published Inception-v3's features."""
    return ("FID", "KID x 10") if is_fid else (f"Frechet distance, {name}", f"kernel distance x 10, {name}")


def summary_rows(results: dict[str, Any]) -> list[list[str]]:
    """Metric, value, 95 % interval, ceiling, value against the ceiling: one row each, of all images."""
    everything, intervals = results["groups"]["all"], results["intervals"]
    generated, ceiling = everything["generated"], everything["ceiling"]
    rows, unsure = [], doubted(results)
    for column in COLUMNS:
        row = [column.title, shown(generated[column.key], column.scale, column.digits)]
        row.append(interval_text(intervals.get(column.key), column.scale, column.digits))
        row.append(shown(ceiling[column.key], column.scale, column.digits))
        share = "-" if column.key in unsure else against_ceiling(column, generated[column.key], ceiling[column.key])
        rows.append([*row, share])
    for group, one in results["colors"].items():
        key = "color" if group == "all" else f"color {group}"
        row = [color_title(group), shown(one["generated"], 100, 1), interval_text(intervals.get(key), 100, 1)]
        share = against_ceiling(COLORS[0], one["generated"], one["ceiling"])
        rows.append([*row, shown(one["ceiling"], 100, 1), share])
    rows.append(["CAP of shuffled poses", shown(results["chance"]["cap"], 100, 1), "-", "-", "-"])
    for name, one in results["distances"].items():
        frechet, kernel = distance_titles(name, one["is_fid"])
        interval = interval_text(intervals.get(f"frechet {name}"))
        rows.append([frechet, shown(one["frechet"]), interval, "0", "-"])
        spread = "" if one["kernel_std"] is None else f" ± {10 * one['kernel_std']:.3f}"
        rows.append([kernel, shown(one["kernel"], 10, 3) + spread, "-", "0", "-"])
        rows.append([f"{frechet}, mean of scenes", shown(one["scene_mean"]["frechet"]), "-", "0", "-"])
        rows.append([f"{kernel}, mean of scenes", shown(one["scene_mean"]["kernel"], 10, 3), "-", "0", "-"])
    return rows


def interval_text(ends: Sequence[float | None] | None, scale: float = 1, digits: int = 2) -> str:
    """ "low to high", "-" where there is none."""
    if not ends or ends[0] is None or ends[1] is None:
        return "-"
    return f"{scale * ends[0]:.{digits}f} to {scale * ends[1]:.{digits}f}"


def group_table(results: dict[str, Any]) -> list[list[str]]:
    """Group, images, people, every score and, behind a stroke, its ceiling: one row for each group of images."""
    return [
        [
            name,
            str(one["generated"]["images"]),
            str(one["generated"]["people"]),
            *(_beside(c, one["generated"][c.key], one["ceiling"][c.key]) for c in COLUMNS),
        ]
        for name, one in results["groups"].items()
    ]


def _beside(column: Column, generated: float | None, ceiling: float | None) -> str:
    """ "value / ceiling", the value alone where there is no ceiling."""
    value = shown(generated, column.scale, column.digits)
    return value if ceiling is None else f"{value} / {shown(ceiling, column.scale, column.digits)}"


def clip_text(results: dict[str, Any]) -> str:
    """Whether CLIPSIM comes from the model's own text encoder, in one sentence; "" where nothing was compared."""
    clip = results.get("text_model")
    if not clip:
        return ""
    name = results["settings"]["clip"]["name"]
    alike = "" if clip["cosine"] is None else f" (mean cosine of the weights {clip['cosine']:.4f})"
    if clip["shared"]:
        return (
            f"CLIPSIM is not independent: the text tower of the CLIP {name!r} is the model's own{alike}; give another "
            "with --clip FOLDER."
        )
    return f"The text tower of the CLIP {name!r} is not the model's{alike}."


def time_text(time: dict[str, Any] | None) -> str:
    """What an image costs, in one sentence; "" where it was not measured."""
    if time is None:
        return ""
    width, height = time["size"]
    return (
        f"An image of {width} x {height} px takes {time['seconds']:.2f} s (quartiles {time['low']:.2f} to "
        f"{time['high']:.2f}, {time['runs']} runs, one at a time) on {time['device']}: {time['gflop']:.0f} GFLOP, "
        f"{100 * time['utilisation']:.0f} % of the {time['peak_gflops']:.0f} GFLOP/s that a matrix product reaches "
        f"there; peak memory {time['memory_mb']:.0f} MB."
    )


def cut_text(results: dict[str, Any]) -> str:
    """How real images (or poses) of another shape than the generated ones were brought to it; "" where none was."""
    window, centre = results["cuts"]["window"], results["cuts"]["centre"]
    if not window + centre:
        return ""
    what = "real images" if results["real_images"] else "images of which the poses are known"
    return (
        f"{window + centre} {what} have another shape than the generated ones and were cut to it: {window} to "
        f"the largest window that holds everyone; {centre}, where none does, in the middle (the published resize and "
        "centre crop), joints outside dropped."
    )


def heading(results: dict[str, Any]) -> str:
    """What was evaluated, in one sentence."""
    settings = results["settings"]
    sampling = settings["sampling"]
    blind = ", without poses" if settings.get("text_only") else ""
    size = sampling.get("size")
    shape = f"{size[0]} x {size[1]} px, " if size else ""
    samples = "samples" if results["real_images"] else "poses without images"
    least = settings.get("min_joints", 1)
    joints = f"; AP asks for people with at least {least} joints, the others are ignored" if least > 1 else ""
    estimator = settings["estimator"]
    estimator = estimator["name"] if isinstance(estimator, dict) else estimator  # older versions
    data = f"{settings['data']['samples']} {samples} of {settings['data']['name']}"
    measured = f"poses found by {estimator}; people counted from a score of {results['count_threshold']}{joints}."
    until = sampling.get("guidance_end")
    part = "" if until in (None, 1) else f" until {until:.0%} of the steps"
    if "images" in settings["model"]:
        return f"The images in {settings['model']['name']}, {shape.rstrip(', ')}, for {data}; {measured}"
    return (
        f"{settings['model']['name']} on {data}, {shape}{sampling['num_inference_steps']} steps, guidance "
        f"{sampling['guidance_scale']:g}, pose guidance {sampling['pose_guidance_scale']:g}{part}, seeds "
        f"from {settings['seed']}{blind}; {measured}"
    )


def images_text(results: dict[str, Any]) -> str:
    """How many images of another tool were not measured, and why; "" of a model, and where all were."""
    images = results.get("images")
    if not images or not (images["left_out"] or images["extra"]):
        return ""
    said = []
    for reason, count in images["left_out"].items():
        said.append(f"{count} x {reason} ({_some(images['examples'][reason], count)})")
    if images["extra"]:
        said.append(
            f"{images['extra']} images belong to no sample ({_some(images['extra_examples'], images['extra'])})"
        )
    measured = images["samples"] - sum(images["left_out"].values())
    return f"Of {images['samples']} samples the images of {measured} are measured: {'; '.join(said)}."


def _some(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (", ..." if count > len(names) else "")


SUMMARY_HEAD = ["metric", "value", "95 % interval", "ceiling", "against the ceiling"]
GROUP_HEAD = ["images", "n", "people", *(column.title for column in COLUMNS)]
GROUP_NOTE = "Each score beside its ceiling: value / ceiling."


def as_markdown(results: dict[str, Any]) -> str:
    """The tables of results.json."""
    paper = results["paper"]
    parts = [
        "# Evaluation",
        *(f"**{doubt}**" for doubt in doubts(results)),
        heading(results),
        images_text(results),
        cut_text(results),
        markdown_table(SUMMARY_HEAD, summary_rows(results)),
        time_text(results.get("time")),
        clip_text(results),
        "## By number of people and scene",
        GROUP_NOTE if results["real_images"] else "",
        markdown_table(GROUP_HEAD, group_table(results)),
        "## Published definitions",
        "Only for comparison with old tables; docs/metrics.md says how they differ.",
        f"AP of batches {shown(paper['ap'], 100, 1)}, CAP {shown(paper['cap'], 100, 1)} (shuffled poses "
        f"{shown(paper['cap_shuffled'], 100, 1)}), PCE of all detections {shown(paper['pce'])}.",
        *(f"Note: {note}." for note in results["notes"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
