"""An Atelier data set on disk: as many images as wanted, written as shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from humansd import __version__
from humansd.data.shards import write_shards
from humansd.synthetic.captions import Phrasing
from humansd.synthetic.render import EDITION, make_sample


def write_atelier(
    out: Path,
    count: int,
    *,
    size: int = 128,
    seed: int = 0,
    workers: int = 2,
    per_shard: int = 500,
    progress: bool = True,
    phrasing: Phrasing = "seen",
) -> dict[str, Any]:
    """Writes samples 0 .. count - 1 of Atelier's set `seed` as shards of size x size px images.

    phrasing: of the captions, as of `captions.describe`. The same call goes on after a stop; the bytes do not depend on
    `workers`. Returns the manifest.
    Raises ShardError where `out` holds something else.
    """
    settings = {"generator": "atelier", "edition": EDITION, "humansd": __version__, "seed": seed, "size": size}
    settings |= {} if phrasing == "seen" else {"phrasing": phrasing}
    make = partial(make_sample, seed, size=size, phrasing=phrasing)
    return write_shards(make, count, out, per_shard=per_shard, workers=workers, progress=progress, settings=settings)
