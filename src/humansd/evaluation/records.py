"""What an evaluation knows of each image, and the files it is kept in.

A run's folder holds `settings.json`, the images, and one JSON and one safetensors file for every chunk of images
that is done; a killed run goes on behind the last of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from humansd.core.arrays import Float64s
from humansd.core.files import write_json, write_whole
from humansd.core.names import renamed, renamed_sampling
from humansd.evaluation.colors import TopColor
from humansd.pose.people import People

CHUNK = 64  # images that are detected and described together
PROTOCOL = 3  # of what an evaluation does; another number where the same settings come to mean other numbers
# What is kept of a run for its readers alone: digests tell models, data and estimators apart, wherever they lie.
TOLD = ("humansd", "model.name", "data.name", "clip.name", "count_threshold")


@dataclass(frozen=True, eq=False)
class Record:
    """One image of the data and the one generated for it, both on the canvas of the generated one.

    key: of the sample; its image is named so. scene: of the data. prompt, seed: with which it was drawn.
    wanted: people of the data, whom the model was shown; found: whom the estimator finds in the generated image;
    ceiling: whom it finds in the image of the data, None where there is none. text_score, ceiling_text_score: 100 x
    cosine of image and prompt; NaN where it was not asked for. cut: the way the image of the data was brought to
    the shape of the generated one, of `data.crop.WAYS`; "unknown" in older runs, which put bars beside those of another
    shape. colors: of the tops that the prompt names.
    """

    key: str
    scene: str
    prompt: str
    seed: int
    wanted: People
    found: People
    ceiling: People | None
    text_score: float = float("nan")
    ceiling_text_score: float = float("nan")
    cut: str = "whole"
    colors: tuple[TopColor, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        return {
            "key": self.key,
            "scene": self.scene,
            "prompt": self.prompt,
            "seed": self.seed,
            "cut": self.cut,
            "wanted": self.wanted.to_json(),
            "found": self.found.to_json(),
            "ceiling": None if self.ceiling is None else self.ceiling.to_json(),
            "text_score": _null(self.text_score),
            "ceiling_text_score": _null(self.ceiling_text_score),
            "colors": [asdict(one) for one in self.colors],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """The record that `to_json` wrote."""
        return cls(
            key=values["key"],
            scene=values["scene"],
            prompt=values["prompt"],
            seed=values["seed"],
            wanted=People.from_json(values["wanted"]),
            found=People.from_json(values["found"]),
            ceiling=None if values["ceiling"] is None else People.from_json(values["ceiling"]),
            text_score=_nan(values["text_score"]),
            ceiling_text_score=_nan(values["ceiling_text_score"]),
            cut=values.get("cut", "unknown"),
            colors=tuple(TopColor(**one) for one in values.get("colors", ())),
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A finished or running evaluation.

    folder: where it is. settings: how it was begun (settings.json). records: of the images done so far. features: by
    the extractor's name, (generated, real) features, each (n_records, width); none without real images.
    """

    folder: Path
    settings: dict[str, Any]
    records: list[Record]
    features: dict[str, tuple[Float64s, Float64s]]

    @property
    def name(self) -> str:
        return self.folder.name

    def image(self, key: str) -> Path:
        """The file of a generated image."""
        return image_file(self.folder, key)


class RunError(ValueError):
    """A folder that is not the run that was asked for; the message names it and the remedy."""


def image_file(folder: Path, key: str) -> Path:
    """Where the image of this key lies in the run `folder`."""
    return folder / "images" / f"{key}.png"


def begin_run(folder: Path, settings: dict[str, Any]) -> None:
    """Makes `folder` a run with these settings, or checks that it is one; of what is `TOLD` it need not be.

    Raises:
        RunError: a run of other settings, whose first is named, or of an older version that measured otherwise.
    """
    file = folder / "settings.json"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "chunks").mkdir(exist_ok=True)
    if not file.exists():
        write_json(file, settings)
        return
    was = read_settings(folder)
    if was.get("protocol", 1) != settings.get("protocol", 1):
        raise RunError(f"{of_another_version(folder, was)}; evaluate anew into another --out")
    flat_was, flat_now = _flat(was), _flat(json.loads(json.dumps(settings)))
    keys = sorted({*flat_was, *flat_now} - set(TOLD))
    differing = [key for key in keys if flat_was.get(key) != flat_now.get(key)]
    if differing:
        key = differing[0]
        raise RunError(
            f"{folder}: begun with {key} = {flat_was.get(key)!r}, now {flat_now.get(key)!r}; "
            "give the same settings to go on, or another --out"
        )


def of_another_version(folder: Path, settings: dict[str, Any]) -> str:
    """That the run `folder` of these settings was made by a version that measured otherwise."""
    age = "an older" if settings.get("protocol", 1) <= PROTOCOL else "a newer"
    return f"{folder}: was made by {age} version ({settings.get('humansd', 'unknown')}), which measured otherwise"


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run `folder`; RunError where it is none."""
    file = folder / "settings.json"
    if not file.exists():
        raise RunError(f"{folder}: no settings.json; name a folder that `humansd evaluate --out` wrote")
    try:
        settings = renamed(json.loads(file.read_text()))
    except ValueError as error:
        raise RunError(f"{file}: not JSON ({error}); evaluate again into another --out") from None
    if not isinstance(settings, dict):
        raise RunError(f"{file}: holds a {type(settings).__name__}, not settings; evaluate again into another --out")
    return settings | {"sampling": renamed_sampling(settings.get("sampling"))}


def chunk_done(folder: Path, number: int) -> bool:
    """Whether the records and the features of this chunk are written."""
    return _chunk(folder, number).exists()


def write_chunk(folder: Path, number: int, records: Sequence[Record], features: dict[str, Float64s]) -> None:
    """features: "generated/NAME" and "real/NAME", (len(records), width); the JSON is written last and says done."""
    numbers = {name: np.ascontiguousarray(values, np.float32) for name, values in features.items()}
    data = save(numbers)
    write_whole(_chunk(folder, number).with_suffix(".safetensors"), lambda file: file.write(data))
    write_json(_chunk(folder, number), [record.to_json() for record in records])


def read_run(folder: Path) -> Run:
    """All that is done of a run. RunError for a folder that is none or has nothing done."""
    settings = read_settings(folder)
    records: list[Record] = []
    columns: dict[str, list[NDArray[np.float32]]] = {}
    for file in _chunks(folder):
        try:
            records += [Record.from_json(one) for one in json.loads(file.read_text())]
            for name, values in load_file(file.with_suffix(".safetensors")).items():
                columns.setdefault(name, []).append(values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: damaged ({error}); delete this file and evaluate again") from None
    if not records:
        raise RunError(f"{folder}: no image is done; give the `humansd evaluate` command again")
    names = {name.partition("/")[2] for name in columns}
    joined = {name: np.concatenate(values).astype(np.float64) for name, values in columns.items()}
    features = {name: (joined[f"generated/{name}"], joined[f"real/{name}"]) for name in sorted(names)}
    return Run(folder, settings, records, features)


def _chunk(folder: Path, number: int) -> Path:
    return folder / "chunks" / f"{number:05d}.json"


def _chunks(folder: Path) -> Iterator[Path]:
    yield from sorted((folder / "chunks").glob("[0-9]*.json"))


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
