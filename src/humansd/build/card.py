"""The data card: what a data set is made of, what was left out and why, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humansd.core.files import write_text

CARD = "README.md"

BIASES = """\
- What the source shows too rarely, the data set shows too rarely: skin colors, ages, bodies, wheelchairs, clothes of
  most of the world. Nothing here corrects it.
- An estimator finds large, upright, whole people best. Where poses are detected, small people, crowds, drawings and
  unusual poses are left out more often than others.
- Captions of the web name some people by trade or look and others not at all; a captioner repeats what it learnt from.
- Left and right, and the number of people in a crowd, are the first things to be wrong in any caption.
"""

POLICY = """\
- Faces are not blurred: a pose model has to draw them. No identity is stored, nobody is recognized, and the metadata of
  photographs (place, time, camera) is removed from the stored files.
- The data set is for adults. Samples whose caption speaks of minors are left out where the filter `Minors` is listed
  above; where it is not, the images are the builder's own to answer for. A filter by words finds what words say, no
  more: look at the contact sheet before you train or publish.
- Whoever asks to be taken out is taken out: find the sample by its `origin`, and build again without it.
"""


def write_card(out: Path, manifest: Mapping[str, Any]) -> Path:
    """Writes `out`/README.md from the manifest of a finished data set: equal manifests give equal cards."""
    settings, build = manifest["settings"], manifest["build"]
    about = settings["about"]
    left_out = build["left_out"]
    rows = "\n".join(f"| {name} | {n} |" for name, n in sorted(left_out.items(), key=lambda one: (-one[1], one[0])))
    stages = "\n".join(f"- {_told(stage)}" for stage in [*settings["stages"], *_select(settings)])
    absent = "".join(f"- {text}\n" for text in _absent(settings))
    near = settings["near_duplicates"]
    twice = "of the same pixels" if near is None else f"whose perceptual hashes differ in at most {near} of 64 bits"
    hashed = any(stage["stage"] == "Encode" for stage in settings["stages"])  # without hashes nothing is compared
    first = f"- of images {twice} the first is kept\n" if hashed else ""
    notes = "".join(f"- {note}\n" for note in about.get("notes", ()))
    text = f"""\
# {about.get("name") or "A data set of people"}

{manifest["count"]} samples (image, caption, people) in {len(manifest["shards"])} webdataset shards, built by `humansd`
from {build["seen"]} items that were looked at. `manifest.json` has the sha256 of every shard, `left-out.jsonl` what
was left out.

| | |
|---|---|
| source | {about.get("source") or "not said"} |
| license | {about.get("license") or "not said: find out before you share anything made of it"} |
| poses | {about.get("poses") or "as the source has them"} |
| captions | {about.get("captions") or "as the source has them"} |

{f"{notes}{chr(10)}" if notes else ""}## What every item went through

{stages}
{first}{absent}
## What was left out

{sum(left_out.values())} items.

| stage: reason | items |
|---|---|
{rows or "| nothing | 0 |"}

## Known biases

{BIASES}
## Faces and minors

{POLICY}"""
    write_text(out / CARD, text)
    return out / CARD


def _absent(settings: Mapping[str, Any]) -> list[str]:
    """What no stage looked at, as far as the harm of it is concerned."""
    names = {stage["stage"] for stage in settings["stages"]}
    if "TakeStored" in names:  # of other data sets, each with a card of its own
        return ["what was looked at is said by the cards of the parts"]
    texts = {
        "SafeForWork": "**no filter of images that are not safe for work**: nothing has looked for them",
        "Minors": "**no filter of captions that speak of minors**",
    }
    return [text for name, text in texts.items() if name not in names]


def _select(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [settings["select"]] if "select" in settings else []


def _told(stage: Mapping[str, Any]) -> str:
    values = ", ".join(
        f"{name} {value}" for name, value in stage.items() if name != "stage" and value not in ("", None)
    )
    return f"`{stage['stage']}`{': ' if values else ''}{values}"
