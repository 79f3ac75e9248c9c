"""The latent cache: pictures and drawn skeletons of a pack, encoded once.

`pictures.npy`, `skeletons.npy`: (n, c, h, w) fp16, scaled. `about.json` says for which VAE and drawing style,
and how many rows are done, so that a killed run goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from tqdm import tqdm

from humansd.data.files import write_json
from humansd.data.pack import PicturePack, to_unit
from humansd.models.codec import encode_pictures, vae_factor
from humansd.models.precision import fast_bf16
from humansd.pose.render import DrawStyle, draw_people

CHUNK = 32
SAVE_EVERY = 20  # chunks


@dataclass(frozen=True, eq=False)
class LatentCache:
    """Memory-mapped latents of a pack, row for row."""

    pictures: np.ndarray
    skeletons: np.ndarray


def build_latents(pack: PicturePack, vae: AutoencoderKL, style: DrawStyle, out: Path) -> LatentCache:
    """Encodes what is missing of `pack` into a folder of its own below `out` and opens the cache.

    The folder's name is a digest of what decides the latents: VAE, drawing style, pack, arithmetic. Latents are
    computed in bf16 where that is fast, which changes them by about 0.5 % of their spread.
    """
    about = _about(pack, vae, style)
    out = out / f"latents-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]}"
    path = out / "about.json"
    done = 0
    if path.exists():
        done = json.loads(path.read_text())["done"]
    factor = vae_factor(vae)
    shape = (len(pack), vae.config.latent_channels, pack.size // factor, pack.size // factor)
    out.mkdir(parents=True, exist_ok=True)
    kinds = ("pictures", "skeletons")
    mode: Any = "r+" if done else "w+"
    maps = {
        kind: np.lib.format.open_memmap(out / f"{kind}.npy", mode=mode, dtype=np.float16, shape=None if done else shape)
        for kind in kinds
    }
    vae.eval()
    starts = range(done, len(pack), CHUNK)
    for number, start in enumerate(tqdm(starts, desc="latents", dynamic_ncols=True, disable=not len(starts))):
        rows = slice(start, min(start + CHUNK, len(pack)))
        drawn = np.stack([draw_people(people, style) for people in pack.people[rows]])
        maps["pictures"][rows] = _encode(vae, pack.pictures[rows])
        maps["skeletons"][rows] = _encode(vae, drawn)
        if number % SAVE_EVERY == 0 or rows.stop == len(pack):
            for array in maps.values():
                array.flush()
            write_json(path, about | {"done": rows.stop})
    return LatentCache(*(np.load(out / f"{kind}.npy", mmap_mode="r") for kind in kinds))


@torch.no_grad()
def _encode(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    unit = to_unit(pictures).to(vae.device, memory_format=torch.channels_last)
    with torch.autocast(vae.device.type, torch.bfloat16, enabled=fast_bf16(vae.device)):
        latents = encode_pictures(vae, unit)
    return latents.float().cpu().numpy().astype(np.float16)


def _about(pack: PicturePack, vae: AutoencoderKL, style: DrawStyle) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return {
        "vae": digest.hexdigest(),
        "scaling_factor": vae.config.scaling_factor,
        "style": style.to_dict(),
        "pack": [len(pack), pack.size],
        "arithmetic": "bf16" if fast_bf16(vae.device) else "fp32",
    }
