"""When the numbers of an evaluation mean nothing, said above them: what measures does not know these images."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.evaluation.records import Run, image_file
from humansd.evaluation.sources import Source
from humansd.models.clip_similarity import ClipScorer
from humansd.models.estimators import ImageArray

LEAST_CEILING = 0.20  # AP of the estimator on the real images
FEW = 32  # images of which an AP says little
COMPARED = 64  # images whose captions are shuffled
_KEYS = {"AP,": ("ap", "ap_small", "ap_medium", "ap_large", "cap", "pce"), "CLIPSIM": ("clipsim",)}
SURE = 2.0  # standard errors that true captions must be nearer


def text_check(scorer: ClipScorer, run: Run, out: Path, source: Source, size: tuple[int, int]) -> dict[str, Any] | None:
    """Whether the CLIP tells the captions of these images apart: of real ones where there are any, else of those drawn.

    Returns: `images`, how many; `true` and `shuffled`, their mean similarity with their own caption and with the next
    image's that differs; `gain`, the mean difference, and `error`, its standard error. None for a single caption.
    """
    images, texts = [], []
    if source.has_images:
        for cut in itertools.islice(source.cuts(size), COMPARED):
            if cut.image is not None:
                images.append(cut.image)
                texts.append(cut.caption)
    else:
        for record in run.records[:COMPARED]:
            images.append(_read(image_file(out, record.key)))
            texts.append(record.prompt)
    return compared(images, texts, scorer)


def compared(images: Sequence[ImageArray], prompts: Sequence[str], scorer: ClipScorer) -> dict[str, Any] | None:
    """See `text_check`."""
    others = [_other(prompts, number) for number in range(len(prompts))]
    if None in others or not prompts:
        return None
    true = scorer.scores(images, prompts)
    shuffled = scorer.scores(images, [other or "" for other in others])
    gains = true - shuffled
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    means = {"true": float(true.mean()), "shuffled": float(shuffled.mean()), "gain": float(gains.mean())}
    return {"images": len(images), **means, "error": error}


def read_text_check(folder: Path) -> dict[str, Any] | None:
    """What `text_check` found of a finished run; None where nothing is known."""
    try:
        check = json.loads((folder / "results.json").read_text())["text_check"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = {"images", "true", "shuffled", "gain", "error"}
    return check if isinstance(check, dict) and known <= check.keys() else None


def doubts(results: dict[str, Any]) -> list[str]:
    """A sentence for each reason not to believe the numbers of results.json; none is the usual case."""
    found = []
    ceiling = results["groups"]["all"]["ceiling"]["ap"]
    estimator = results["settings"]["estimator"]
    name = estimator["name"] if isinstance(estimator, dict) else estimator  # older versions
    if ceiling is not None and ceiling < LEAST_CEILING:
        data = results["settings"].get("data")
        few = isinstance(data, dict) and data.get("samples", FEW) < FEW
        remedy = f"{data['samples']} images may be too few to say, take more; or name" if few else "Name"
        found.append(
            f"AP, CAP and PCE mean nothing here: {name} reaches an AP of {100 * ceiling:.1f} on the real images "
            f"themselves. {remedy} an estimator that knows such images, for photographs --estimator movenet."
        )
    left_out = sum(results.get("images", {}).get("left_out", {}).values())
    if left_out:
        found.append(
            f"{left_out} samples have no image and are not in the numbers; they may be the hard ones. "
            "`humansd compare` takes only those that both runs have."
        )
    check = results.get("text_check")
    if check is not None and check["gain"] <= SURE * check["error"]:
        found.append(
            "CLIPSIM means nothing here: this CLIP does not tell the right caption from a wrong one. With their own "
            f"captions {check['images']} images have {check['true']:.1f}, with those of others "
            f"{check['shuffled']:.1f}; the difference is {check['gain']:.2f} ± {check['error']:.2f} (standard error). "
            "Name a CLIP that knows such images and words with --clip FOLDER_OR_ID."
        )
    return found


def doubted(results: dict[str, Any]) -> frozenset[str]:
    """The scores that mean nothing, by their keys in results.json: of them no share of a ceiling is told."""
    told = doubts(results)
    keys = [key for start, key in _KEYS.items() if any(doubt.startswith(start) for doubt in told)]
    return frozenset(key for several in keys for key in several)


def _other(prompts: Sequence[str], number: int) -> str | None:
    """The next image's caption that is another."""
    later = itertools.chain(prompts[number + 1 :], prompts[:number])
    return next((one for one in later if one != prompts[number]), None)


def _read(path: Path) -> ImageArray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
