"""`humansd data inspect`: what a data set holds, as numbers and as one HTML page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from humansd.build.duplicates import NearDuplicates, perceptual_hash
from humansd.build.page import write_page
from humansd.build.writer import SHOWN
from humansd.data.sample import Sample
from humansd.data.shards import MANIFEST, read_manifest, read_shards
from humansd.pose.skeleton import COCO17

SHEET = 48  # samples on the contact sheet
NEAR_BITS = 3


@dataclass
class Statistics:
    """Counts over a data set. joints: joint -> how often it is visible, hidden and absent, of all people."""

    samples: int = 0
    people: Counter[int] = field(default_factory=Counter)
    scenes: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    words: list[int] = field(default_factory=list)
    wordings: int = 0
    person_heights: list[float] = field(default_factory=list)
    joints: np.ndarray = field(default_factory=lambda: np.zeros((len(COCO17), 3), np.int64))
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Sample, near: NearDuplicates) -> None:
        """Counts a sample."""
        self.samples += 1
        people = sample.people.to_skeleton(COCO17)
        self.people[people.n] += 1
        self.scenes[sample.scene or "(none)"] += 1
        self.sources[sample.source or "(none)"] += 1
        self.licenses[sample.license or "(none)"] += 1
        height, width = sample.image.shape[:2]
        self.sizes[_size_class(width, height)] += 1
        self.words.append(len(sample.caption.split()))
        self.wordings += 1 + len(sample.extras.get("captions", []))
        boxes = people.boxes()
        self.person_heights += [float(h) / height for h in boxes[:, 3] - boxes[:, 1] if np.isfinite(h)]
        for value, column in ((2, 0), (1, 1), (0, 2)):
            self.joints[:, column] += (people.visibility == value).sum(axis=0)
        stored = sample.extras.get("phash")
        value = int(stored, 16) if isinstance(stored, str) else perceptual_hash(sample.image)
        other = near.find(value)
        if other is None:
            near.add(value, sample.key)
        else:
            self.duplicates.append((sample.key, other))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for --json."""
        words, heights = np.array(self.words or [0]), np.array(self.person_heights or [0.0])
        return {
            "samples": self.samples,
            "people": {str(n): count for n, count in sorted(self.people.items())},
            "scenes": dict(self.scenes.most_common()),
            "sources": dict(self.sources.most_common()),
            "licenses": dict(self.licenses.most_common()),
            "sizes": dict(self.sizes.most_common()),
            "caption words (10 %, median, 90 %)": [int(v) for v in np.percentile(words, (10, 50, 90))],
            "wordings": self.wordings,
            "person height, share of the image (10 %, median, 90 %)": [
                round(float(v), 3) for v in np.percentile(heights, (10, 50, 90))
            ],
            "joints (visible, hidden, absent)": {name: row.tolist() for name, row in zip(COCO17.joints, self.joints)},
            f"nearly the same image (at most {NEAR_BITS} of 64 bits)": len(self.duplicates),
            "left out": self.left_out,
        }


def inspect_shards(source: Path | str, page: Path | str | None = None, *, sheet: int = SHEET) -> Statistics:
    """Reads a data set once, and writes the HTML page, if asked for: statistics, a contact sheet of samples from all
    over the data set with their skeletons, and what was left out, with images. Errors as of `read_shards`."""
    found, near = Statistics(), NearDuplicates(NEAR_BITS)
    shown: list[Sample] = []
    for sample in _thinned(read_shards(source), shown, sheet if page else 0):
        found.add(sample, near)
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        found.left_out = read_manifest(folder).get("build", {}).get("left_out", {})
    if page:
        write_page(Path(page), str(Path(source).name), found.to_json(), shown, _left_out_images(folder, found.left_out))
    return found


def _thinned(samples: Iterator[Sample], shown: list[Sample], most: int) -> Iterator[Sample]:
    """The samples as they come; `shown` gets about `most` of them, evenly from all, whatever their number is."""
    step = 1
    for place, sample in enumerate(samples):
        yield sample
        if most and place % step == 0:
            shown.append(sample)
            if len(shown) == 2 * most:
                del shown[1::2]
                step *= 2
    if most and len(shown) > most:
        keep = np.linspace(0, len(shown) - 1, most).astype(int)
        shown[:] = [shown[k] for k in keep]


def _left_out_images(folder: Path, reasons: dict[str, int]) -> dict[str, list[bytes]]:
    from humansd.build.writer import slug

    found = {}
    for name in reasons:
        files = sorted((folder / SHOWN).glob(f"{slug(name)}-????????.jpg"))
        found[name] = [file.read_bytes() for file in files]
    return found


def _size_class(width: int, height: int) -> str:
    """Such as "portrait, short side 512 to 767 px"."""
    shape = "square" if width == height else "landscape" if width > height else "portrait"
    edges = (64, 128, 256, 384, 512, 768, 1024, 2048, 4096)
    short = min(width, height)
    below = [edge for edge in edges if edge <= short]
    above = [edge for edge in edges if edge > short]
    return f"{shape}, short side {below[-1] if below else 0} to {above[0] - 1 if above else 'more'} px"


def report(found: Statistics) -> str:
    """The numbers, as lines."""
    lines = []
    for name, value in found.to_json().items():
        if isinstance(value, dict):
            few = list(value.items())[:20]
            lines.append(f"{name}: " + ("; ".join(f"{k} {json.dumps(v)}" for k, v in few) or "-"))
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
