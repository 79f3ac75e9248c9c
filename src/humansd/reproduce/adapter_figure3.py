"""The figure of CN117392675A, and the numbers behind it: one prompt and seed, another pose; what else changes?

Stable Diffusion, the primary and the secondary adapter, and the rivals: the same seed with HumanSD, and both with
shared self-attention. Poses and masks are those of Atelier's true pairs. Resumable: the same call goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from humansd.core.arrays import ImageArray
from humansd.core.files import write_json, write_text
from humansd.core.lock import locked
from humansd.data.image_cache import to_unit
from humansd.data.pairs import Pair, read_pairs, resized_mask
from humansd.evaluation.pair_scores import PairRecord, compare_pairs, pair_table, score_pair
from humansd.inference.image_info import contact_sheet, write_png
from humansd.inference.series import draw_series
from humansd.models.clip_similarity import ClipScorer
from humansd.models.codec import decode_latents, encode_images
from humansd.models.digests import networks_digest
from humansd.models.estimators import PoseEstimator, load_estimator
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.pose.render import draw_people
from humansd.reproduce.adapter_limit import adapter_limit, check_limit
from humansd.reproduce.adapter_rows import CEILING, Figure3Settings, Row
from humansd.reproduce.adapter_table import REFERENCE, RIVAL, equal_ap, figure3_markdown, less_change
from humansd.training.checkpoint import settle_config


@dataclass(frozen=True)
class _Tools:
    estimator: PoseEstimator
    scorer: ClipScorer


def reproduce_adapter_figure3(settings: Figure3Settings, out: Path) -> str:
    """Writes figure-N.png, adapter_figure3.json and adapter_figure3.md to `out`, and returns the table.

    Raises:
        ValueError, OSError: a model or shards that cannot be read, or shards with fewer pairs; or `out` holds the
            figure of other settings.
    """
    with locked(out, "a figure"):
        return _reproduce(settings, out)


def _reproduce(settings: Figure3Settings, out: Path) -> str:
    pairs = list(itertools.islice(read_pairs(settings.test), settings.pairs))
    if len(pairs) < settings.pairs:
        raise ValueError(
            f"{settings.test}: holds {len(pairs)} true pairs, and {settings.pairs} are asked for; make more with "
            "`humansd data atelier --pairs`, or ask for fewer"
        )
    if settings.limit:
        check_limit(settings.primary, settings.test, settings.estimator)
    name, _, source = settings.held_out.partition("=")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tools = _Tools(load_estimator(name, source, device), ClipScorer.from_pretrained(settings.clip, device))
    records, drawn = {}, {}
    for row, how in settings.rows().items():
        pipeline, shared = how.load(device), how.shared
        folder = out / "rows" / row.replace(", ", "-").replace(" ", "-")
        settle_config(folder, _identity(settings, pipeline, how, tools, pairs), ())
        records[row] = _measured(settings, tools, pipeline, pairs, folder, shared)
        if how.weight == 1:  # the figure's columns
            drawn[row] = _series(settings, pipeline, pairs, folder, shared)
        if row == REFERENCE:
            records[CEILING] = _ceiling(tools, pipeline, pairs)
    _figures(settings, pairs, drawn, out)
    results = {
        "settings": {**vars(settings), "sampling": settings.sampling.record()},
        "rows": {row: pair_table(some, settings.draws) for row, some in records.items()},
        "differences": _differences(settings, records, [row for row in records if row != CEILING], REFERENCE),
        "less_change": {
            row: less_change(some, records[REFERENCE], settings.draws)
            for row, some in records.items()
            if row not in (REFERENCE, CEILING)
        },
        "against_rival": _differences(settings, records, [name for name, _ in settings.secondary], RIVAL),
        "equal_ap": equal_ap(
            {name: [records[r] for r in some] for name, some in settings.families().items()}, settings.draws
        ),
        "limit": _limits(settings),
    }
    write_json(out / "adapter_figure3.json", _plain(results))
    table = figure3_markdown(results, _about(settings))
    write_text(out / "adapter_figure3.md", table)
    return table


def _identity(
    settings: Figure3Settings, pipeline: HumanSDPipeline, row: Row, tools: _Tools, pairs: Sequence[Pair]
) -> dict[str, Any]:
    """What makes the images and numbers of a row what they are, told by content."""
    parts = [pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.pose_network]
    shown = hashlib.sha256()
    for pair in pairs:
        for side in (pair.first, pair.second):
            shown.update(side.caption.encode() + side.people.xy.tobytes() + side.image.tobytes())
    known = ("prompts", "poses", "pairs", "seed", "batch_size")
    return {
        "weights": networks_digest([one for one in parts if one is not None]),
        "measures": networks_digest([*tools.estimator.networks, *tools.scorer.networks]),
        "data_digest": shown.hexdigest()[:16],
        "adapter_weight": row.weight,
        "shared": row.shared,
        "sampling": json.loads(json.dumps(settings.sampling.record())),
        **{name: getattr(settings, name) for name in known},
    }


def _about(settings: Figure3Settings) -> str:
    how = settings.sampling
    return (
        f"{settings.pairs} pairs of poses of {Path(settings.test).name}, found by {settings.held_out}; "
        f"{how.num_inference_steps} denoising steps, guidance {how.guidance_scale}, pose guidance "
        f"{how.pose_guidance_scale}. 95 % intervals over the pairs. One training seed: preliminary. "
        f"{CEILING}: Atelier's own images through the autoencoder."
    )


def _measured(
    settings: Figure3Settings,
    tools: _Tools,
    pipeline: HumanSDPipeline,
    pairs: Sequence[Pair],
    folder: Path,
    shared: bool,
) -> list[PairRecord]:
    """The records of a row; those of a chunk that is done are read."""
    folder.mkdir(parents=True, exist_ok=True)
    size = settings.sampling.size or pipeline.default_size
    records: list[PairRecord] = []
    for start in range(0, len(pairs), settings.batch_size):
        chunk, path = pairs[start : start + settings.batch_size], folder / f"pairs-{start:06d}.json"
        if not path.exists():
            images = _draw_pairs(settings, pipeline, chunk, start, size, shared)
            write_json(path, [one.to_json() for one in _records(tools, chunk, images, size)])
        records += [PairRecord.from_json(one) for one in json.loads(path.read_text())]
    return records[: len(pairs)]


def _draw_pairs(
    settings: Figure3Settings,
    pipeline: HumanSDPipeline,
    chunk: Sequence[Pair],
    start: int,
    size: tuple[int, int],
    shared: bool,
) -> list[tuple[ImageArray, ImageArray]]:
    """Both images of each pair, uint8 (h, w, 3)."""
    poses = [[side.people.fit(*size) for side in (pair.first, pair.second)] for pair in chunk]
    seeds = [settings.seed + start + i for i in range(len(chunk))]
    prompts = [pair.first.caption for pair in chunk]
    images: list[Image.Image] = []
    if shared:  # a series has a first image of its own
        for prompt, both, seed in zip(prompts, poses, seeds, strict=True):
            images += draw_series(pipeline, prompt, both, seed, sampling=settings.sampling, shared=True)
    else:
        everyone = list(itertools.chain.from_iterable(poses))
        texts, numbers = [text for text in prompts for _ in range(2)], [seed for seed in seeds for _ in range(2)]
        images = draw_series(pipeline, texts, everyone, numbers, sampling=settings.sampling)
    arrays = [np.asarray(image) for image in images]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _records(
    tools: _Tools, chunk: Sequence[Pair], images: Sequence[tuple[ImageArray, ImageArray]], size: tuple[int, int]
) -> list[PairRecord]:
    found = tools.estimator.detect([second for _, second in images])
    texts = [tools.scorer.scores([both[side] for both in images], [p.first.caption for p in chunk]) for side in (0, 1)]
    records = []
    for pair, both, people, text in zip(chunk, images, found, np.mean(texts, axis=0), strict=True):
        poses: tuple[People, People] = (pair.first.people.fit(*size), pair.second.people.fit(*size))
        records.append(score_pair(both, poses, resized_mask(pair.changes, size), people, float(text)))
    return records


@torch.no_grad()
def _ceiling(tools: _Tools, pipeline: HumanSDPipeline, pairs: Sequence[Pair]) -> list[PairRecord]:
    """The true pairs through the autoencoder."""
    records: list[PairRecord] = []
    for start in range(0, len(pairs), 8):
        chunk = pairs[start : start + 8]
        size = (chunk[0].first.image.shape[1], chunk[0].first.image.shape[0])
        sides = []
        for side in ("first", "second"):
            unit = to_unit(np.stack([getattr(pair, side).image for pair in chunk])).to(pipeline.device)
            back = decode_latents(pipeline.vae, encode_images(pipeline.vae, unit)).float().clamp(-1, 1)
            sides.append(((back + 1) * 127.5).round().permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8))
        records += _records(tools, chunk, list(zip(*sides, strict=True)), size)
    return records


def _series(
    settings: Figure3Settings, pipeline: HumanSDPipeline, pairs: Sequence[Pair], folder: Path, shared: bool
) -> list[list[Image.Image]]:
    """For each prompt of the figure the images of its poses, which are read where they are there."""
    size, made = settings.sampling.size or pipeline.default_size, []
    poses = [pose.fit(*size) for pose in _figure_poses(settings, pairs)]
    for number, pair in enumerate(pairs[: settings.prompts]):
        paths = [folder / f"figure-{number}-{place}.png" for place in range(len(poses))]
        if not all(path.exists() for path in paths):
            seed = settings.seed + number
            images = draw_series(pipeline, pair.first.caption, poses, seed, sampling=settings.sampling, shared=shared)
            for path, image in zip(paths, images, strict=True):
                write_png(path, image, {"prompt": pair.first.caption, "seed": seed})
        made.append([Image.open(path).convert("RGB") for path in paths])
    return made


def _figure_poses(settings: Figure3Settings, pairs: Sequence[Pair]) -> list[People]:
    sides = [side.people for pair in pairs for side in (pair.first, pair.second)]
    return sides[: settings.poses]


def _figures(
    settings: Figure3Settings, pairs: Sequence[Pair], drawn: dict[str, list[list[Image.Image]]], out: Path
) -> None:
    """A sheet for each prompt: poses down, the skeleton and the rows across."""
    columns = " | ".join(["skeleton", *drawn])
    for number, pair in enumerate(pairs[: settings.prompts]):
        rows = []
        for place, pose in enumerate(_figure_poses(settings, pairs)):
            images = [np.asarray(made[number][place]) for made in drawn.values()]
            size = (images[0].shape[1], images[0].shape[0])
            label = f"{pair.first.caption}" if place else columns
            rows.append((draw_people(pose, size=size), images, label))
        write_png(out / f"figure-{number + 1}.png", contact_sheet(rows), {"prompt": pair.first.caption})


def _differences(
    settings: Figure3Settings, records: dict[str, list[PairRecord]], rows: Sequence[str], reference: str
) -> dict[str, dict[str, Any]]:
    """Row -> metric -> its difference from the reference's."""
    found = {row: compare_pairs(records[row], records[reference], settings.draws) for row in rows if row != reference}
    return {row: {metric: dataclasses.asdict(one) for metric, one in by.items()} for row, by in found.items()}


def _limits(settings: Figure3Settings) -> dict[str, dict[str, float]]:
    if not settings.limit:
        return {}
    how: dict[str, Any] = {"pairs": settings.limit, "batch_size": settings.batch_size, "estimator": settings.estimator}
    named = {REFERENCE: settings.primary, **dict(settings.secondary)}
    return {row: adapter_limit(settings.primary, folder, settings.test, **how) for row, folder in named.items()}


def _plain(value: Any) -> Any:
    """The same with None for what is no number."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
