"""The model card that a saved pipeline carries, where its maker has not written one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from humansd.core.files import write_text

CARD = "README.md"
_TEXT = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [humansd, diffusers, human-pose, pose-control]
---
# {name}

Images of people in given poses, from a sentence and key points. A pipeline of the package `humansd` (`pip install
humansd`), method `{method}`, images of {width} x {height} px.

```python
from humansd import HumanSDPipeline, read_poses

pipeline = HumanSDPipeline.from_pretrained("{name}")  # this folder, or its id on a hub
people = next(iter(read_poses("pose.json").values()))
pipeline("photo, a woman running in a park", people, seed=0).images[0].save("image.png")
```

or `humansd generate "photo, a woman running in a park" --pose pose.json --model {name}`. Without the package's class,
`DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)` loads it by `humansd_pipeline.py`, which imports
`humansd`.

## How it draws best

| setting | value |
| --- | --- |
| scheduler | {scheduler}, {prediction} |
| num_inference_steps | {steps} |
| guidance_scale | {text:g} |
| pose_guidance_scale | {pose:g} |
| poses are drawn in | {style} |

## To be written by who made it

What it was trained on and under which licences, what it is for and not for, and what was measured: `humansd evaluate`
writes the table.
"""


def write_card(pipeline: Any, folder: Path) -> None:
    """Writes `folder`/README.md unless there is one."""
    if (folder / CARD).exists():
        return
    width, height = pipeline.default_size
    text = _TEXT.format(
        name=folder.resolve().name,
        method=pipeline.config.method,
        width=width,
        height=height,
        scheduler=type(pipeline.scheduler).__name__,
        prediction=pipeline.scheduler.config.get("prediction_type", "epsilon"),
        steps=pipeline.default_steps,
        text=pipeline.guidance.text,
        pose=pipeline.guidance.pose,
        style=f"{pipeline.style.kind} style",
    )
    write_text(folder / CARD, text)
