"""A part of a data set: the samples of some scenes, as they are stored."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from humansd.build.pipeline import Plan, build_dataset
from humansd.build.union import Mixed, TakeStored, shards_digest
from humansd.data.shards import read_shards


def build_subset(
    shards: str, scenes: Collection[str], out: Path | str, *, per_shard: int = 500, progress: bool = True
) -> dict[str, Any]:
    """Writes the samples of these scenes and returns the manifest; the same call goes on after a kill.

    Raises:
        ValueError: no sample is of one of these scenes. ShardError: `out` holds something else.
    """
    rows = [number for number, sample in enumerate(read_shards(shards)) if sample.scene in scenes]
    names = ", ".join(sorted(scenes))
    if not rows:
        raise ValueError(f"{shards}: no sample is of one of the scenes {names}; name other shards")
    order = np.array([[0, row] for row in rows], np.int64)
    source = Mixed(order, ((Path(shards).name, 1.0, shards_digest(shards)),))
    about = {
        "name": f"The scenes {names}",
        "source": Path(shards).name,
        "license": "of each sample as it says",
        "poses": "as the data set has them",
    }
    plan = Plan((TakeStored((str(shards),)),), per_shard=per_shard, near=None, about=about)
    return build_dataset(source, plan, out, progress=progress)
